package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// lock makes this the only writer of the store at path, until the file is
// closed or the process ends. It locks a file beside the database: a descriptor
// of the database itself, closed, would drop SQLite's own locks (POSIX).
func lock(path string) (*os.File, error) {
	name := path + ".lock"
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if errors.Is(err, syscall.ELOOP) {
		return nil, fmt.Errorf("%s is a symbolic link\nhint: remove it", name)
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil {
		err = acceptable(info, os.Geteuid())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s %w", name, err), f.Close())
	}
	if err := flock(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func flock(f *os.File) error {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EWOULDBLOCK):
			return errors.New("another gateway writes it\nhint: one gateway runs for a user; `gateway status` shows it")
		default:
			return fmt.Errorf("lock %s: %w", f.Name(), err)
		}
	}
}

// checkFile says whether the file at path may be ours: none is fine (exists is
// false), a symbolic link, anything but a regular file, or another user's is
// not. It opens nothing.
func checkFile(path string) (exists bool, err error) {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		return true, fmt.Errorf("%s is a symbolic link; remove it, or name the file it points to", path)
	}
	if err := acceptable(info, os.Geteuid()); err != nil {
		return true, fmt.Errorf("%s %w", path, err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return true, os.Chmod(path, 0o600)
	}
	return true, nil
}

func acceptable(info os.FileInfo, uid int) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !ok:
		return errors.New("has no owner that could be told")
	case !info.Mode().IsRegular():
		return errors.New("is not a regular file")
	case stat.Uid != uint32(uid):
		return fmt.Errorf("belongs to user %d, not to %d; move it away", stat.Uid, uid)
	}
	return nil
}

// prepareFile checks the database's files and makes the first of them, empty and
// for its owner alone (SQLite gives its mode to the others), if there is none.
func prepareFile(path string) error {
	exists, err := checkFile(path)
	for _, suffix := range []string{"-wal", "-shm", "-journal"} {
		if err == nil {
			_, err = checkFile(path + suffix)
		}
	}
	if err != nil || exists {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), syncDir(path))
}

// syncDir makes the names in path's folder last.
func syncDir(path string) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// inode identifies the file that path names now; zero: there is none.
func inode(path string) uint64 {
	var stat syscall.Stat_t
	if err := syscall.Lstat(path, &stat); err != nil {
		return 0
	}
	return stat.Ino
}
