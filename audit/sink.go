package audit

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/sallyport/sallyport/policy"
)

// SinkOptions say where a copy of every event of the chain is appended as JSON
// Lines, for log shippers.
type SinkOptions struct {
	Path     string // required; a regular file, made with mode 0600
	MaxBytes int64  // a file is rotated (to PATH.1, PATH.2, …) before it grows beyond it; zero: 64 MB
	Files    int    // rotated files that are kept; zero: 5
	Queue    int    // how many events it may be behind; zero: 65536. Older ones it leaves out, and says how many
}

const (
	sinkPage  = 500                   // events that are read at once
	sinkBytes = 4 << 20               // of events that are read at once
	sinkDelay = 50 * time.Millisecond // from a commit to the copying, so that many go at once
	sinkRetry = time.Second           // after an error
	sinkGrace = 3 * time.Second       // for the last ones, at Close
	// RuleSinkDropped is the rule of a line that is in the sink alone: it tells how
	// many events it leaves out.
	RuleSinkDropped = "sink-dropped"
)

// sink copies events from the database to a file, by a reader of its own. Its
// queue is the database itself: it needs no memory, and after a crash it goes on
// after the last line of the file.
type sink struct {
	store string
	o     SinkOptions
	log   *slog.Logger
	file  sinkFile

	signal chan struct{} // holds one if there is something new
	stop   chan struct{}
	ended  chan struct{}

	mu      sync.Mutex
	head    int64 // number of the last event in the store
	written int64 // number of the last event in the file
	dropped int64
	failing string
}

// startSink begins to copy what comes after the last line of the file or, if
// that names no event of the store, after number from.
func startSink(store string, o SinkOptions, log *slog.Logger, from int64, head Head) (*sink, error) {
	if o.Path == "" {
		return nil, errors.New("the sink has no path")
	}
	path, err := filepath.Abs(o.Path)
	if err != nil {
		return nil, err
	}
	if path == store {
		return nil, fmt.Errorf("the sink %s is the store itself\nhint: name another file", path)
	}
	o.Path = path
	o.MaxBytes, o.Files, o.Queue = orElse(o.MaxBytes, 64<<20), orElse(o.Files, 5), orElse(o.Queue, 65536)
	s := &sink{
		store: store, o: o, log: log, file: sinkFile{path: path, max: o.MaxBytes, keep: o.Files},
		signal: make(chan struct{}, 1), stop: make(chan struct{}), ended: make(chan struct{}),
		head: head.Seq, written: from,
	}
	s.signal <- struct{}{}
	go s.run()
	return s, nil
}

func orElse[T int | int64](n, otherwise T) T {
	if n <= 0 {
		return otherwise
	}
	return n
}

// wake says that head is the last event now. It never waits.
func (s *sink) wake(head Head) {
	s.mu.Lock()
	s.head = head.Seq
	s.mu.Unlock()
	select {
	case s.signal <- struct{}{}:
	default:
	}
}

func (s *sink) report(h *Health) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h.SinkQueued, h.SinkDropped, h.SinkFailing = max(s.head-s.written, 0), s.dropped, s.failing
}

// close waits for the last events to be copied, for sinkGrace at most: a file
// that hangs keeps nobody.
func (s *sink) close() {
	close(s.stop)
	select {
	case <-s.ended:
	case <-time.After(sinkGrace):
		s.log.Warn("the audit sink did not take the last events in time", "path", s.o.Path)
	}
}

func (s *sink) run() {
	defer close(s.ended)
	defer s.file.close() // all of it was written
	delay := time.NewTimer(0)
	defer delay.Stop()
	for {
		stopping := false
		select {
		case <-s.stop:
			stopping = true
		case <-delay.C:
		}
		err := s.copy()
		s.note(err)
		if stopping {
			return
		}
		if err != nil {
			delay.Reset(sinkRetry)
			continue
		}
		select {
		case <-s.signal:
			delay.Reset(sinkDelay)
		case <-s.stop:
			delay.Reset(0)
		}
	}
}

func (s *sink) note(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.failing
	s.failing = ""
	if err != nil {
		s.failing = err.Error()
		if before == "" {
			s.log.Warn("the audit sink cannot be written", "path", s.o.Path, "err", err)
		}
	}
}

// copy copies all that there is.
func (s *sink) copy() error {
	r, err := openReader(s.store)
	if err != nil {
		return err
	}
	defer r.Close() // it was only read
	ctx := context.Background()
	if err := s.resume(ctx, r.db); err != nil {
		return err
	}
	for {
		n, err := s.page(ctx, r.db)
		if err != nil || n == 0 {
			return err
		}
	}
}

// resume opens the file if it is not, and finds where it ends.
func (s *sink) resume(ctx context.Context, db *sql.DB) error {
	opened, err := s.file.open()
	if err != nil {
		return err
	}
	s.mu.Lock()
	if s.head < s.written {
		s.written = 0 // the store was begun anew
	}
	s.mu.Unlock()
	if !opened {
		return nil
	}
	id, err := s.file.lastID()
	if err != nil || id == "" {
		return err
	}
	var seq int64
	err = db.QueryRowContext(ctx, "SELECT seq FROM events WHERE id=?", id).Scan(&seq)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err == nil {
		s.mu.Lock()
		s.written = seq
		s.mu.Unlock()
	}
	return err
}

// page copies the next events and returns how many there were.
func (s *sink) page(ctx context.Context, db *sql.DB) (int, error) {
	from, dropped := s.next()
	rows, err := db.QueryContext(ctx, "SELECT seq, body FROM events WHERE seq > ? ORDER BY seq LIMIT ?", from, sinkPage)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	last, size := from, 0
	var lines [][]byte
	for rows.Next() {
		var seq int64
		var body []byte
		if err := rows.Scan(&seq, &body); err != nil {
			return 0, err
		}
		dropped += seq - last - 1 // deleted before they were copied
		last = seq
		lines = append(lines, append(body, '\n'))
		if size += len(body); size > sinkBytes {
			break
		}
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil || len(lines) == 0 {
		return 0, err
	}
	if dropped > 0 {
		line, err := droppedLine(dropped)
		if err != nil {
			return 0, err
		}
		lines = append([][]byte{line}, lines...)
	}
	if err := s.file.write(lines); err != nil {
		return 0, err
	}
	s.mu.Lock()
	s.written = last
	s.dropped += dropped
	s.mu.Unlock()
	return len(lines), nil
}

// next is the number after which to go on, and how many events that leaves out.
func (s *sink) next() (from, dropped int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if least := s.head - int64(s.o.Queue); s.written < least {
		return least, least - s.written
	}
	return s.written, 0
}

func droppedLine(n int64) ([]byte, error) {
	e := note(RuleSinkDropped, fmt.Sprintf("%d events are not in this copy: it was too far behind the store, which has them", n), time.Now())
	e.Layer, e.Verdict = LayerControl, policy.Deny.String()
	return Encode(e)
}
