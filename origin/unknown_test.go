package origin

import (
	"net/netip"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"golang.org/x/sys/unix"
)

// What nobody can be named for has its true reason.
func TestUnknown(t *testing.T) {
	w := newWorld(t)
	_, to := w.listen(t, "127.0.0.1:0")
	rows := []struct {
		name, way, proto string
		uid              uint32
		want             string
	}{
		{"it ends at once", "end", "tcp", testUID, Gone},
		{"it sends UDP and ends at once", "end", "udp", testUID, Gone},
		{"it closes its socket at once", "close", "tcp", testUID, Gone},
		{"it resets the connection at once", "reset", "tcp", testUID, Gone},
		{"it hides itself", "hide", "tcp", testUID, Hidden},
		{"it hides itself and sends UDP", "hide", "udp", testUID, Hidden},
		{"it runs as root", "plain", "tcp", 0, OtherUser(0)},
		{"it runs as another user", "plain", "udp", 4711, OtherUser(4711)},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			r, did := w.agent(t, row.uid, 1, row.way, row.proto, to.String())
			if row.way == "end" {
				<-r.ended
			}
			p := w.gateway.ask(t, question{Proto: row.proto, Src: did.Src, Dst: to})
			wantUnknown(t, p, row.want)
			if row.want != Gone && p.UID != int(row.uid) {
				t.Errorf("its uid is told as %d; wanted %d", p.UID, row.uid)
			}
		})
	}
}

// A connection's answer is not that of a later one from the same port.
func TestReusedSourcePort(t *testing.T) {
	w := newWorld(t)
	l, to := w.listen(t, "127.0.0.1:0")
	accept := func() *connection {
		c, err := l.AcceptTCP()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		raw, err := c.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		return &connection{c.RemoteAddr().String(), func() bool { return Connected(raw) }}
	}
	_, first := w.agent(t, testUID, 0, "reset", "tcp", to.String())
	_, second := w.agent(t, testUID, 1, "plain", "tcp", to.String(), first.Src.String())
	if first.Src != second.Src {
		t.Fatalf("they came from %v and %v", first.Src, second.Src)
	}
	early, late := accept(), accept()
	f := New(Sandbox{Holder: w.holder, Netns: w.inode})
	wantUnknown(t, *f.FindAccepted(Accepted{Src: first.Src, Dst: to}, early.open), Gone)
	wantFound(t, *f.FindAccepted(Accepted{Src: second.Src, Dst: to}, late.open), second)
	wantUnknown(t, *f.FindAccepted(Accepted{Src: first.Src, Dst: to}, early.open), Gone) // not by what it remembers either
}

// Nor is it while the first one has its dead socket open, without a fork between.
func TestReusedSourcePortIsNotRemembered(t *testing.T) {
	w := newWorld(t)
	l, to := w.listen(t, "127.0.0.1:0")
	_, first := w.agent(t, testUID, 0, "plain", "tcp", to.String())
	f := New(Sandbox{Holder: w.holder, Netns: w.inode})
	wantFound(t, *f.Find("tcp", first.Src, to), first)
	key := attempt{"tcp", first.Src, to}
	k := f.recent[key]
	remembered := func() *audit.Process {
		k.at, k.lastPID = time.Now(), lastPID("/proc")
		f.recent[key] = k
		return cached(f, &request{proto: "tcp", src: first.Src, dst: to})
	}
	until(t, "an answer that is remembered", func() bool { return remembered() != nil }) // others fork too
	c, err := l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	c.SetLinger(0)
	c.Close()
	_, second := w.agent(t, testUID, 1, "plain", "tcp", to.String(), first.Src.String())
	for range 20 {
		if p := remembered(); p != nil {
			t.Errorf("it says %+v; wanted another look", p)
		}
	}
	delete(f.recent, key)
	wantFound(t, *f.Find("tcp", first.Src, to), second)
}

// The same connection asks again: its socket is not looked for in the tables, but who
// has it is; and once it is closed nobody is named. Another connection with its
// addresses is looked for.
func TestKeptConnection(t *testing.T) {
	w := newWorld(t)
	l, to := w.listen(t, "127.0.0.1:0")
	_, did := w.agent(t, testUID, 0, "plain", "tcp", to.String())
	c, err := l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	f := New(Sandbox{Holder: w.holder, Netns: w.inode})
	wantFound(t, *f.FindAccepted(Accepted{Src: did.Src, Dst: to, Conn: 7}, func() bool { return true }), did)
	c.SetLinger(0)
	c.Close() // the tables have no line of it any more
	key := attempt{"tcp", did.Src, to}
	k := f.recent[key]
	if k.conn != 7 {
		t.Fatalf("it remembers connection %d", k.conn)
	}
	again := func(conn uint64, k known) *audit.Process {
		k.at, k.lastPID = time.Now(), lastPID("/proc")
		f.recent[key] = k
		return cached(f, &request{proto: "tcp", src: did.Src, dst: to, accepted: true, conn: conn})
	}
	until(t, "an answer without the tables", func() bool { return again(7, k) != nil }) // others fork too
	other := k
	other.fd = "0"
	for range 20 {
		if p := again(7, other); p != nil {
			t.Errorf("of a process that does not have it: %+v", p)
		}
		if p := again(8, k); p != nil {
			t.Errorf("of another connection: %+v", p)
		}
		if p := again(0, k); p != nil {
			t.Errorf("of one without a number: %+v", p)
		}
	}
	wantUnknown(t, *f.FindAccepted(Accepted{Src: did.Src, Dst: to, Conn: 7}, func() bool { return false }), Gone)
}

