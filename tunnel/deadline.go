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

// Sizes of chunks: a waiting stream holds a small one, one with much to carry
// uses big ones, the size of SSH's packets.
const (
	smallChunk = 4 << 10
	bigChunk   = 32 << 10
)

// chunk is data in a buffer that goes back to its pool.
type chunk struct {
	buf  *[]byte
	data []byte // the part of buf that is not consumed yet
}

// buffers are the chunks not in use, for all streams of a Client.
type buffers struct{ small, big sync.Pool }

func (b *buffers) get(big bool) chunk {
	pool, size := &b.small, smallChunk
	if big {
		pool, size = &b.big, bigChunk
	}
	if buf, ok := pool.Get().(*[]byte); ok {
		return chunk{buf: buf}
	}
	buf := make([]byte, size)
	return chunk{buf: &buf}
}

func (b *buffers) put(c chunk) {
	if len(*c.buf) == bigChunk {
		b.big.Put(c.buf)
		return
	}
	b.small.Put(c.buf)
}
