package main

import (
	"bytes"
	"encoding/gob"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/origin"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// lookFor starts a lookout for a configuration, in this process.
func lookFor(t *testing.T, config string) *lookout {
	t.Helper()
	ours, theirs := net.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- lookOut(theirs, config) }()
	l := newLookout(ours, 0, quiet)
	t.Cleanup(func() {
		l.Close()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return l
}

// The configuration is read where its path leads to now, whatever became of the
// file that it led to.
func TestLookoutReadsTheConfiguration(t *testing.T) {
	defer goleak.VerifyNone(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "c.yaml")
	t.Run("", func(t *testing.T) {
		l := lookFor(t, file)
		read := func() (string, error) {
			r, err := l.openConfig(file)
			if err != nil {
				return "", err
			}
			defer r.Close()
			text, err := io.ReadAll(r)
			return string(text), err
		}
		if text, err := read(); !errors.Is(err, fs.ErrNotExist) || err.Error() != "open "+file+": no such file or directory" {
			t.Errorf("no file: %q, %v", text, err)
		}
		for _, step := range []struct {
			name, want string
			do         func() error
		}{
			{"a file", "one", func() error { return os.WriteFile(file, []byte("one"), 0o600) }},
			{"replaced", "two", func() error {
				return errors.Join(os.WriteFile(file+".new", []byte("two"), 0o600), os.Rename(file+".new", file))
			}},
			{"a link", "three", func() error {
				return errors.Join(os.Remove(file), os.WriteFile(dir+"/3", []byte("three"), 0o600), os.Symlink(dir+"/3", file))
			}},
			{"another link", "four", func() error {
				return errors.Join(os.Remove(file), os.WriteFile(dir+"/4", []byte("four"), 0o600), os.Symlink(dir+"/4", file))
			}},
			{"its folder is another one", "five", func() error {
				return errors.Join(os.Rename(dir, dir+".old"), os.Mkdir(dir, 0o700), os.WriteFile(file, []byte("five"), 0o600))
			}},
		} {
			if err := step.do(); err != nil {
				t.Fatal(err)
			}
			if text, err := read(); text != step.want || err != nil {
				t.Errorf("%s: %q, %v", step.name, text, err)
			}
		}
		if err := errors.Join(os.Remove(file), os.Mkdir(file, 0o700)); err != nil {
			t.Fatal(err)
		}
		if _, err := read(); err == nil {
			t.Error("a folder was read")
		}
	})
}

// What is answered is what a Finder here would have said, to the byte.
func TestLookoutFinds(t *testing.T) {
	src, dst := netip.MustParseAddrPort("10.213.0.0:1000"), netip.MustParseAddrPort("203.0.113.1:443")
	l := lookFor(t, "")
	for _, s := range []origin.Sandbox{{}, {Holder: os.Getpid(), Netns: 1}, {Holder: 1 << 30, Netns: 1}} {
		here, far := origin.New(s), l.open("0123456789ab", s, nil)
		for _, proto := range []string{"tcp", "udp", "icmp"} {
			if want, got := here.Find(proto, src, dst), far.Find(proto, src, dst); !reflect.DeepEqual(want, got) {
				t.Errorf("%+v, %s: %+v, want %+v", s, proto, got, want)
			}
		}
		open := func() bool { return true }
		if want, got := here.FindAccepted(origin.Accepted{Src: src, Dst: dst, Conn: 1}, open), far.FindAccepted(1, src, dst, open); !reflect.DeepEqual(want, got) {
			t.Errorf("%+v, accepted: %+v, want %+v", s, got, want)
		}
	}
}

// hostile is a process whose own words are any bytes.
var hostile = &audit.Process{PID: 7, UID: 1000, Exe: "/\xff\x00\"", Command: "a\xfe\x1b[2J", Parents: []audit.Parent{{PID: 1, Name: "\xc3"}}}

// answering is a lookout that says p to every question about a process.
func answering(t *testing.T, p *audit.Process) *lookout {
	ours, theirs := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		in, out := gob.NewDecoder(theirs), gob.NewEncoder(theirs)
		for {
			var q question
			if in.Decode(&q) != nil {
				return
			}
			if q.Find != nil && out.Encode(answer{ID: q.ID, Process: p}) != nil {
				return
			}
		}
	}()
	l := newLookout(ours, 0, quiet)
	t.Cleanup(func() { l.Close(); theirs.Close(); <-done })
	return l
}

// A connection that was closed meanwhile may have been another process's.
func TestLookoutsAnswer(t *testing.T) {
	f := answering(t, hostile).of("0123456789ab", origin.Sandbox{})
	at := netip.MustParseAddrPort("10.213.0.0:1000")
	if p := f.FindAccepted(1, at, at, func() bool { return true }); !reflect.DeepEqual(p, hostile) {
		t.Errorf("%+v", p)
	}
	if p := f.FindAccepted(1, at, at, func() bool { return false }); !reflect.DeepEqual(p, &audit.Process{Unknown: origin.Gone}) {
		t.Errorf("closed: %+v", p)
	}
	f = answering(t, nil).of("0123456789ab", origin.Sandbox{})
	if p := f.Find("tcp", at, at); p == nil || p.Unknown == "" {
		t.Errorf("no answer: %+v", p)
	}
}

// The lookout is told which socket a TCP connection has at its other end, if there is
// one to ask; of what else is looked for, nothing.
func TestLookoutIsTold(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var st syscall.Stat_t
	raw.Control(func(fd uintptr) { err = syscall.Fstat(int(fd), &st) })
	fd, errSocket := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil || errSocket != nil {
		t.Fatal(err, errSocket)
	}
	diag := os.NewFile(uintptr(fd), "diag")
	defer diag.Close()
	ours, theirs := net.Pipe()
	asked, done := make(chan attemptToLook, 1), make(chan struct{})
	go func() {
		defer close(done)
		in, out := gob.NewDecoder(theirs), gob.NewEncoder(theirs)
		for {
			var q question
			if in.Decode(&q) != nil {
				return
			}
			if q.Find != nil {
				asked <- *q.Find
				out.Encode(answer{ID: q.ID, Process: hostile})
			}
		}
	}()
	far := newLookout(ours, 0, quiet)
	defer func() { far.Close(); theirs.Close(); <-done }()
	src, dst := addrPort(c.LocalAddr()), addrPort(l.Addr())
	open := func() bool { return true }
	with, without := far.open("0123456789ab", origin.Sandbox{}, origin.NewSockets(diag)), far.open("0123456789ab", origin.Sandbox{}, nil)
	for _, step := range []struct {
		name string
		ask  func() *audit.Process
		want uint64
	}{
		{"accepted", func() *audit.Process { return with.FindAccepted(1, src, dst, open) }, st.Ino},
		{"without a socket to ask", func() *audit.Process { return without.FindAccepted(1, src, dst, open) }, 0},
		{"a packet of TCP", func() *audit.Process { return with.Find("tcp", src, dst) }, 0},
		{"a datagram", func() *audit.Process { return with.Find("udp", src, dst) }, 0},
	} {
		if p := step.ask(); !reflect.DeepEqual(p, hostile) {
			t.Errorf("%s: %+v", step.name, p)
		}
		if q := <-asked; q.Inode != step.want || q.Src != src || q.Dst != dst {
			t.Errorf("%s: it is asked %+v; wanted inode %d", step.name, q, step.want)
		}
	}
}

// One that is busy is not asked at once again, and what it would say is said; then it is.
func TestBusyLookoutIsSpared(t *testing.T) {
	at := netip.MustParseAddrPort("10.213.0.0:1000")
	synctest.Test(t, func(t *testing.T) {
		says := &audit.Process{Unknown: origin.Busy}
		f := answering(t, says).of("0123456789ab", origin.Sandbox{})
		if p := f.Find("tcp", at, at); p.Unknown != origin.Busy {
			t.Errorf("%+v", p)
		}
		*says = *hostile // nobody asks now
		if p := f.Find("tcp", at, at); p.Unknown != origin.Busy {
			t.Errorf("it was asked: %+v", p)
		}
		<-time.After(lookoutBusy)
		if p := f.FindAccepted(1, at, at, func() bool { return true }); !reflect.DeepEqual(p, hostile) {
			t.Errorf("it was not asked again: %+v", p)
		}
	})
}

// A lookout that does not answer, or has ended, costs an attempt its process, and
// nothing more.
func TestLookoutFails(t *testing.T) {
	at := netip.MustParseAddrPort("10.213.0.0:1000")
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe() // nobody reads
		l := newLookout(ours, 0, quiet)
		f := l.of("0123456789ab", origin.Sandbox{})
		if p := f.Find("tcp", at, at); p.Unknown != origin.Slow {
			t.Errorf("silent: %+v", p)
		}
		answers := make(chan *audit.Process, lookoutWaiting+1)
		for range lookoutWaiting + 1 {
			go func() { answers <- f.Find("tcp", at, at) }()
		}
		counts := map[string]int{}
		for range lookoutWaiting + 1 {
			counts[(<-answers).Unknown]++
		}
		if counts[origin.Busy] < 1 || counts[origin.Slow]+counts[origin.Busy] != lookoutWaiting+1 {
			t.Errorf("beyond the bound: %v", counts)
		}
		theirs.Close()
		synctest.Wait()
		if p := f.Find("tcp", at, at); p.Unknown != lookoutGone && p.Unknown != origin.Busy {
			t.Errorf("ended: %+v", p)
		}
		if _, err := l.openConfig("x"); err == nil {
			t.Error("a configuration was read")
		}
		l.Close()
	})
}

// What is no question ends the lookout, and says so.
func TestLookoutHearsNonsense(t *testing.T) {
	ours, theirs := net.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- lookOut(theirs, "") }()
	if _, err := io.Copy(ours, bytes.NewReader(bytes.Repeat([]byte{0x7f}, 4096))); err == nil {
		t.Log("all of it was taken")
	}
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "hear the gateway") {
		t.Error(err)
	}
	ours.Close()
}

func TestDescriptorThatIsNoSocket(t *testing.T) {
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, fd := range []int{int(f.Fd()), -1, 1 << 20} {
		if l, err := takeOverLookout(fd, 0, quiet); err == nil || l != nil {
			t.Errorf("descriptor %d was taken", fd)
		}
	}
}
