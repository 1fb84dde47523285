package audit

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"
)

// What is committed is on the disk after syncAfter and the time that the disk
// takes, and nothing more is acknowledged while something older than syncWithin
// is not.
const (
	syncAfter  = 50 * time.Millisecond
	syncWithin = 100 * time.Millisecond
)

// syncer makes commits last through a power loss: it syncs the write-ahead log
// soon after they were made, many at once.
type syncer struct {
	sync func(*os.File) error // fdatasync

	mu      sync.Mutex
	cond    *sync.Cond
	file    *os.File  // the log; nil: none
	oldest  time.Time // of the commits that no sync has begun for; zero: none
	syncing time.Time // the oldest commit that a running sync is for; zero: none runs
	timer   *time.Timer
	err     error // since the last sync that went well, or the last whole checkpoint
}

func newSyncer() *syncer {
	s := &syncer{sync: func(f *os.File) error { return syscall.Fdatasync(int(f.Fd())) }}
	s.cond = sync.NewCond(&s.mu)
	return s
}

// use changes the file; nil: none. It waits for a running sync.
func (s *syncer) use(f *os.File) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.syncing.IsZero() {
		s.cond.Wait()
	}
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
	old := s.file
	s.file, s.oldest = f, time.Time{}
	if old == nil {
		return nil
	}
	return old.Close()
}

// committed says that a transaction was committed at now.
func (s *syncer) committed(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.oldest.IsZero() {
		s.oldest = now
	}
	if s.timer == nil && s.syncing.IsZero() {
		s.timer = time.AfterFunc(syncAfter, s.run)
	}
}

// run syncs once, and arms the timer again for what came meanwhile.
func (s *syncer) run() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.timer = nil
	if s.file == nil || s.oldest.IsZero() || !s.syncing.IsZero() {
		return
	}
	file := s.file
	s.syncing, s.oldest = s.oldest, time.Time{}
	s.mu.Unlock()
	err := s.sync(file)
	s.mu.Lock()
	s.syncing = time.Time{}
	if err != nil {
		s.err = fmt.Errorf("sync %s: %w: %w", file.Name(), err, errSync)
	}
	if !s.oldest.IsZero() {
		s.timer = time.AfterFunc(max(syncAfter-time.Since(s.oldest), 0), s.run)
	}
	s.cond.Broadcast()
}

// wait returns when no commit older than syncWithin waits for the disk.
func (s *syncer) wait() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.syncing.IsZero() && time.Since(s.syncing) > syncWithin {
		s.cond.Wait()
	}
}

var errSync = errors.New("the last events may not be on the disk")

// failing is the error of the last sync; nil: it went well.
func (s *syncer) failing() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// recovered says that all commits are on the disk by another way.
func (s *syncer) recovered() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = nil
}
