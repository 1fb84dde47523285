package names

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/sallyport/sallyport/audit"
)

// store is our record.
type store struct {
	path    string
	sandbox string
	before  map[string]int64 // what was counted, by zone
}

func (s *store) count(ctx context.Context, zone string) (n int64, err error) {
	r, err := audit.OpenReader(s.path)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	totals, err := r.Totals(ctx, audit.Filter{Sandbox: s.sandbox, Layer: audit.LayerDNS, Host: "*." + zone})
	if err != nil {
		return 0, err
	}
	if s.before == nil {
		s.before = map[string]int64{}
	}
	n = totals.Attempts - s.before[zone]
	s.before[zone] = totals.Attempts
	return n, nil
}

// log is a peer's log: one line for each query, if a word is set only those with it.
type log struct {
	path string
	word string
	at   int64 // up to where it was read
}

func (l *log) count(_ context.Context, zone string) (n int64, err error) {
	f, err := os.Open(l.path)
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }() // it was only read
	if _, err := f.Seek(l.at, io.SeekStart); err != nil {
		return 0, err
	}
	name := []byte("." + zone)
	for lines := bufio.NewReaderSize(f, 1<<20); ; {
		line, err := lines.ReadSlice('\n')
		if errors.Is(err, io.EOF) {
			return n, nil // a line that is not written whole is for the next time
		}
		if err != nil {
			return n, fmt.Errorf("read a peer's log: %w", err)
		}
		l.at += int64(len(line))
		if bytes.Contains(line, name) && bytes.Contains(line, []byte(l.word)) {
			n++
		}
	}
}
