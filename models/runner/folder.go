package runner

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Files of a server's folder.
const (
	ModelSocket  = "model.sock" // what clients connect to
	serverSocket = "server.sock"
	lockFile     = "lock"
	stateFile    = "state.json"
	ServerLog    = "server.log" // with Options.NetNS
	RunnerLog    = "runner.log" // with Detach
)

// maxSocketPath is what fits into sockaddr_un with its final zero: unix(7).
const maxSocketPath = 107

// A probe of the lock (Inspect) holds it for an instant; who wants to have it
// tries so often, so far apart.
const (
	takeTries = 20
	takePause = 50 * time.Millisecond
)

// folder is a server's own folder.
type folder struct{ dir string }

// openFolder makes the folder if need be, and refuses one that others may enter.
func openFolder(dir string) (folder, error) {
	f := folder{dir}
	if !filepath.IsAbs(dir) {
		return f, fmt.Errorf("the server's folder %s is not an absolute path", printable(dir))
	}
	for _, name := range []string{ModelSocket, serverSocket} {
		if path := f.path(name); len(path) > maxSocketPath {
			return f, fmt.Errorf("the socket path %s has %d bytes, and no more than %d fit\nhint: set hosts[].folder (or local.folder) to a shorter path",
				printable(path), len(path), maxSocketPath)
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return f, fmt.Errorf("make the server's folder: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return f, fmt.Errorf("look at the server's folder: %w", err)
	}
	if owner := info.Sys().(*syscall.Stat_t).Uid; int(owner) != os.Geteuid() {
		return f, fmt.Errorf("the server's folder %s belongs to uid %d, not to %d\nhint: hosts[].folder must be a folder of the user who runs the server", printable(dir), owner, os.Geteuid())
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return f, fmt.Errorf("the server's folder %s is open to others (mode %04o)\nhint: chmod 700 %s", printable(dir), mode, printable(dir))
	}
	return f, nil
}

// open opens a regular file to read it, and nothing else: the server can put what
// it likes in its folder, and must not make us wait.
func (f folder) open(name string) (*os.File, error) {
	file, err := os.OpenFile(f.path(name), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	return regular(file)
}

// regular returns file if it is a regular one, and closes it otherwise.
func regular(file *os.File) (*os.File, error) {
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: printable(file.Name()), Err: errors.New("not a regular file")}
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// take takes the lock, for as long as the file is open.
func (f folder) take(ctx context.Context) (*os.File, error) {
	lock, err := os.OpenFile(f.path(lockFile), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err == nil {
		lock, err = regular(lock)
	}
	if err != nil {
		return nil, fmt.Errorf("open the server's lock: %w", err)
	}
	for range takeTries {
		err = flock(lock, unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) || ctx.Err() != nil {
			break
		}
		select {
		case <-ctx.Done():
		case <-time.After(takePause):
		}
	}
	if err == nil {
		return lock, nil
	}
	_ = lock.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, f.held()
	}
	return nil, f.lockError(err)
}

// held is the error that says who has the lock.
func (f folder) held() error {
	who := "somebody"
	if s, err := f.readState(); err == nil && s.Phase != PhaseExited {
		if who = "somebody who did not say who"; s.By != "" {
			who = s.By
		}
		who += " since " + s.Started.UTC().Format("2006-01-02 15:04:05 UTC")
	}
	return &ExitError{CodeHeld, fmt.Errorf("%s has a server running: started by %s", printable(f.dir), printable(who))}
}

// lockError explains why a lock cannot be had at all.
func (f folder) lockError(err error) error {
	hint := ""
	if errors.Is(err, unix.ENOLCK) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		hint = "\nhint: the file system knows no flock(2); set hosts[].folder (or local.folder) to a folder on a local disk"
	}
	return fmt.Errorf("lock %s: %w%s", printable(f.path(lockFile)), err, hint)
}

// flock is flock(2), also when a signal comes between.
func flock(file *os.File, how int) error {
	for {
		if err := unix.Flock(int(file.Fd()), how); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// removeSockets removes what an earlier server left, sockets between its own
// processes too. Only who has the lock may.
func (f folder) removeSockets() error {
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return fmt.Errorf("look for sockets: %w", err)
	}
	for _, e := range entries {
		if e.Type() == fs.ModeSocket {
			err = os.Remove(f.path(e.Name()))
		} else if e.Name() == ModelSocket || e.Name() == serverSocket {
			err = fmt.Errorf("%s is in the way, and no socket", printable(f.path(e.Name())))
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove a socket: %w", err)
		}
	}
	return nil
}

// listen opens the socket for clients.
func (f folder) listen() (*net.UnixListener, error) {
	path := f.path(ModelSocket)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen for clients of the model: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("close the model's socket to others: %w", err), l.Close())
	}
	return l, nil
}
