package machine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/tunnel"
)

const (
	maxSocketPath = 107             // bytes: sun_path of unix(7), less its NUL
	cleanupTime   = 5 * time.Second // for tidying up after something that ended
)

// ListenUnix listens at a socket of the machine's; only the user may connect.
// path is absolute. A socket that lies there already is replaced, whoever listens
// at it: choose a path that is yours alone, in a folder that is there. On a GPU
// host it is as tunnel.Client.ListenUnix, but Close removes the socket's file.
func (m *Machine) ListenUnix(ctx context.Context, path string) (net.Listener, error) {
	if !strings.HasPrefix(path, "/") || strings.Contains(path, "\x00") {
		return nil, fmt.Errorf("listen at %q on %s: the path must be absolute", path, m)
	}
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("listen at %s on %s: the path has %d bytes, a socket's has at most %d\nhint: a shorter folder (hosts[].folder, or local.folder for this machine)",
			printable(path), m, len(path), maxSocketPath)
	}
	switch {
	case m.remote != nil:
		return m.listenThere(ctx, path)
	case m.local != nil:
		return m.local.listen(path)
	}
	return nil, errZero
}

func (m *Machine) listenThere(ctx context.Context, path string) (net.Listener, error) {
	l, err := m.remote.ListenUnix(ctx, path)
	var refused *tunnel.ForwardError
	if errors.As(err, &refused) && m.removeSocket(ctx, path) == nil { // sshd leaves them behind
		l, err = m.remote.ListenUnix(ctx, path)
	}
	if err != nil {
		return nil, err
	}
	return &listener{l, m, path}, nil
}

// removeSocket fails if no socket lies at path.
func (m *Machine) removeSocket(ctx context.Context, path string) error {
	_, err := m.Sh(ctx, `[ -S "$1" ] && rm -f -- "$1"`, nil, path)
	return err
}

// listener removes its socket's file.
type listener struct {
	net.Listener
	m    *Machine
	path string
}

// Close is net.Listener's.
func (l *listener) Close() error {
	if err := l.Listener.Close(); err != nil || !l.m.remote.State().Up {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), cleanupTime)
	defer cancel()
	l.m.removeSocket(ctx, l.path) // the next ListenUnix would remove it too
	return nil
}

// listen is ListenUnix on this machine.
func (o *LocalOptions) listen(path string) (net.Listener, error) {
	cred, err := o.credential()
	if err != nil {
		return nil, err
	}
	// A socket's mode is that of its descriptor when it is bound (Linux, unix_bind).
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		if e := c.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), 0o600) }); e != nil {
			return e
		}
		return err
	}}
	l, err := config.Listen(context.Background(), "unix", path)
	if errors.Is(err, unix.EADDRINUSE) {
		if st, e := os.Lstat(path); e == nil && st.Mode().Type() == fs.ModeSocket && os.Remove(path) == nil {
			l, err = config.Listen(context.Background(), "unix", path)
		}
	}
	if err != nil {
		return nil, err
	}
	if cred != nil {
		if err := os.Lchown(path, o.UID, o.GID); err != nil {
			l.Close()
			return nil, err
		}
	}
	return l, nil
}
