package dial_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/sallyport/sallyport/dial"
)

// fakeConn is one end of a pipe that claims TCP addresses.
type fakeConn struct {
	net.Conn
	local, remote netip.AddrPort
	closed        *bool
}

func (c fakeConn) LocalAddr() net.Addr  { return net.TCPAddrFromAddrPort(c.local) }
func (c fakeConn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.remote) }
func (c fakeConn) Close() error         { *c.closed = true; return c.Conn.Close() }

// network is what a Dialer sees: names, and how each address answers.
type network struct {
	names   map[string][]string
	connect map[string]func(context.Context) error // by address; absent: refused
	local   string                                 // local address of every connection
	remote  string                                 // overrides the remote address

	mu    sync.Mutex
	tried []string
	conns []*bool // closed?
}

func (n *network) dialer() *dial.Dialer {
	return &dial.Dialer{Resolve: n.resolve, Connect: n.dial}
}

func (n *network) resolve(_ context.Context, host string) ([]netip.Addr, error) {
	answer, ok := n.names[host]
	if !ok {
		return nil, errors.New("no such host")
	}
	var addrs []netip.Addr
	for _, a := range answer {
		addrs = append(addrs, netip.MustParseAddr(a))
	}
	return addrs, nil
}

func (n *network) dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	n.mu.Lock()
	n.tried = append(n.tried, to.Addr().String())
	n.mu.Unlock()
	answer, ok := n.connect[to.Addr().String()]
	if !ok {
		return nil, errors.New("connection refused by " + to.String())
	}
	if err := answer(ctx); err != nil {
		return nil, err
	}
	c := fakeConn{local: netip.MustParseAddrPort("203.0.113.250:40000"), remote: to, closed: new(bool)}
	if n.local != "" {
		c.local = netip.MustParseAddrPort(n.local)
	}
	if n.remote != "" {
		c.remote = netip.MustParseAddrPort(n.remote)
	}
	var other net.Conn
	c.Conn, other = net.Pipe()
	_ = other.Close()
	n.mu.Lock()
	n.conns = append(n.conns, c.closed)
	n.mu.Unlock()
	return c, nil
}

func atOnce(context.Context) error { return nil }

func never(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

func after(d time.Duration) func(context.Context) error {
	return func(context.Context) error { time.Sleep(d); return nil } // fake time; deaf to cancelling
}

func (n *network) open() (open int) {
	for _, closed := range n.conns {
		if !*closed {
			open++
		}
	}
	return open
}
