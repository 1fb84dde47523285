package agents

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// maxHomeFile bounds what is read of a file that an agent may have written.
const maxHomeFile = 16 << 20

// HomeFile is a file of the persistent home that must have certain content
// before the agent starts.
type HomeFile struct {
	Name  string // in the home itself, no folders
	Mode  fs.FileMode
	Merge func(old []byte) ([]byte, error) // old is nil if the file is not there yet
}

// PrepareHome makes or completes the profile's home files. The home belongs to
// the agent, which may have put anything there: a symlink, a folder or a pipe in
// the place of a file is an error, and a file changes as a whole or not at all.
// New files belong to uid:gid; -1 leaves the owner as it comes.
func (p Profile) PrepareHome(home *os.Root, uid, gid int) error {
	for _, f := range p.Home {
		if err := f.prepare(home, uid, gid); err != nil {
			return fmt.Errorf("agents: prepare %s in the sandbox's home %s: %w", f.Name, home.Name(), err)
		}
	}
	return nil
}

func (f HomeFile) prepare(home *os.Root, uid, gid int) error {
	old, err := readRegular(home, f.Name)
	if err != nil {
		return err
	}
	data, err := f.Merge(old)
	if err != nil {
		return fmt.Errorf("%w (hint: move the file away, a new one is made at the next start)", err)
	}
	if old != nil && bytes.Equal(old, data) {
		return nil
	}
	return writeAtomic(home, f.Name, data, f.Mode, uid, gid)
}

// readRegular returns a regular file's content, nil if there is no such file.
func readRegular(home *os.Root, name string) ([]byte, error) {
	before, err := home.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !before.Mode().IsRegular() {
		return nil, notRegular(before.Mode())
	}
	// Between Lstat and here the agent of another session may have swapped the
	// file: do not hang on a pipe, and look again at what was opened.
	file, err := home.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	after, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !os.SameFile(before, after) {
		return nil, errors.New("it was replaced while it was opened")
	}
	data, err := io.ReadAll(io.LimitReader(file, maxHomeFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxHomeFile {
		return nil, fmt.Errorf("larger than %d bytes", maxHomeFile)
	}
	if data == nil {
		data = []byte{}
	}
	return data, nil
}

func notRegular(m fs.FileMode) error {
	kind := "not a regular file"
	if m&fs.ModeSymlink != 0 {
		kind = "a symbolic link"
	}
	return fmt.Errorf("it is %s; something in the sandbox put it there (hint: look at it, then remove it)", kind)
}

// writeAtomic writes beside the file and renames: a rename replaces a link
// instead of following it.
func writeAtomic(home *os.Root, name string, data []byte, mode fs.FileMode, uid, gid int) (err error) {
	temp := name + "." + rand.Text() + ".tmp"
	file, err := home.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, home.Remove(temp))
		}
	}()
	if err := fill(file, data, mode, uid, gid); err != nil {
		return err
	}
	return home.Rename(temp, name)
}

func fill(file *os.File, data []byte, mode fs.FileMode, uid, gid int) error {
	_, err := file.Write(data)
	if err == nil {
		err = file.Chmod(mode) // whatever the umask says
	}
	if err == nil && (uid >= 0 || gid >= 0) {
		err = file.Chown(uid, gid)
	}
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}
