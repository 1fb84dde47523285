package runner

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
)

const (
	maxLast    = 4 << 20                // bytes that are looked through for the last lines
	followTick = 100 * time.Millisecond // between looks at a log
)

// WriteLog writes the last lines of a server's log to w: all of it with lines < 0.
// With follow it goes on with what the server writes, until the server has ended
// or ctx does.
func WriteLog(ctx context.Context, dir string, w io.Writer, lines int, follow bool) error {
	f := folder{dir}
	file, err := f.openLog()
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // a nil file says so, and no more
	if file != nil {
		if err := skipTo(file, lines); err != nil {
			return fmt.Errorf("read the server's log: %w", err)
		}
	}
	tick := time.NewTicker(followTick)
	defer tick.Stop()
	for {
		// In this order: what is written before the end is read after it.
		held, err := f.isHeld()
		if err != nil {
			return err
		}
		if file, err = f.copyNew(w, file); err != nil {
			return err
		}
		if !held || !follow {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// copyNew copies what file has gained, and goes over to the next one where file
// was put aside. No file yet: nil.
func (f folder) copyNew(w io.Writer, file *os.File) (*os.File, error) {
	for {
		next, err := f.openLog()
		if err != nil || next == nil && file == nil {
			return file, err
		}
		// What was opened last may be the same.
		same := next == nil || file != nil && sameFile(next, file)
		if file != nil {
			_, err = io.Copy(struct{ io.Writer }{w}, file)
		}
		if same || err != nil {
			_ = next.Close()
			return file, err
		}
		if file != nil {
			_ = file.Close()
		}
		file = next
	}
}

func sameFile(a, b *os.File) bool {
	x, errX := a.Stat()
	y, errY := b.Stat()
	return errX == nil && errY == nil && os.SameFile(x, y)
}

// openLog opens the present log; nil: there is none.
func (f folder) openLog() (*os.File, error) {
	file, err := f.open(ServerLog)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the server's log: %w", err)
	}
	return file, nil
}

// skipTo has file begin with its last lines.
func skipTo(file *os.File, lines int) error {
	if lines < 0 {
		return nil
	}
	end, err := file.Seek(0, io.SeekEnd)
	if err != nil || lines == 0 {
		return err
	}
	start := max(0, end-maxLast)
	data := make([]byte, end-start)
	n, err := file.ReadAt(data, start)
	if err != nil && err != io.EOF {
		return err
	}
	data = data[:n]
	at := len(bytes.TrimSuffix(data, []byte("\n")))
	for ; lines > 0 && at >= 0; lines-- {
		at = bytes.LastIndexByte(data[:at], '\n')
	}
	_, err = file.Seek(start+int64(at)+1, io.SeekStart)
	return err
}