type connection struct {
	from string
	open func() bool
}

// A socket of several processes is nobody's; the parents are those they share.
func TestSharedSocket(t *testing.T) {
	w := newWorld(t)
	_, to := w.listen(t, "127.0.0.1:0")
	_, base := exeName(t)
	for _, proto := range []string{"tcp", "udp"} {
		_, did := w.agent(t, testUID, 1, "fork", proto, to.String())
		p := w.gateway.ask(t, question{Proto: proto, Src: did.Src, Dst: to})
		wantUnknown(t, p, Shared(2))
		want := []audit.Parent{{PID: did.PID, Name: base}, {PID: did.Parents[0], Name: base}}
		if len(p.Parents) != 2 || p.Parents[0] != want[0] || p.Parents[1] != want[1] {
			t.Errorf("%s: its parents are %v; wanted %v", proto, p.Parents, want)
		}
	}
}

// Sockets of several processes that fit, as with SO_REUSEPORT, are nobody's.
func TestSeveralSocketsFit(t *testing.T) {
	w := newWorld(t)
	to := netip.MustParseAddrPort("127.0.0.1:9")
	first, did := w.agent(t, testUID, 1, "plain", "reuse", to.String())
	second, again := w.agent(t, testUID, 1, "plain", "reuse", to.String(), "0.0.0.0:"+strconv.Itoa(int(did.Src.Port())))
	q := question{Proto: "udp", Src: did.Src, Dst: to}
	wantUnknown(t, w.gateway.ask(t, q), Several)
	first.end()
	wantFound(t, w.gateway.ask(t, q), again)
	w.agent(t, testUID, 1, "plain", "reuse", to.String(), did.Src.String())
	wantUnknown(t, w.gateway.ask(t, q), Several) // at once, whatever it remembers
	second.end()
	// One that cannot be read may be the sender as well.
	_, did = w.agent(t, testUID, 1, "plain", "reuse", to.String())
	q.Src = did.Src
	wantFound(t, w.gateway.ask(t, q), did)
	w.agent(t, testUID, 1, "hide", "reuse", to.String(), did.Src.String())
	wantUnknown(t, w.gateway.ask(t, q), Several)
}

func TestRawSocket(t *testing.T) {
	w := newWorld(t)
	_, to := w.listen(t, "127.0.0.1:0")
	_, did := w.agent(t, testUID, 1, "plain", "tcp", to.String())
	q := question{Proto: "tcp", Src: did.Src, Dst: to}
	wantFound(t, w.gateway.ask(t, q), did)
	for _, family := range []int{unix.AF_INET, unix.AF_INET6, unix.AF_PACKET} {
		var fd int
		w.in(t, func() (err error) {
			fd, err = unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_UDP)
			return err
		})
		wantUnknown(t, w.look(t, "/proc").ask(t, q), Crafted)
		unix.Close(fd)
	}
}

