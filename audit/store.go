package audit

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// Options are the settings of a Store.
type Options struct {
	Now       func() time.Time // nil: time.Now
	Keep      time.Duration    // how long events are kept; zero: for ever
	Max       int64            // bytes that the store may take; zero: no bound
	OnFailure Failure
	Sink      *SinkOptions // nil: none
	Log       *slog.Logger // nil: discarded
}

// Health is the state of a Store.
type Health struct {
	Head      Head
	Open      int           // repeats that are being counted
	Bytes     int64         // of the database and its write-ahead log
	Appended  int64         // events in the chain, since Open
	Joined    int64         // attempts that became repeats, since Open
	NotKept   int64         // attempts that FailContinue let pass without a record, since Open
	Refused   int64         // attempts that FailDeny refused without a record, since Open
	Failing   string        // why nothing can be stored; empty: it can
	CommitLag time.Duration // from the first Append of the last transaction to its commit
	// SinkQueued is how many events the sink has yet to write; SinkDropped how many
	// it never will, since Open; SinkFailing why it does not write (empty: it does,
	// or there is none).
	SinkQueued  int64
	SinkDropped int64
	SinkFailing string
	Pruned      int64  // events deleted for their age or the store's size, since Open
	SetAside    string // where a damaged file was moved to; empty: none was, since Open
}

// Store keeps events in one SQLite database, of which it is the only writer. An
// event that Append has acknowledged survives the death of the process; power
// loss may cost the last 100 ms of them. It is safe for concurrent use.
type Store struct {
	path string
	opts Options
	lock *os.File
	sink *sink // nil: none
	sync *syncer

	wake  chan struct{} // holds one if there is something in queue
	stop  chan struct{} // closed by Close
	ended chan error    // the writer's last word

	mu      sync.Mutex
	queue   []*request
	closed  bool
	health  Health
	subs    map[*Subscription]struct{}
	closing sync.Once
	closeOK error
}

// Open opens the store at path, or makes it (mode 0600; its folder must exist),
// and chains the repeats that a crash left open. It refuses a symbolic link,
// anything but a regular file, a file of another user, another program's database
// and a newer version's, and a store that is open already. A damaged file is
// moved to PATH.corrupt-TIME and a new one begun, whose first event says so.
func Open(path string, o Options) (*Store, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open audit store: %w", err)
	}
	s := &Store{
		path: path, opts: o,
		wake: make(chan struct{}, 1), stop: make(chan struct{}), ended: make(chan error, 1),
		subs: map[*Subscription]struct{}{},
	}
	if s.lock, err = lock(path); err != nil {
		return nil, fmt.Errorf("open audit store %s: %w", path, err)
	}
	if err := s.start(); err != nil {
		s.lock.Close()
		return nil, fmt.Errorf("open audit store %s: %w", path, err)
	}
	return s, nil
}

func (s *Store) start() error {
	s.sync = newSyncer()
	w := &writer{s: s, sync: s.sync}
	if err := w.begin(); err != nil {
		w.close()
		return err
	}
	if s.opts.Sink != nil {
		sink, err := startSink(s.path, *s.opts.Sink, s.opts.Log, w.loadedAt, s.Head())
		if err != nil {
			w.close()
			return err
		}
		s.sink = sink
	}
	go func() { s.ended <- w.run() }()
	return nil
}

// Append completes e (time, id, count, the name "unknown" for no sandbox, the
// verdict "denied" for none), bounds its strings, stores it, and returns it as
// stored: when it is a refusal that repeats one of the last 30 seconds, that is
// the event in which those repeats are counted, with Open set. After an error
// nothing counts as recorded, and an attempt that was refused for it is counted
// (Health.Refused) and told of by an event once one can be stored. With
// FailContinue there is no such error: what was not kept has no id.
func (s *Store) Append(e Event) (Event, error) {
	var one struct { // one allocation
		request
		event [1]Event
		entry [1]entry
	}
	one.event[0] = e
	one.events, one.entries, one.counted = one.event[:], one.entry[:], true
	if err := s.append(&one.request); err != nil {
		return e, err
	}
	return one.event[0], nil
}

// AppendAll is as Append of each, but all are stored or none, and after an error
// nothing is counted: the caller still has them.
func (s *Store) AppendAll(es []Event) ([]Event, error) {
	if len(es) == 0 {
		return nil, nil
	}
	r := &request{events: slices.Clone(es), entries: make([]entry, len(es))}
	if err := s.append(r); err != nil {
		return nil, err
	}
	return r.events, nil
}

// append completes the events of r and has them stored.
func (s *Store) append(r *request) error {
	r.asked, r.done = time.Now(), make(chan struct{})
	for i := range r.events {
		e, err := complete(r.events[i], s.opts.Now())
		if err != nil {
			return fmt.Errorf("append to audit store: %w", err)
		}
		r.events[i], r.entries[i].join = e, joinable(e)
		if r.entries[i].join {
			r.entries[i].key = keyOf(e)
		}
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return fmt.Errorf("append to audit store %s: %w", s.path, os.ErrClosed)
	}
	s.queue = append(s.queue, r)
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
	<-r.done
	if r.err != nil {
		return fmt.Errorf("append to audit store %s: %w", s.path, r.err)
	}
	return nil
}

// take returns what waits to be stored.
func (s *Store) take() []*request {
	s.mu.Lock()
	defer s.mu.Unlock()
	batch := s.queue
	s.queue = nil
	return batch
}

// Head is the chain's last event.
func (s *Store) Head() Head {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.health.Head
}

// Health tells how the store is.
func (s *Store) Health() Health {
	s.mu.Lock()
	h := s.health
	s.mu.Unlock()
	if err := s.sync.failing(); err != nil && h.Failing == "" {
		h.Failing = err.Error()
	}
	h.Bytes = fileSize(s.path) + fileSize(s.path+"-wal")
	if s.sink != nil {
		s.sink.report(&h)
	}
	return h
}

// Close stores what was asked for before it, chains the open repeats and closes
// the store, its sink and its subscriptions. A second Close does nothing.
func (s *Store) Close() error {
	s.closing.Do(func() {
		s.mu.Lock()
		s.closed = true
		s.mu.Unlock()
		close(s.stop)
		err := <-s.ended
		s.closeSubscriptions()
		if e := s.lock.Close(); err == nil {
			err = e
		}
		if err != nil {
			s.closeOK = fmt.Errorf("close audit store %s: %w", s.path, err)
		}
	})
	return s.closeOK
}

func fileSize(path string) int64 {
	info, err := os.Lstat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}
