package sandbox

import (
	"errors"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"testing"
	"time"

	"github.com/sallyport/sallyport/wall/wire"
	"golang.org/x/sys/unix"
)

// newSocket returns one and a name of it that does not change.
func newSocket(t *testing.T, family, kind, protocol int) (f *os.File, name string) {
	t.Helper()
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, protocol)
	if errors.Is(err, unix.EPERM) {
		t.Skip("it takes root")
	}
	if err != nil {
		t.Fatal(err)
	}
	f = os.NewFile(uintptr(fd), "socket")
	t.Cleanup(func() { f.Close() })
	if name, err = os.Readlink(filepath.Join("/proc/self/fd", strconv.Itoa(fd))); err != nil {
		t.Fatal(err)
	}
	return f, name
}

// copies counts the descriptors of this process for what has a name.
func copies(t *testing.T, name string) (n int) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if link, err := os.Readlink(filepath.Join("/proc/self/fd", e.Name())); err == nil && link == name {
			n++
		}
	}
	return n
}

// wantCopies waits for it. A file that is forgotten must not be closed by the garbage
// collector meanwhile.
func wantCopies(t *testing.T, when, name string, want int) {
	t.Helper()
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	deadline := time.Now().Add(patient)
	for copies(t, name) != want {
		if time.Now().After(deadline) {
			t.Fatalf("%s: it has %d descriptors of it, not %d", when, copies(t, name), want)
		}
		time.Sleep(time.Millisecond)
	}
}

// newDiag is a socket whose one descriptor will be what the Hub has.
func newDiag(t *testing.T) (f *os.File, name string) {
	t.Helper()
	return newSocket(t, unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_SOCK_DIAG)
}

// come has the holder of sandbox n come, with what is sent beside its namespace, and
// the wall plug it.
func (w *world) come(n int, wall peer, with ...*os.File) (peer, Plugged) {
	w.t.Helper()
	a := w.register(n)
	holder := w.dial(wire.Hello{Role: wire.RoleHold, Token: registration(n).Token})
	holder.netns(with...)
	for _, f := range with {
		f.Close()
	}
	wall.wantPlug(n)
	holder.wantAddress(a)
	w.await(n, Ready)
	return holder, <-w.served
}

// What a holder sends beside its namespace is for who serves it, if it is a socket of
// NETLINK_SOCK_DIAG; one that sends nothing, as older ones do, or something else is
// served without.
func TestDiag(t *testing.T) {
	w := newWorld(t, nil)
	wall := w.wall()
	for i, c := range []struct {
		name                   string
		family, kind, protocol int
		want                   int
	}{
		{"NETLINK_SOCK_DIAG", unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_SOCK_DIAG, 1},
		{"NETLINK_ROUTE", unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE, 0},
		{"a raw socket of IP with the same number", unix.AF_INET, unix.SOCK_RAW, unix.NETLINK_SOCK_DIAG, 0},
		{"a unix socket", unix.AF_UNIX, unix.SOCK_DGRAM, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, socket := newSocket(t, c.family, c.kind, c.protocol)
			_, p := w.come(i+1, wall, f)
			wantCopies(t, "served", socket, c.want)
			if (p.Diag != nil) != (c.want == 1) {
				t.Fatalf("it is served with %v", p.Diag)
			}
			if c.want == 0 {
				return
			}
			if link, err := os.Readlink(filepath.Join("/proc/self/fd", strconv.Itoa(int(p.Diag.Fd())))); err != nil || link != socket {
				t.Errorf("it is served with %s, %v", link, err)
			}
		})
	}
	if _, p := w.come(8, wall); p.Diag != nil {
		t.Errorf("an older holder is served with %v", p.Diag)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	if _, p := w.come(9, wall, null); p.Diag != nil {
		t.Errorf("a file is served as %v", p.Diag)
	}
}

// It is closed when the sandbox ends, when its holder does, with the Hub, and when
// another one comes, or a namespace without one.
func TestDiagIsClosed(t *testing.T) {
	w := newWorld(t, nil)
	wall := w.wall()
	var holders [5]peer
	var sockets [5]string
	for i := range holders {
		f, socket := newDiag(t)
		holders[i], _ = w.come(i+1, wall, f)
		sockets[i] = socket
		wantCopies(t, "served", socket, 1)
	}
	f, next := newDiag(t)
	holders[0].netns(f)
	f.Close()
	wall.wantPlug(1)
	if p := <-w.served; p.Diag == nil {
		t.Error("the next one is not served")
	}
	wantCopies(t, "another one came", sockets[0], 0)
	wantCopies(t, "another one came, which", next, 1)
	holders[1].netns()
	wantCopies(t, "a namespace came without one", sockets[1], 0)
	w.hub.Unregister(id(3))
	wantCopies(t, "the sandbox has ended", sockets[2], 0)
	holders[3].Close()
	wantCopies(t, "the holder has ended", sockets[3], 0)
	w.stop()
	wantCopies(t, "the Hub has ended", sockets[4], 0)
	wantCopies(t, "the Hub has ended", next, 0)
}

// A holder that comes too late leaves nothing.
func TestDiagOfASandboxThatHasEnded(t *testing.T) {
	w := newWorld(t, nil)
	ns, namespace := newSocket(t, unix.AF_UNIX, unix.SOCK_DGRAM, 0)
	f, socket := newDiag(t)
	w.hub.namespace(&sandbox{State: State{Registration: registration(1)}}, ns, f)
	wantCopies(t, "its namespace", namespace, 0)
	wantCopies(t, "its socket", socket, 0)
}
