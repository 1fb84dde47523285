package origin

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// sockets asks about the sandbox's namespace.
func (w *world) sockets(t testing.TB) (*Sockets, *os.File) {
	t.Helper()
	var f *os.File
	w.in(t, func() error {
		fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
		f = os.NewFile(uintptr(fd), "diag")
		return err
	})
	t.Cleanup(func() { f.Close() })
	return NewSockets(f), f
}

// attempt makes a connection from the sandbox that the test has.
func (w *world) attempt(t testing.TB, from string, to netip.AddrPort) (f *os.File, src netip.AddrPort) {
	t.Helper()
	w.in(t, func() (err error) {
		var fd int
		fd, src, err = attemptTo("tcp", netip.MustParseAddrPort(from), to)
		f = os.NewFile(uintptr(fd), "attempt")
		return err
	})
	t.Cleanup(func() { f.Close() })
	return f, src
}

func inodeOf(t testing.TB, f *os.File) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

func TestSockets(t *testing.T) {
	w, other := newWorld(t), newWorld(t)
	_, four := w.listen(t, "127.0.0.1:0")
	_, six := w.listen(t, "[::1]:0")
	s, _ := w.sockets(t)
	elsewhere, _ := other.sockets(t)
	for _, c := range []struct {
		name, from string
		to         netip.AddrPort
	}{
		{"IPv4", "127.0.0.1:0", four},
		{"IPv6", "[::1]:0", six},
		{"IPv4 from a socket of IPv6", "[::]:0", four},
	} {
		f, src := w.attempt(t, c.from, c.to)
		mapped := netip.AddrPortFrom(netip.AddrFrom16(src.Addr().As16()), src.Port())
		if want := inodeOf(t, f); s.Inode(src, c.to) != want || s.Inode(mapped, c.to) != want {
			t.Errorf("%s: it is %d and %d, not %d", c.name, s.Inode(src, c.to), s.Inode(mapped, c.to), want)
		}
		if n := elsewhere.Inode(src, c.to); n != 0 {
			t.Errorf("%s: another namespace has %d", c.name, n)
		}
		port := func(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr(), a.Port()^1) }
		for _, no := range [][2]netip.AddrPort{
			{port(src), c.to}, {src, port(c.to)},
			{c.to, port(src)}, // the listener alone has that port
			{c.to, netip.AddrPortFrom(unspecified(c.to.Addr()), 0)},
			{src, netip.AddrPort{}}, {netip.AddrPort{}, c.to}, {},
			{src, netip.MustParseAddrPort("[2001:db8::1]:1")},
		} {
			if n := s.Inode(no[0], no[1]); n != 0 {
				t.Errorf("%s: of %v it is %d", c.name, no, n)
			}
		}
		if err := unix.SetsockoptLinger(int(f.Fd()), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}); err != nil {
			t.Fatal(err)
		}
		f.Close()
		if n := s.Inode(src, c.to); n != 0 {
			t.Errorf("%s: closed, it is %d", c.name, n)
		}
	}
}

