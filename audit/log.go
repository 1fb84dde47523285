package audit

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/sallyport/sallyport/policy"
)

// Options are the settings of a Log.
type Options struct {
	Now func() time.Time // nil: time.Now
}

// Log appends events to one file, a JSON object a line. Each event is one
// write(2) with O_APPEND, so that an event which Append has acknowledged
// survives the death of the process, and lines of several writers never mix
// (on a local file system). Power loss may cost the last events.
type Log struct {
	path string
	now  func() time.Time
	ids  ids

	mu    sync.Mutex
	file  *os.File // nil: closed
	fd    int      // file's
	torn  bool     // the file ends in the middle of a line
	write func(fd int, p []byte) (int, error)
}

// Open opens the log at path, or makes it (mode 0600; its folder must exist). It
// refuses a symbolic link, anything but a regular file, and a file of another
// user. A last line that a crash left unfinished stays as it is and is closed
// by the first event.
func Open(path string, opts Options) (*Log, error) {
	l := &Log{path: path, now: opts.Now, write: syscall.Write}
	if l.now == nil {
		l.now = time.Now
	}
	if err := l.open(); err != nil {
		return nil, err
	}
	return l, nil
}

func (l *Log) open() error {
	// O_NONBLOCK: a pipe of that name must not stop us before we can refuse it.
	f, err := os.OpenFile(l.path, os.O_RDWR|os.O_APPEND|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if errors.Is(err, syscall.ELOOP) {
		return fmt.Errorf("open audit log: %s is a symbolic link; remove it, or name the file it points to", l.path)
	}
	if err != nil {
		return fmt.Errorf("open audit log: %w", err)
	}
	size, err := l.check(f)
	if err != nil {
		return errors.Join(fmt.Errorf("open audit log: %w", err), f.Close())
	}
	l.torn = false
	if size > 0 {
		last := make([]byte, 1)
		if _, err := f.ReadAt(last, size-1); err != nil {
			return errors.Join(fmt.Errorf("open audit log: read its end: %w", err), f.Close())
		}
		l.torn = last[0] != '\n'
	}
	l.file, l.fd = f, int(f.Fd())
	return nil
}

func (l *Log) check(f *os.File) (size int64, err error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if err := acceptable(info, os.Geteuid()); err != nil {
		return 0, fmt.Errorf("%s %w", l.path, err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		if err := f.Chmod(0o600); err != nil {
			return 0, err
		}
	}
	return info.Size(), nil
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

// Append completes e (time, id, count, the name "unknown" for no sandbox, the
// verdict "denied" for none), bounds its strings, writes it, and returns it as
// written. After an error nothing counts as recorded; a later Append may
// succeed.
func (l *Log) Append(e Event) (Event, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return e, fmt.Errorf("append to audit log %s: %w", l.path, os.ErrClosed)
	}
	e, err := l.complete(e)
	if err != nil {
		return e, fmt.Errorf("append to audit log: %w", err)
	}
	line, err := Encode(e)
	if err != nil {
		return e, fmt.Errorf("append to audit log: %w", err)
	}
	if err := l.append(line); err != nil {
		return e, fmt.Errorf("append to audit log %s: %w", l.path, err)
	}
	return e, nil
}

func (l *Log) complete(e Event) (Event, error) {
	now := l.now()
	id, err := l.ids.next(now)
	if err != nil {
		return e, err
	}
	e.ID = cmp.Or(e.ID, id)
	if e.Time.IsZero() {
		e.Time = now
	}
	e.Time = e.Time.UTC().Round(0)
	e.Count = cmp.Or(e.Count, 1)
	e.Sandbox = cmp.Or(e.Sandbox, "unknown")
	e.Verdict = cmp.Or(e.Verdict, policy.Deny.String())
	if e.Verdict != policy.Deny.String() && e.Verdict != policy.Allow.String() {
		return e, fmt.Errorf("verdict %.20q is neither %q nor %q", e.Verdict, policy.Deny, policy.Allow)
	}
	return bound(e), nil
}

// append writes one line with one write(2). os.File.Write would go on after a
// short one, and another writer's line could come between.
func (l *Log) append(line []byte) error {
	if err := l.reopenIfDeleted(); err != nil {
		return err
	}
	if l.torn {
		line = append([]byte{'\n'}, line...)
	}
	n, err := l.write(l.fd, line)
	for n < 0 && err == syscall.EINTR {
		n, err = l.write(l.fd, line)
	}
	switch {
	case n == len(line):
		l.torn = false
		return nil
	case n > 0:
		l.torn = line[n-1] != '\n'
	}
	if err == nil {
		err = fmt.Errorf("wrote %d of %d bytes; is the disk full?", n, len(line))
	}
	return err
}

// reopenIfDeleted makes the file anew if somebody removed it: events appended to
// a file without a name would be lost in silence.
func (l *Log) reopenIfDeleted() error {
	info, err := l.file.Stat()
	if err != nil {
		return err
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); !ok || stat.Nlink > 0 {
		return nil
	}
	old := l.file
	if err := l.open(); err != nil {
		return fmt.Errorf("the file was deleted: %w", err)
	}
	return old.Close()
}

// Close closes the log; a second Close does nothing.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	err := l.file.Close()
	l.file = nil
	if err != nil {
		return fmt.Errorf("close audit log: %w", err)
	}
	return nil
}
