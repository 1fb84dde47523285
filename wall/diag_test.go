package wall

import (
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"unsafe"

	"github.com/sallyport/sallyport/origin"
	"github.com/sallyport/sallyport/sandbox"
	"github.com/sallyport/sallyport/wall/wire"
	"golang.org/x/sys/unix"
)

// The gateway has a socket that tells of the sandbox's sockets, from the holder, and
// another one once it is there again; neither end keeps the older one.
func TestHolderSendsDiag(t *testing.T) {
	b := newBox(t)
	const to = "203.0.113.1:80"
	check := func() {
		t.Helper()
		c, _, err := b.dial(t, to)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		raw, err := c.(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		var st unix.Stat_t
		raw.Control(func(fd uintptr) { err = unix.Fstat(int(fd), &st) })
		b.mu.Lock()
		diag := b.diag
		b.mu.Unlock()
		src := c.LocalAddr().(*net.TCPAddr).AddrPort()
		if n := origin.NewSockets(diag).Inode(src, netip.MustParseAddrPort(to)); n != st.Ino || err != nil {
			t.Errorf("it tells %d, not %d (%v)", n, st.Ino, err)
		}
	}
	check()
	inHolder, here := b.holder.descriptors(t), countDescriptors(t, "/proc/self/fd")
	for range 3 {
		b.wall.kill()
		b.wall = b.wallNS.startWall(t, b.socket)
		b.await(b.id, sandbox.Held)
		b.await(b.id, sandbox.Ready)
	}
	check()
	until(t, "the holder has closed what it sent", func() bool { return b.holder.descriptors(t) <= inHolder })
	until(t, "the gateway has closed what it had", func() bool { return countDescriptors(t, "/proc/self/fd") <= here })
}

// Without sock_diag the namespace comes alone.
func TestHolderWithoutDiag(t *testing.T) {
	for name, want := range map[string]int{"with": 2, "without": 1} {
		path := socketPath(t)
		l := listen(t, path)
		onThread(t, func() error {
			if want == 1 {
				if err := withoutDiag(); err != nil {
					return err
				}
			}
			conn, err := wire.Dial(path)
			if err != nil {
				return err
			}
			defer conn.Close()
			before := countDescriptors(t, "/proc/self/fd")
			err = (&Holder{Log: slog.New(slog.NewTextHandler(t.Output(), nil))}).sendNamespace(conn)
			if after := countDescriptors(t, "/proc/self/fd"); after != before {
				t.Errorf("%s: %d descriptors before, %d after", name, before, after)
			}
			return err
		})
		c, err := l.AcceptUnix()
		if err != nil {
			t.Fatal(err)
		}
		conn := wire.NewConn(c)
		m, files, err := conn.Receive()
		if err != nil || m.Netns == nil || len(files) != want {
			t.Errorf("%s: %+v with %d files, %v", name, m, len(files), err)
		}
		wire.CloseAll(files)
		conn.Close()
	}
}

// withoutDiag has this thread make no socket of NETLINK_SOCK_DIAG, as a kernel
// without it would not (seccomp(2), struct seccomp_data).
func withoutDiag() error {
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // the call
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_SOCKET, Jf: 3},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 32}, // its third argument
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.NETLINK_SOCK_DIAG, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPROTONOSUPPORT)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	return unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0)
}