func unspecified(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// A socket that was closed and waits for the other end has no process.
func TestSocketThatIsClosing(t *testing.T) {
	w := newWorld(t)
	_, to := w.listen(t, "127.0.0.1:0")
	s, _ := w.sockets(t)
	f, src := w.attempt(t, "127.0.0.1:0", to)
	f.Close()
	if n := s.Inode(src, to); n != 0 {
		t.Errorf("it is %d", n)
	}
}

// One that only asks for a connection, from the port of one that we accepted, is not
// its other end.
func TestSocketThatConnects(t *testing.T) {
	w := newWorld(t)
	s, _ := w.sockets(t)
	var to netip.AddrPort
	w.in(t, func() error {
		l, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		t.Cleanup(func() { unix.Close(l) })
		if err := errors.Join(unix.Bind(l, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(l, 0)); err != nil {
			return err
		}
		name, err := unix.Getsockname(l)
		to = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(name.(*unix.SockaddrInet4).Port))
		return err
	})
	w.attempt(t, "127.0.0.1:0", to) // its queue is full
	var fd int
	w.in(t, func() (err error) {
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		return err
	})
	defer unix.Close(fd)
	if err := unix.Connect(fd, address(to)); !errors.Is(err, unix.EINPROGRESS) {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	src := netip.AddrPortFrom(to.Addr(), uint16(name.(*unix.SockaddrInet4).Port))
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil || info.State != tcpSynSent {
		t.Fatalf("state %d, %v", info.State, err)
	}
	if n := s.Inode(src, to); n != 0 {
		t.Errorf("it is %d", n)
	}
}

// Of a socket that is bound to an interface the kernel says nothing, and two with
// the same addresses can be there if one is: the tables are for those.
func TestSocketOfAnInterface(t *testing.T) {
	w := newWorld(t)
	_, to := w.listen(t, "127.0.0.1:0")
	s, _ := w.sockets(t)
	f, src := w.attempt(t, "127.0.0.1:0", to)
	if err := unix.BindToDevice(int(f.Fd()), "lo"); err != nil {
		t.Fatal(err)
	}
	if n := s.Inode(src, to); n != 0 {
		t.Errorf("it is %d", n)
	}
}

// What lies in the socket, or comes from somebody else, is not the answer.
func TestStaleAnswers(t *testing.T) {
	w := newWorld(t)
	_, to := w.listen(t, "127.0.0.1:0")
	mine, src := w.attempt(t, "127.0.0.1:0", to)
	_, another := w.attempt(t, "127.0.0.1:0", to)
	want := inodeOf(t, mine)
	s, f := w.sockets(t)
	kernel := &unix.SockaddrNetlink{Family: unix.AF_NETLINK}
	stale := func(n int) {
		t.Helper()
		for range n {
			if err := unix.Sendto(int(f.Fd()), diagRequest(s.last-1, another, to), unix.MSG_DONTWAIT, kernel); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 3 {
		stale(maxStale - 1)
		if n := s.Inode(src, to); n != want {
			t.Errorf("after stale answers it is %d, not %d", n, want)
		}
	}
	stale(2 * maxStale)
	for i := range 3 {
		if n := s.Inode(src, to); n != 0 && n != want || i == 2 && n != want {
			t.Errorf("after many stale answers it is %d, not %d", n, want)
		}
	}
	// Root can send what looks like an answer.
	name, err := unix.Getsockname(int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	_, forger := w.sockets(t)
	to1 := &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: name.(*unix.SockaddrNetlink).Pid}
	if err := unix.Sendto(int(forger.Fd()), diagAnswer(s.last+1, 1, src, to, 4711), unix.MSG_DONTWAIT, to1); err != nil {
		t.Fatal(err)
	}
	if n := s.Inode(src, to); n != want {
		t.Errorf("after a forged answer it is %d, not %d", n, want)
	}
}

// Who may not administer the namespace can destroy no socket by what the holder, who
// may, has made.
func TestSocketsDestroyNothing(t *testing.T) {
	const sockDestroy = 21 // SOCK_DESTROY, linux/sock_diag.h
	w := newWorld(t)
	_, to := w.listen(t, "127.0.0.1:0")
	f, src := w.attempt(t, "127.0.0.1:0", to)
	s, diag := w.sockets(t)
	destroy := func(seq uint32) error {
		q := diagRequest(seq, src, to)
		binary.NativeEndian.PutUint16(q[4:], sockDestroy)
		binary.NativeEndian.PutUint16(q[6:], unix.NLM_F_REQUEST|unix.NLM_F_ACK)
		if err := unix.Sendto(int(diag.Fd()), q, unix.MSG_DONTWAIT, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			return err
		}
		var b [256]byte
		n, _, err := unix.Recvfrom(int(diag.Fd()), b[:], unix.MSG_DONTWAIT)
		if err != nil {
			return err
		}
		_, err = parseDiag(b[:n], seq)
		return err
	}
	onThread(t, func() error {
		header, none := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, [2]unix.CapUserData{}
		if err := unix.Capset(&header, &none[0]); err != nil { // of this thread
			return err
		}
		if err := destroy(7); !errors.Is(err, unix.EPERM) {
			t.Errorf("without a capability: %v", err)
		}
		return nil
	})
	if n := s.Inode(src, to); n != inodeOf(t, f) {
		t.Errorf("it is %d", n)
	}
	if err := destroy(8); !errors.Is(err, errNoAnswer) { // an acknowledgement
		t.Skipf("this kernel destroys none: %v", err)
	}
	if n := s.Inode(src, to); n != 0 {
		t.Errorf("destroyed, it is %d", n)
	}
}

// Many may ask at once.
func TestSocketsAtOnce(t *testing.T) {
	w := newWorld(t)
	_, to := w.listen(t, "127.0.0.1:0")
	s, _ := w.sockets(t)
	var asking sync.WaitGroup
	for range 8 {
		f, src := w.attempt(t, "127.0.0.1:0", to)
		want := inodeOf(t, f)
		asking.Go(func() {
			for range 50 {
				if n := s.Inode(src, to); n != want {
					t.Errorf("it is %d, not %d", n, want)
				}
			}
		})
	}
	asking.Wait()
}

// A kernel that may know no TCP sockets is not asked each time.
func TestSocketsThatNeverTell(t *testing.T) {
	w := newWorld(t)
	_, to := w.listen(t, "127.0.0.1:0")
	s, _ := w.sockets(t)
	f, src := w.attempt(t, "127.0.0.1:0", to)
	nobody := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.9"), 9)
	for range maxMissed {
		s.Inode(nobody, nobody)
	}
	s.asked = time.Now().Add(time.Hour) // however slow this machine is
	if n := s.Inode(src, to); n != 0 {
		t.Errorf("it was asked: %d", n)
	}
	s.asked = time.Now().Add(-missedFor)
	if n := s.Inode(src, to); n != inodeOf(t, f) {
		t.Errorf("later it is %d", n)
	}
	for range 2 * maxMissed {
		s.Inode(nobody, nobody)
	}
	if n := s.Inode(src, to); n != inodeOf(t, f) {
		t.Errorf("of one that has told it is %d", n)
	}
}

func TestNoSockets(t *testing.T) {
	a, b := netip.MustParseAddrPort("127.0.0.1:1"), netip.MustParseAddrPort("127.0.0.1:2")
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	closed, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	shut := NewSockets(closed)
	closed.Close()
	defer null.Close()
	for name, s := range map[string]*Sockets{"none": NewSockets(nil), "no socket": NewSockets(null), "closed": shut, "closed before": NewSockets(closed)} {
		if n := s.Inode(a, b); n != 0 {
			t.Errorf("%s: it is %d", name, n)
		}
	}
}
