package tunnel

import (
	"net"
	"os"
	"sync"
	"time"
)

// deadline is a time limit that can be moved while somebody waits for it, as
// net.Pipe has it.
type deadline struct {
	mu      sync.Mutex
	timer   *time.Timer
	expired chan struct{}
}

func newDeadline() deadline { return deadline{expired: make(chan struct{})} }

// set moves the limit to t; the zero Time removes it.
func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil && !d.timer.Stop() {
		<-d.expired // the timer's function is running or has run: let it close the old channel
	}
	d.timer = nil
	over := done(d.expired)
	if t.IsZero() {
		if over {
			d.expired = make(chan struct{})
		}
		return
	}
	if left := time.Until(t); left > 0 {
		if over {
			d.expired = make(chan struct{})
		}
		expired := d.expired
		d.timer = time.AfterFunc(left, func() { close(expired) })
		return
	}
	if !over {
		close(d.expired)
	}
}

// wait is closed when the limit is reached.
func (d *deadline) wait() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.expired
}

// ready says why an operation cannot begin, nil if it can.
func ready(closed chan struct{}, d *deadline) error {
	switch {
	case done(closed):
		return net.ErrClosed
	case done(d.wait()):
		return os.ErrDeadlineExceeded
	}
	return nil
}

func done(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
