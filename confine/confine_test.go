package confine

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	ok     = unix.Errno(0)
	denied = unix.EACCES
)

// What is named stays usable, and nothing else, in every thread; capabilities and
// the means to gain new ones are gone.
func TestConfined(t *testing.T) {
	k := here(t)
	own, read, other := folder(t), folder(t), folder(t)
	secret := file(t, other, "secret")
	name := "@sallyport-test-" + strconv.Itoa(os.Getpid())
	abstract, err := net.Listen("unix", name)
	if err != nil {
		t.Fatal(err)
	}
	defer abstract.Close()
	free, taken := freePort(t), listening(t)
	us := strconv.Itoa(os.Getpid())
	p := plan{Kernel: k, Rules: Rules{Read: []string{read, "/nowhere"}, Write: []string{own}, Bind: []uint16{free}, Connect: false}, Tries: []try{
		{"read", file(t, own, "a"), ok},
		{"write", own + "/b", ok},
		{"rename", own + "/c", ok},
		{"remove", own + "/c", ok},
		{"mkdir", own + "/d", ok},
		{"list", own + "/d", ok},
		{"socket", own + "/s", ok},
		{"read", file(t, read, "a"), ok},
		{"list", read, ok},
		{"write", read + "/a", denied},
		{"remove", read + "/a", denied},
		{"mkdir", read + "/d", denied},
		{"read", secret, denied},
		{"write", secret, denied},
		{"list", other, denied},
		{"write", other + "/new", denied},
		{"socket", other + "/s", denied},
		{"list", "/", denied},
		{"read", "/etc/passwd", denied},
		{"run", "/bin/true", denied},
		{"run", "/bin/sh", denied},
		{"listen", strconv.Itoa(int(free)), ok},
		{"listen", strconv.Itoa(int(freePort(t))), from(k, 4, denied, ok)},
		{"connect", strconv.Itoa(int(taken)), from(k, 4, denied, ok)},
		{"abstract", name, from(k, 6, unix.EPERM, ok)},
		{"look", us, denied},
	}}
	o := carryOut(t, p)
	want(t, p, o)
	if o.Held != (Privileges{NoNewPrivileges: true, Bounding: o.Held.Bounding}) {
		t.Errorf("it holds %+v", o.Held)
	}
	if o.Count < 5 {
		t.Errorf("only %d threads were looked at", o.Count)
	}
	if o.Force != "" {
		t.Error(o.Force)
	}
}

// Connections to every port may be left, and then only listening is denied.
func TestConnect(t *testing.T) {
	k := here(t)
	p := plan{Kernel: k, Rules: Rules{Connect: true}, Tries: []try{
		{"connect", strconv.Itoa(int(listening(t))), ok},
		{"listen", strconv.Itoa(int(freePort(t))), from(k, 4, denied, ok)},
		{"listen", "0", from(k, 4, denied, ok)},
	}}
	want(t, p, carryOut(t, p))
}

// A signal to a process outside of the same user is denied from version 6 on.
func TestSignal(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("takes root")
	}
	k := here(t)
	other := start(t)
	p := plan{Kernel: k, Tries: []try{{"signal", strconv.Itoa(other), from(k, 6, unix.EPERM, ok)}, {"look", strconv.Itoa(other), denied}}}
	want(t, p, carryOut(t, p))
	p.Kernel.ABI = 0 // the same without Landlock: it is that which denies
	p.Tries[0].Want, p.Tries[1].Want = ok, ok
	want(t, p, carryOut(t, p))
}

// Without Landlock the rest is done, and everything stays usable.
func TestKernelWithoutLandlock(t *testing.T) {
	other := folder(t)
	p := plan{Kernel: Kernel{Why: "simulated"}, Tries: []try{{"read", file(t, other, "a"), ok}, {"list", "/", ok}, {"run", "/bin/true", ok}}}
	o := carryOut(t, p)
	want(t, p, o)
	if !o.Held.NoNewPrivileges || o.Held.Capabilities != 0 {
		t.Errorf("it holds %+v", o.Held)
	}
}

// Every version up to the kernel's is put in force.
func TestEveryVersion(t *testing.T) {
	k := here(t)
	own, other := folder(t), folder(t)
	for abi := 1; abi <= k.ABI; abi++ {
		p := plan{Kernel: Kernel{ABI: abi}, Rules: Rules{Write: []string{own, os.DevNull}}, Tries: []try{
			{"write", own + "/a", ok}, {"rename", own + "/b", ok}, {"write", os.DevNull, ok}, {"write", other + "/a", denied}, {"run", "/bin/true", denied},
		}}
		want(t, p, carryOut(t, p))
	}
}

// What is kept is all that is left.
func TestCapabilityIsKept(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("takes root")
	}
	for _, keep := range []uint64{0, 1 << unix.CAP_NET_ADMIN, 1<<unix.CAP_NET_ADMIN | 1<<unix.CAP_SYS_ADMIN} {
		o := carryOut(t, plan{Kernel: here(t), Keep: keep})
		if want := keep & (1 << unix.CAP_NET_ADMIN); o.Held.Capabilities != want || !o.Held.NoNewPrivileges {
			t.Errorf("of %x it holds %+v", keep, o.Held)
		}
	}
}

func TestErrorsStop(t *testing.T) {
	k := here(t)
	for name, p := range map[string]plan{
		"no such file or directory": {Kernel: k, Rules: Rules{Write: []string{"/nowhere/at/all"}}},
		"that is no confinement":    {Kernel: k, Rules: Rules{Write: []string{"/"}}},
		`to "/": that`:              {Kernel: k, Rules: Rules{Read: []string{"/"}}},
		`to "": that`:               {Kernel: k, Rules: Rules{Read: []string{""}}},
		"leave /dev/nothing usable": {Kernel: k, Rules: Rules{Run: []string{"/dev/nothing"}}},
	} {
		if o := carryOut(t, p); !strings.Contains(o.Error, name) {
			t.Errorf("%s: %q", name, o.Error)
		}
	}
}

func TestInForceNoticesThatItIsNot(t *testing.T) {
	if err := here(t).InForce(); err == nil || !strings.Contains(err.Error(), "not in force") {
		t.Errorf("unconfined: %v", err)
	}
	if err := (Kernel{}).InForce(); err != nil {
		t.Errorf("without Landlock: %v", err)
	}
}

func want(t *testing.T, p plan, o outcome) {
	t.Helper()
	if o.Error != "" || len(o.Tried) != len(p.Tries) {
		t.Fatalf("%d of %d were tried: %s", len(o.Tried), len(p.Tries), o.Error)
	}
	for i, try := range p.Tries {
		if o.Tried[i] != try.Want {
			t.Errorf("version %d: %s: %v, want %v", p.Kernel.ABI, try, o.Tried[i], try.Want)
		}
	}
}

// from is since where the kernel's version is at least v, else before.
func from[T any](k Kernel, v int, since, before T) T {
	if k.ABI >= v {
		return since
	}
	return before
}

func listening(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

func freePort(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

// A path that a rule names by a link is the one that the link leads to.
func TestLink(t *testing.T) {
	own, at := folder(t), folder(t)
	link := filepath.Join(at, "link")
	if err := os.Symlink(own, link); err != nil {
		t.Fatal(err)
	}
	p := plan{Kernel: here(t), Rules: Rules{Write: []string{link}}, Tries: []try{{"write", own + "/a", ok}, {"write", link + "/b", ok}, {"write", at + "/c", denied}}}
	want(t, p, carryOut(t, p))
}
