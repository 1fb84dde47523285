package audit

import (
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"time"
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

	seen int // the era in which the end of the file was looked up; run's alone

	mu      sync.Mutex
	era     int   // counts the store's files
	waits   bool  // the store has no file that is loaded
	head    int64 // number of the last event in the store
	written int64 // number of the last event in the file
	dropped int64
	skipped int64 // will be dropped: they were in an earlier file of the store
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
	if err := apart(path, store); err != nil {
		return nil, err
	}
	o.Path = path
	o.MaxBytes, o.Files, o.Queue = orElse(o.MaxBytes, 64<<20), orElse(o.Files, 5), orElse(o.Queue, 65536)
	s := &sink{
		store: store, o: o, log: log, file: sinkFile{path: path, max: o.MaxBytes, keep: o.Files},
		signal: make(chan struct{}, 1), stop: make(chan struct{}), ended: make(chan struct{}),
		head: head.Seq, written: max(from, 0), waits: from < 0, seen: -1,
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

// restart says that the store's file is another from now on: nothing is copied
// until begin, and what was not copied of the old one never is. It never waits.
func (s *sink) restart() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.skipped += max(s.head-s.written, 0)
	s.era++
	s.waits, s.head, s.written = true, 0, 0
}

// begin says that the store's file is loaded, and last the last event in it.
func (s *sink) begin(last Head) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waits || s.written > last.Seq {
		s.era++
		s.written = last.Seq
	}
	s.waits, s.head = false, last.Seq
}

func (s *sink) report(h *Health) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h.SinkQueued, h.SinkDropped, h.SinkFailing = max(s.head-s.written, 0), s.dropped+s.skipped, s.failing
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
