package web

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// boundedListener accepts max connections at a time and closes what is beyond.
type boundedListener struct {
	net.Listener
	max  int32
	open atomic.Int32
}

// Accept returns the next connection for which there is room.
func (l *boundedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.open.Add(1) <= l.max {
			return &boundedConn{Conn: c, open: &l.open}, nil
		}
		l.open.Add(-1)
		c.Close()
	}
}

type boundedConn struct {
	net.Conn
	open *atomic.Int32
	once sync.Once
}

// Close closes the connection and makes room for another.
func (c *boundedConn) Close() error {
	c.once.Do(func() { c.open.Add(-1) })
	return c.Conn.Close()
}

// Wrong tokens: so many at once, and one more each so often.
const (
	guessBurst = 10
	guessEvery = 6 * time.Second
)

// limiter is a token bucket for wrong guesses. A right token is never held up:
// with 256 random bits guessing is hopeless at any rate, and a limit that could
// shut the owner out would be a weapon of everybody else on this machine. The
// zero limiter is full.
type limiter struct {
	mu   sync.Mutex
	used float64
	last time.Time
}

// allow takes one guess, and says whether there was one left.
func (l *limiter) allow(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if since := now.Sub(l.last); since > 0 {
		l.used = max(0, l.used-float64(since)/float64(guessEvery))
		l.last = now
	}
	if l.used > guessBurst-1 {
		return false
	}
	l.used++
	return true
}
