package runner

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"golang.org/x/sys/unix"
)

// maxLog is how large a log gets before it is put aside as NAME.1, in bytes.
const maxLog = 16 << 20

// logFile is a log of bounded size: the file, and the one before.
type logFile struct {
	path string
	max  int64
	file *os.File
	size int64
	err  error // the first thing that went wrong
}

// openLog puts what an earlier server wrote aside and begins a log.
func openLog(path string, max int64) (*logFile, error) {
	l := &logFile{path: path, max: max}
	if err := l.next(); err != nil {
		return nil, fmt.Errorf("begin the server's log: %w", err)
	}
	return l, nil
}

// next puts the present file aside and begins another.
func (l *logFile) next() error {
	if l.file != nil {
		if err := l.file.Close(); err != nil {
			return err
		}
		l.file = nil
	}
	if err := os.Rename(l.path, l.path+".1"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	file, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	l.file, l.size = file, 0
	return nil
}

// Write never fails: a server must not stop because its log cannot be kept. What
// went wrong is Close's to tell.
func (l *logFile) Write(p []byte) (int, error) {
	if l.size > 0 && l.size+int64(len(p)) > l.max {
		if err := l.next(); err != nil {
			l.note(err)
		}
	}
	if l.file != nil {
		n, err := l.file.Write(p)
		l.size += int64(n)
		l.note(err)
	}
	return len(p), nil
}

func (l *logFile) note(err error) {
	if l.err == nil && err != nil {
		l.err = fmt.Errorf("keep the server's log: %w", err)
	}
}

// Close ends the log and tells what of it was lost, if anything.
func (l *logFile) Close() error {
	if l.file != nil {
		l.note(l.file.Close())
		l.file = nil
	}
	return l.err
}

// copyLog reads from until its end. With what cannot be written it goes on.
func copyLog(l *logFile, from *os.File) error {
	_, err := io.CopyBuffer(struct{ io.Writer }{l}, struct{ io.Reader }{from}, make([]byte, copyBuffer))
	return err
}

// output is where the server's output goes.
type output struct {
	stdout, stderr *os.File
	write          *os.File   // our copy of the pipe into the log; nil: there is none, or the server has it
	copied         chan error // the log is complete; nil: there is none
}

// output prepares for the server's output: a log of our own with NetNS.
func (r *run) output() (*output, error) {
	if !r.NetNS {
		return &output{stdout: r.Stdout, stderr: r.Stderr}, nil
	}
	log, err := openLog(r.folder.path(ServerLog), maxLog)
	if err != nil {
		return nil, err
	}
	// Not os.Pipe, whose ends do not block: a server does not expect that.
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, errors.Join(os.NewSyscallError("pipe2", err), log.Close())
	}
	read, write := os.NewFile(uintptr(fds[0]), "log"), os.NewFile(uintptr(fds[1]), "log")
	o := &output{stdout: write, stderr: write, write: write, copied: make(chan error, 1)}
	go func() { o.copied <- errors.Join(copyLog(log, read), read.Close(), log.Close()) }()
	return o, nil
}

// handOver closes our copy: the log ends when the last process that has it does.
func (o *output) handOver() {
	if o.write != nil {
		_ = o.write.Close()
		o.write = nil
	}
}

// close waits for the last of the output.
func (o *output) close(log *slog.Logger) {
	o.handOver()
	if o.copied == nil {
		return
	}
	if err := <-o.copied; err != nil { // it served all the same
		log.Warn("the server's log is not complete", "err", err)
	}
}
