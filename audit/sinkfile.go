package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// sinkTail (bytes) is how much of a file's end is searched for its last event.
const sinkTail = 2 << 20

// sinkFile is a file of JSON Lines that is rotated. Its zero value, with a path,
// is closed. Not safe for concurrent use.
type sinkFile struct {
	path string
	max  int64
	keep int

	file *os.File // nil: closed
	size int64
	torn bool // it ends in the middle of a line
}

// open opens the file if it is not open, or was deleted, replaced or rotated by
// somebody else. opened: it did.
func (f *sinkFile) open() (opened bool, err error) {
	if f.file != nil {
		info, err := f.file.Stat()
		if now, errNow := os.Lstat(f.path); err == nil && errNow == nil && os.SameFile(info, now) {
			return false, nil
		}
		f.close() // what was written to it is
	}
	// O_NONBLOCK: a pipe of that name must not stop us before we can refuse it.
	file, err := os.OpenFile(f.path, os.O_RDWR|os.O_APPEND|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if errors.Is(err, syscall.ELOOP) {
		return false, fmt.Errorf("%s is a symbolic link\nhint: remove it, or name the file it points to", f.path)
	}
	if err != nil {
		return false, err
	}
	info, err := file.Stat()
	if err == nil {
		err = acceptable(info, os.Geteuid())
	}
	if err != nil {
		return false, errors.Join(fmt.Errorf("%s %w", f.path, err), file.Close())
	}
	f.file, f.size, f.torn = file, info.Size(), false
	if f.size > 0 {
		last := make([]byte, 1)
		if _, err := file.ReadAt(last, f.size-1); err != nil {
			return false, errors.Join(err, f.close())
		}
		f.torn = last[0] != '\n'
	}
	return true, nil
}

func (f *sinkFile) close() error {
	if f.file == nil {
		return nil
	}
	err := f.file.Close()
	f.file = nil
	return err
}

// lastID is the id of the last whole event in the file or, if there is none, in
// the one rotated last; empty: there is none.
func (f *sinkFile) lastID() (string, error) {
	id, err := lastIDIn(f.file)
	if err != nil || id != "" {
		return id, err
	}
	old, err := os.OpenFile(f.rotated(1), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer old.Close() // it was only read
	return lastIDIn(old)
}

func lastIDIn(file *os.File) (string, error) {
	info, err := file.Stat()
	if err != nil {
		return "", err
	}
	from := max(info.Size()-sinkTail, 0)
	tail := make([]byte, info.Size()-from)
	if n, err := file.ReadAt(tail, from); n < len(tail) {
		return "", err
	}
	lines := bytes.Split(tail, []byte{'\n'})
	for i := len(lines) - 2; i >= 0; i-- { // the last one is torn, or empty
		var e struct{ ID string }
		if json.Unmarshal(lines[i], &e) == nil && e.ID != "" {
			return e.ID, nil
		}
	}
	return "", nil
}

// write appends lines, each with its newline, and rotates where the next one
// would make a file too long. After an error the file is closed: its end tells
// how far it came.
func (f *sinkFile) write(lines [][]byte) error {
	var buf []byte
	if f.torn {
		buf = append(buf, '\n')
	}
	for _, line := range lines {
		if size := f.size + int64(len(buf)); size > 0 && size+int64(len(line)) > f.max {
			if err := f.flush(buf); err != nil {
				return err
			}
			buf = buf[:0]
			if err := f.rotate(); err != nil {
				return errors.Join(err, f.close())
			}
		}
		buf = append(buf, line...)
	}
	return f.flush(buf)
}

func (f *sinkFile) flush(buf []byte) error {
	if len(buf) == 0 {
		return nil
	}
	n, err := f.file.Write(buf)
	f.size += int64(n)
	if err != nil {
		return errors.Join(err, f.close())
	}
	f.torn = false
	return nil
}

// rotate renames the file to PATH.1, that one to PATH.2 and so on, deletes what
// is too many, and opens a new one.
func (f *sinkFile) rotate() error {
	for i := f.keep; i > 0; i-- {
		from := f.path
		if i > 1 {
			from = f.rotated(i - 1)
		}
		if err := os.Rename(from, f.rotated(i)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	_, err := f.open()
	return err
}

func (f *sinkFile) rotated(i int) string { return fmt.Sprintf("%s.%d", f.path, i) }

// apart refuses a path for the sink whose file is the store's, or may become one
// of those beside it (-wal, -shm, .lock, .corrupt-TIME, …).
func apart(path, store string) error {
	dir, err := os.Stat(filepath.Dir(path))
	storeDir, errStore := os.Stat(filepath.Dir(store))
	same := err == nil && errStore == nil && os.SameFile(dir, storeDir) || filepath.Dir(path) == filepath.Dir(store)
	if same && strings.HasPrefix(filepath.Base(path), filepath.Base(store)) {
		return fmt.Errorf("the sink %s has a name that begins as the store's, %s\nhint: name another file", path, store)
	}
	info, err := os.Lstat(path)
	if err != nil {
		return nil // there is none yet, or opening it will say
	}
	for _, suffix := range []string{"", "-wal", "-shm", "-journal", ".lock"} {
		if own, err := os.Lstat(store + suffix); err == nil && os.SameFile(info, own) {
			return fmt.Errorf("the sink %s is the store's own file %s\nhint: name another file", path, store+suffix)
		}
	}
	return nil
}
