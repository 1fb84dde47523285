package origin

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"sync"
	"syscall"
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

// diagAnswer is what the kernel says of a socket.
func diagAnswer(seq uint32, state uint8, local, remote netip.AddrPort, inode uint32) []byte {
	b := make([]byte, diagHeader+diagTold)
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	binary.NativeEndian.PutUint16(b[4:], unix.SOCK_DIAG_BY_FAMILY)
	binary.NativeEndian.PutUint32(b[8:], seq)
	m := b[diagHeader:]
	m[0], m[1] = unix.AF_INET, state
	if local.Addr().Is6() {
		m[0] = unix.AF_INET6
	}
	binary.BigEndian.PutUint16(m[4:], local.Port())
	binary.BigEndian.PutUint16(m[6:], remote.Port())
	copy(m[8:], local.Addr().AsSlice())
	copy(m[24:], remote.Addr().AsSlice())
	binary.NativeEndian.PutUint32(m[64:], 1000)
	binary.NativeEndian.PutUint32(m[68:], inode)
	return b
}

// diagError is the kernel's error, struct nlmsgerr.
func diagError(seq uint32, errno int32) []byte {
	b := make([]byte, diagHeader+4+diagHeader)
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	binary.NativeEndian.PutUint16(b[4:], unix.NLMSG_ERROR)
	binary.NativeEndian.PutUint32(b[8:], seq)
	binary.NativeEndian.PutUint32(b[16:], uint32(-errno))
	return b
}

func TestParseDiag(t *testing.T) {
	a, b := netip.MustParseAddrPort("10.213.0.2:40000"), netip.MustParseAddrPort("203.0.113.9:443")
	a6, b6 := netip.MustParseAddrPort("[2001:db8::2]:40000"), netip.MustParseAddrPort("[2001:db8:1:2:3:4:5:6]:443")
	am, bm := netip.MustParseAddrPort("[::ffff:10.213.0.2]:40000"), netip.MustParseAddrPort("[::ffff:203.0.113.9]:443")
	with := func(b []byte, change func(b []byte)) []byte { change(b); return b }
	good := func() []byte { return diagAnswer(7, 1, a, b, 5) }
	four, six := line{local: a, remote: b, state: 1, inode: 5}, line{local: a6, remote: b6, state: 1, inode: 5}
	for _, c := range []struct {
		name string
		text []byte
		want line
		err  error
	}{
		{"IPv4", good(), four, nil},
		{"IPv6", diagAnswer(7, 1, a6, b6, 5), six, nil},
		{"IPv4 of a socket of IPv6", diagAnswer(7, 1, am, bm, 5), four, nil},
		{"more behind it", append(good(), 1, 2, 3), four, nil},
		{"attributes", with(append(good(), 8, 0, 1, 0, 0, 0, 0, 0), func(b []byte) { binary.NativeEndian.PutUint32(b, uint32(len(b))) }), four, nil},
		{"no such socket", diagError(7, int32(unix.ENOENT)), line{}, unix.ENOENT},
		{"the least error", diagError(7, -0x80000000), line{}, syscall.Errno(0x80000000)},
		{"another's error", diagError(8, int32(unix.ENOENT)), line{}, errNoAnswer},
		{"an acknowledgement", diagError(7, 0), line{}, errNoAnswer},
		{"a short error", with(diagError(7, 2)[:18], func(b []byte) { b[0] = 18 }), line{}, errNoAnswer},
		{"another's", diagAnswer(6, 1, a, b, 5), line{}, errNoAnswer},
		{"empty", nil, line{}, errNoAnswer},
		{"a heading", good()[:diagHeader], line{}, errNoAnswer},
		{"less than it says", good()[:len(good())-1], line{}, errNoAnswer},
		{"too short", with(good(), func(b []byte) { binary.NativeEndian.PutUint32(b, uint32(len(b)-1)) }), line{}, errNoAnswer},
		{"shorter than its heading", with(good(), func(b []byte) { binary.NativeEndian.PutUint32(b, 15) }), line{}, errNoAnswer},
		{"as long as can be said", with(good(), func(b []byte) { binary.NativeEndian.PutUint32(b, 0xffffffff) }), line{}, errNoAnswer},
		{"another message", with(good(), func(b []byte) { binary.NativeEndian.PutUint16(b[4:], unix.NLMSG_DONE) }), line{}, errNoAnswer},
		{"another family", with(good(), func(b []byte) { b[16] = unix.AF_UNIX }), line{}, errNoAnswer},
	} {
		got, err := parseDiag(c.text, 7)
		if got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: it is %+v, %v; wanted %+v, %v", c.name, got, err, c.want, c.err)
		}
	}
}

func FuzzParseDiag(f *testing.F) {
	a, b := netip.MustParseAddrPort("10.213.0.2:40000"), netip.MustParseAddrPort("[2001:db8::2]:443")
	f.Add(diagAnswer(7, 1, a, a, 5))
	f.Add(diagAnswer(7, 1, b, b, 5))
	f.Add(diagError(7, int32(unix.ENOENT)))
	f.Add(diagAnswer(7, 1, a, a, 5)[:40])
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := parseDiag(text, 7)
		if err != nil {
			if l != (line{}) {
				t.Errorf("with %v it is %+v", err, l)
			}
			return
		}
		if l.uid != 0 || l.local.Addr().Is4In6() || !l.local.IsValid() || !l.remote.IsValid() {
			t.Errorf("it is %+v", l)
		}
		if l.local.Addr().BitLen() == l.remote.Addr().BitLen() {
			if again, err := parseDiag(diagAnswer(7, l.state, l.local, l.remote, uint32(l.inode)), 7); err != nil || again != l {
				t.Errorf("%+v is read as %+v, %v", l, again, err)
			}
		}
	})
}