func TestNoHolder(t *testing.T) {
	a, b := netip.MustParseAddrPort("127.0.0.1:1"), netip.MustParseAddrPort("127.0.0.1:2")
	wantUnknown(t, *New(Sandbox{}).Find("tcp", a, b), NoHolder)
	wantUnknown(t, *New(Sandbox{Holder: os.Getpid()}).Find("tcp", a, b), NoHolder)
	w := newWorld(t)
	wantUnknown(t, w.gateway.ask(t, question{Proto: "icmp", Src: a, Dst: b}), NoSocket)
	wantUnknown(t, w.gateway.ask(t, question{Proto: "udp"}), NoSocket)
	wantUnknown(t, w.gateway.ask(t, question{Proto: "tcp", Src: a, Dst: b}), Gone)
	if err := syscall.Kill(w.holder, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	until(t, "the holder's end", func() bool { return syscall.Kill(w.holder, 0) == syscall.ESRCH })
	wantUnknown(t, w.gateway.ask(t, question{Proto: "tcp", Src: a, Dst: b}), HolderGone)
	wantUnknown(t, *New(Sandbox{Holder: w.holder, Netns: w.inode}).Find("tcp", a, b), HolderGone)
}

// What is remembered is used while it holds, and no longer.
func TestRemembered(t *testing.T) {
	w := newWorld(t)
	to := netip.MustParseAddrPort("127.0.0.1:9")
	_, did := w.agent(t, testUID, 1, "plain", "reuse", to.String())
	f := New(Sandbox{Holder: w.holder, Netns: w.inode})
	r := &request{proto: "udp", src: did.Src, dst: to}
	key := attempt{"udp", did.Src, to}
	wantFound(t, *f.Find("udp", did.Src, to), did)
	k := f.recent[key]
	set := func(change func(k *known)) {
		changed := k
		changed.at, changed.lastPID = time.Now(), lastPID("/proc")
		change(&changed)
		f.recent[key] = changed
	}
	// The machine's other processes fork too: until none does in between.
	until(t, "an answer that is remembered", func() bool {
		set(func(*known) {})
		return cached(f, r) != nil
	})
	for name, change := range map[string]func(*known){
		"late":                func(k *known) { k.at = k.at.Add(-2 * recentFor) },
		"after a fork":        func(k *known) { k.lastPID = -1 }, /* not + 1: the machine's other processes fork, too */
		"another program":     func(k *known) { k.exe += "x" },
		"another command":     func(k *known) { k.command += "x" },
		"another descriptor":  func(k *known) { k.fd = "0" },
		"another socket":      func(k *known) { k.inode++ },
		"a process that ends": func(k *known) { k.pid = w.holder },
	} {
		for range 20 {
			set(change)
			if p := cached(f, r); p != nil {
				t.Errorf("%s: it says %+v", name, p)
			}
		}
	}
	w.in(t, func() error {
		fd, _, err := attemptTo("reuse", did.Src, to)
		if err == nil {
			t.Cleanup(func() { unix.Close(fd) })
		}
		return err
	})
	for range 20 {
		set(func(*known) {})
		if p := cached(f, r); p != nil {
			t.Errorf("with a second socket: it says %+v", p)
		}
	}
}

// A process is looked at again before it is named.
func TestDescribeLooksAgain(t *testing.T) {
	w := newWorld(t)
	_, to := w.listen(t, "127.0.0.1:0")
	_, did := w.agent(t, testUID, 1, "plain", "tcp", to.String())
	f := New(Sandbox{Holder: w.holder, Netns: w.inode})
	wantFound(t, *f.Find("tcp", did.Src, to), did)
	h := f.recent[attempt{"tcp", did.Src, to}].holder
	l := &look{Finder: f, inside: map[int]bool{}}
	for _, when := range []string{"at first", "once more"} {
		if p := l.describe(&request{}, h); p == nil {
			t.Error(when + ": it is not named any more")
		} else {
			wantFound(t, *p, did)
		}
	}
	for name, change := range map[string]func(*holder){
		"another socket":     func(h *holder) { h.inode++ },
		"another descriptor": func(h *holder) { h.fd = "0" },
		"none":               func(h *holder) { h.fd = "9999" },
		"another process":    func(h *holder) { h.pid = w.holder },
		"no process":         func(h *holder) { h.pid = 1 << 30 },
	} {
		changed := h
		change(&changed)
		if p := l.describe(&request{}, changed); p != nil {
			t.Errorf("%s: it says %+v", name, p)
		}
	}
	who := thread{h.pid, h.base}
	was := l.described[who]
	for name, other := range map[string]described{
		"another program meanwhile":      {was.exe + "2", was.command, was.process},
		"another command line meanwhile": {was.exe, was.command + "2", was.process},
	} {
		l.described[who] = other
		if p := l.describe(&request{}, h); p != nil {
			t.Errorf("%s: it says %+v", name, p)
		}
	}
	l.described[who] = was
	f.hiding = map[int]bool{1: true}
	if p := l.describe(&request{}, h); p != nil {
		t.Errorf("with a process that hides: it says %+v", p)
	}
}

// A /proc that hides processes of others hides the holder.
func TestHidePID(t *testing.T) {
	w := newWorld(t)
	_, to := w.listen(t, "127.0.0.1:0")
	_, did := w.agent(t, testUID, 1, "plain", "tcp", to.String())
	for _, hide := range []string{"noaccess", "invisible", "ptraceable"} {
		dir := t.TempDir()
		if err := unix.Mount("proc", dir, "proc", 0, "hidepid="+hide); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
		openTo(t, dir)
		wantUnknown(t, w.look(t, dir).ask(t, question{Proto: "tcp", Src: did.Src, Dst: to}), HidePID)
	}
}

// cached is the answer that is used again; nil: it is not.
func cached(f *Finder, r *request) *audit.Process {
	once := *r
	f.again([]*request{&once})
	return once.process
}
