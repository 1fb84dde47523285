package audit

import (
	"sync/atomic"
	"time"
)

// tellEvery is how often subscribers are told of repeats that go on.
const tellEvery = time.Second

// Subscription is a live view of what a Store stores.
type Subscription struct {
	// C gives each event after its commit. Repeats come when their count changes,
	// at most once a second, with Open set, and once more when they end. Closed by
	// Close, of either.
	C <-chan Event

	c      chan Event
	store  *Store
	missed atomic.Int64
}

// Subscribe begins a subscription with room for so many events (at least one)
// that its reader has not taken yet. What finds no room is missed: the store
// never waits.
func (s *Store) Subscribe(buffer int) *Subscription {
	c := make(chan Event, max(buffer, 1))
	sub := &Subscription{C: c, c: c, store: s}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		close(c)
		return sub
	}
	s.subs[sub] = struct{}{}
	return sub
}

// Missed is how many events a reader that was too slow did not get.
func (s *Subscription) Missed() int64 { return s.missed.Load() }

// Close ends it. A second Close does nothing.
func (s *Subscription) Close() {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	s.end()
}

// end closes the channel, once; the store's mu is held.
func (s *Subscription) end() {
	if _, open := s.store.subs[s]; open {
		delete(s.store.subs, s)
		close(s.c)
	}
}

func (s *Store) closeSubscriptions() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for sub := range s.subs {
		sub.end()
	}
}

func (s *Store) subscribed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.subs) > 0
}

func (s *Store) publish(events []Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for sub := range s.subs {
		for _, e := range events {
			select {
			case sub.c <- e:
			default:
				sub.missed.Add(1)
			}
		}
	}
}

// tell publishes the repeats that changed, at most once in tellEvery.
func (w *writer) tell(now time.Time) {
	if now.Sub(w.told) < tellEvery || w.windows.rows == 0 || !w.s.subscribed() {
		return
	}
	w.told = now
	var changed []Event
	for _, win := range w.windows.order {
		if win.changed && win.stored {
			win.changed = false
			e := *win.repeats
			e.Open = true
			changed = append(changed, e)
		}
	}
	w.s.publish(changed)
}
