package tunnel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// Times that no setting changes.
const (
	defaultKeepAlive = 15 * time.Second
	hopTimeout       = 15 * time.Second       // for one hop: TCP, handshake and login
	defaultDialTime  = 20 * time.Second       // for a Dial, or the start of an Exec, whose context has no deadline
	minBackoff       = 250 * time.Millisecond // also the least time between two attempts
	maxBackoff       = 30 * time.Second       // between attempts while nobody waits
	waitedBackoff    = time.Second            // between attempts while a Dial waits
	permanentBackoff = 5 * time.Minute        // after a refused key or login: more would look like guessing
	permanentFresh   = time.Second            // such a refusal is repeated to a new Dial, not tried again
	steadyAfter      = 5 * time.Second        // a link that lived this long is made anew at once
)

// State is what a Client can say of itself.
type State struct {
	Up         bool      `json:"up"`
	Since      time.Time `json:"since"`                // of Up's last change; zero before the first attempt
	Reconnects int       `json:"reconnects"`           // links after the first
	LastError  string    `json:"last_error,omitempty"` // why the last link or attempt failed; empty: none did
}

// Client keeps one connection to a host, for all streams. Make it with New, let
// Run run, and Dial from any goroutine.
type Client struct {
	host Host
	hops []hop
	log  *slog.Logger
	bufs buffers
	wake chan struct{} // a Dial came while there was no link

	dialTCP func(ctx context.Context, addr string) (net.Conn, error) // to the first hop; tests replace it

	mu       sync.Mutex
	running  bool
	link     *link         // nil: none
	changed  chan struct{} // closed and made anew when link or lastErr changes
	attempts int           // that ended
	lastErr  error
	lastEnd  time.Time // of the last attempt
	waiting  int       // Dials without a link
	links    int       // made so far
	state    State
}

// New checks h and parses its keys; it does not connect. Both arguments are needed.
func New(h Host, log *slog.Logger) (*Client, error) {
	if log == nil {
		return nil, errors.New("tunnel: a logger is needed")
	}
	if err := h.check(); err != nil {
		return nil, err
	}
	if h.KeepAlive == 0 {
		h.KeepAlive = defaultKeepAlive
	}
	c := &Client{host: h, log: log.With("ssh", h.Name), wake: make(chan struct{}, 1), changed: make(chan struct{})}
	c.dialTCP = func(ctx context.Context, addr string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err != nil {
			return nil, err
		}
		return quickAck(conn), nil
	}
	for i, host := range h.hops() {
		hop, err := newHop(host, i > 0)
		if err != nil {
			return nil, err
		}
		c.hops = append(c.hops, hop)
	}
	return c, nil
}

// String names the host; it never prints keys.
func (c *Client) String() string { return c.host.String() }

// State says whether the link is up.
func (c *Client) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// Run keeps the link until ctx ends, and returns nil once everything that it
// started has ended. It runs once at a time.
func (c *Client) Run(ctx context.Context) error {
	c.mu.Lock()
	if c.running {
		c.mu.Unlock()
		return fmt.Errorf("ssh link to %s: already running", c.host.Name)
	}
	c.running = true
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.running = false
		c.mu.Unlock()
	}()
	fails := 0
	for ctx.Err() == nil {
		start := time.Now()
		l, err := c.connect(ctx)
		if err == nil {
			c.up(l)
			err = c.hold(ctx, l)
			if time.Since(start) >= steadyAfter {
				fails = 0
				continue
			}
		} else if ctx.Err() == nil {
			c.failed(err)
		}
		c.pause(ctx, fails, err)
		fails++
	}
	return nil
}

// connect goes from hop to hop.
func (c *Client) connect(ctx context.Context) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, hopTimeout*time.Duration(len(c.hops)))
	defer cancel()
	l := newLink(c.host, &c.bufs)
	for i := range c.hops {
		if err := c.connectHop(ctx, l, i); err != nil {
			l.fail(err)
			l.wait()
			return nil, err
		}
	}
	return l, nil
}

func (c *Client) connectHop(ctx context.Context, l *link, i int) (err error) {
	h := c.hops[i]
	var raw net.Conn
	if i == 0 {
		raw, err = c.dialTCP(ctx, h.host.address())
	} else {
		raw, err = l.dial(ctx, c.hops[i-1].host.Name, target{"tcp", h.host.address()})
	}
	if err != nil {
		return fmt.Errorf("connect to %s: %w", h.host, err)
	}
	if raw, err = l.add(raw); err != nil {
		return err
	}
	conn, chans, reqs, err := h.handshake(ctx, raw)
	if err != nil {
		return err
	}
	l.serve(conn, chans, reqs)
	return nil
}

// hold stays with the link until it is down and all of it has ended.
func (c *Client) hold(ctx context.Context, l *link) error {
	stop := context.AfterFunc(ctx, func() { l.fail(context.Cause(ctx)) })
	defer stop()
	l.keepAlive(c.host.KeepAlive)
	err := l.cause()
	c.mu.Lock()
	c.link = nil
	c.lastErr, c.lastEnd = err, time.Now()
	c.state.Up, c.state.Since, c.state.LastError = false, c.lastEnd, err.Error()
	c.broadcast()
	c.mu.Unlock()
	if ctx.Err() == nil {
		c.log.Warn("ssh link lost", "error", err)
	}
	l.wait()
	return err
}

// up publishes a new link.
func (c *Client) up(l *link) {
	c.log.Info("ssh link up", "host", c.host)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.link = l
	c.attempts++
	c.links++
	c.state = State{Up: true, Since: time.Now(), Reconnects: c.links - 1, LastError: c.state.LastError}
	c.broadcast()
}

// failed publishes why an attempt failed. The same failure is logged once.
func (c *Client) failed(err error) {
	c.mu.Lock()
	repeated := c.lastErr != nil && c.lastErr.Error() == err.Error()
	c.attempts++
	c.lastErr, c.lastEnd = err, time.Now()
	c.state.LastError = err.Error()
	if c.state.Since.IsZero() {
		c.state.Since = c.lastEnd
	}
	c.broadcast()
	c.mu.Unlock()
	if !repeated {
		c.log.Warn("ssh link not made", "error", err)
	}
}

// broadcast wakes the Dials that wait. c.mu is held.
func (c *Client) broadcast() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// pause waits before the next attempt: less when a Dial waits, but never so
// little that a container could make us hammer the host.
func (c *Client) pause(ctx context.Context, fails int, err error) {
	delay := backoff(fails, rand.Float64())
	c.mu.Lock()
	waiting := c.waiting > 0
	c.mu.Unlock()
	switch {
	case permanent(err):
		delay = permanentBackoff
	case waiting:
		delay = min(delay, waitedBackoff)
	}
	floor, full := time.NewTimer(minBackoff), time.NewTimer(delay)
	defer floor.Stop()
	defer full.Stop()
	select {
	case <-full.C:
	case <-ctx.Done():
	case <-c.wake:
		select {
		case <-floor.C:
		case <-ctx.Done():
		}
	}
}

// backoff is the wait after n failures in a row: doubling, and with r from 0 to
// 1 for jitter between half and all of that.
func backoff(n int, r float64) time.Duration {
	d := maxBackoff
	if n < 7 { // 250 ms << 7 is above the limit
		d = minBackoff << n
	}
	return d/2 + time.Duration(r*float64(d/2))
}
