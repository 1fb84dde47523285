package runner

import (
	"context"
	"sync"
	"time"
)

// activity is when a server was last at work: while a request that counts is
// unanswered, and at each byte of one.
type activity struct {
	mu   sync.Mutex
	busy int // requests under way
	last time.Time
}

func (a *activity) begin() { a.change(1) }
func (a *activity) touch() { a.change(0) }
func (a *activity) done()  { a.change(-1) }

func (a *activity) change(by int) {
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.busy += by
	a.last = now
}

// left is how long the server may yet stay idle; zero or less: no longer.
func (a *activity) left(limit time.Duration) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.busy > 0 {
		return limit
	}
	return limit - time.Since(a.last)
}

// waitIdle returns true once the server has been idle for limit, false when ctx
// ends. A server that is not ready yet is loading, which is no idleness: the time
// counts from when ready first says so.
func (a *activity) waitIdle(ctx context.Context, limit time.Duration, ready func(context.Context) bool) bool {
	a.touch()
	loaded := false
	for {
		timer := time.NewTimer(max(a.left(limit), time.Millisecond))
		select {
		case <-ctx.Done():
			timer.Stop()
			return false
		case <-timer.C:
		}
		if a.left(limit) > 0 {
			continue
		}
		if loaded {
			return true
		}
		loaded = ready(ctx)
		a.touch()
	}
}
