package sandbox

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"
)

// The ports of a sandbox's own gateway address, as the container sees them.
const (
	ModelPort = 8000
	ProxyPort = 3128
	DNSPort   = 53
)

// youngTime is how long the record may take to have something of a connection.
const youngTime = 10 * time.Second

// Listeners are the connections of one sandbox, told apart by the address that
// the container wanted to reach. Each must be served.
type Listeners struct {
	Model     net.Listener // the sandbox's gateway address, ModelPort
	Proxy     net.Listener // the sandbox's gateway address, ProxyPort
	DNS       net.Listener // port 53 of any address
	Intercept net.Listener // everything else
}

// mux accepts from one sandbox's transparent listener.
type mux struct {
	gates []netip.Addr
	Listeners
	queues   []*queue
	accepted func(net.Conn) // told of each connection
	dropped  func(net.Conn) // and of each that no server took after all

	mu    sync.Mutex
	conns map[*conn]struct{}
}

func newMux(addr net.Addr, gates ...netip.Addr) *mux {
	m := &mux{gates: gates, conns: map[*conn]struct{}{}, accepted: func(net.Conn) {}, dropped: func(net.Conn) {}}
	next := func() *queue {
		q := &queue{addr: addr, conns: make(chan net.Conn), done: make(chan struct{})}
		m.queues = append(m.queues, q)
		return q
	}
	m.Listeners = Listeners{Model: next(), Proxy: next(), DNS: next(), Intercept: next()}
	return m
}

// serve accepts from l, a *net.TCPListener, until ctx ends or l fails; then it resets what is open, so that
// clients see an end and no socket keeps the wall's namespace alive.
func (m *mux) serve(ctx context.Context, l net.Listener) error {
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { l.Close(); close(closed) })
	defer m.closeAll()
	defer func() {
		if stop() {
			l.Close()
		} else {
			<-closed // Accept may return before the socket is gone
		}
	}()
	for {
		c, err := l.Accept()
		switch {
		case err == nil:
			tracked := m.track(c.(*net.TCPConn))
			m.accepted(c)
			m.dispatch(ctx, tracked)
		case ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			return nil
		case isShortage(err):
			pause(ctx)
		default:
			return err
		}
	}
}

func (m *mux) dispatch(ctx context.Context, c *conn) {
	q := m.target(c.LocalAddr().(*net.TCPAddr).AddrPort()).(*queue)
	select {
	case q.conns <- c:
		return
	case <-q.done:
	case <-ctx.Done():
	}
	m.dropped(c)
	c.SetLinger(0) // a reset; closing reports what matters
	c.Close()
}

func (m *mux) target(wanted netip.AddrPort) net.Listener {
	if wanted.Port() == DNSPort {
		return m.DNS
	}
	for _, gate := range m.gates {
		if gate != wanted.Addr().Unmap() {
			continue
		}
		switch wanted.Port() {
		case ModelPort:
			return m.Model
		case ProxyPort:
			return m.Proxy
		}
	}
	return m.Intercept
}

func (m *mux) track(c *net.TCPConn) *conn {
	tracked := &conn{TCPConn: c, mux: m, since: time.Now()}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.conns[tracked] = struct{}{}
	return tracked
}

// young counts the open connections that were accepted lately.
func (m *mux) young(now time.Time) (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for c := range m.conns {
		if now.Sub(c.since) < youngTime {
			n++
		}
	}
	return n
}

func (m *mux) closeAll() {
	for _, q := range m.queues {
		q.Close()
	}
	m.mu.Lock()
	open := m.conns
	m.conns = map[*conn]struct{}{}
	m.mu.Unlock()
	for c := range open {
		c.SetLinger(0) // a reset; closing reports what matters
		c.TCPConn.Close()
	}
}

// conn is a connection from a sandbox. LocalAddr is the address it wanted.
type conn struct {
	*net.TCPConn
	mux   *mux
	since time.Time
}

// NetConn is the connection without what forgets it.
func (c *conn) NetConn() net.Conn { return c.TCPConn }

// Close forgets and closes the connection.
func (c *conn) Close() error {
	c.mux.mu.Lock()
	delete(c.mux.conns, c)
	c.mux.mu.Unlock()
	return c.TCPConn.Close()
}

// queue is a net.Listener fed by mux.
type queue struct {
	addr  net.Addr
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

// Accept waits for the next connection; net.ErrClosed after Close.
func (q *queue) Accept() (net.Conn, error) {
	select {
	case c := <-q.conns:
		return c, nil
	case <-q.done:
		return nil, net.ErrClosed
	}
}

// Close ends Accept.
func (q *queue) Close() error {
	q.once.Do(func() { close(q.done) })
	return nil
}

// Addr is the transparent listener's address.
func (q *queue) Addr() net.Addr { return q.addr }
