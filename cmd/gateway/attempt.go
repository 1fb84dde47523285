package main

import (
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/origin"
	"github.com/sallyport/sallyport/sandbox"
)

// sameFor is how long who has a connection is who had it when it was asked last. A
// socket can be handed to another process at any time, before a look too, so a look
// is no better than that; and a client that makes thousands of requests a second on
// one connection has them not looked for one by one.
const sameFor = 20 * time.Millisecond

// attempts gives the connections of one sandbox a method Process, by which the
// servers learn who made an attempt.
type attempts struct {
	finder  finder
	number  func() uint64  // a number for the next connection; nil: none has one
	looking sync.WaitGroup // for the connections that were just accepted
}

// tcpConn is what the servers use of a connection.
type tcpConn interface {
	net.Conn
	syscall.Conn
	CloseRead() error
	CloseWrite() error
	SetLinger(sec int) error
}

// watch returns l with such connections.
func (a *attempts) watch(l net.Listener) net.Listener { return watched{l, a} }

type watched struct {
	net.Listener
	attempts *attempts
}

func (w watched) Accept() (net.Conn, error) {
	c, err := w.Listener.Accept()
	if err != nil {
		return nil, err
	}
	tcp, ok := c.(tcpConn)
	if !ok {
		return c, nil // its events have no process
	}
	return w.attempts.take(tcp), nil
}

// attempt is one connection.
type attempt struct {
	tcpConn
	finder finder
	number uint64

	found   chan struct{}  // closed when process is there
	process *audit.Process // who made the connection
	asked   atomic.Bool
	last    atomic.Pointer[said]
}

// said is who had a connection, and when that was asked.
type said struct {
	process *audit.Process
	at      time.Time
}

// take looks at once who made a connection: many close it soon.
func (a *attempts) take(c tcpConn) net.Conn {
	t := &attempt{tcpConn: c, finder: a.finder, found: make(chan struct{})}
	if a.number != nil {
		t.number = a.number()
	}
	a.looking.Go(func() {
		defer close(t.found)
		t.process = t.find()
	})
	return t
}

// NetConn is the connection below.
func (t *attempt) NetConn() net.Conn { return t.tcpConn }

// Process tells who makes the attempt that begins: for a connection's first one
// who made the connection, later who has it now.
func (t *attempt) Process() *audit.Process {
	if !t.asked.Swap(true) {
		<-t.found
		return t.process
	}
	return t.find()
}

func (t *attempt) find() *audit.Process {
	raw, err := t.SyscallConn()
	if err != nil {
		return &audit.Process{Unknown: origin.Gone}
	}
	open := func() bool { return origin.Connected(raw) }
	now := time.Now()
	if last := t.last.Load(); last != nil && now.Sub(last.at) < sameFor && open() {
		return last.process
	}
	p := t.finder.FindAccepted(t.number, addrPort(t.RemoteAddr()), addrPort(t.LocalAddr()), open)
	if p.Unknown == "" {
		t.last.Store(&said{p, now})
	}
	return p
}

// attribute adds who sent a DNS query by UDP, which has no connection to tell.
func (a *attempts) attribute(e audit.Event) audit.Event {
	if r, ok := routeOf(e); ok {
		e.Process = a.sender(r)
	}
	return e
}

// attributeAll is attribute of each of events that came at once. Those of one socket
// share an answer; all others are looked for at the same time, so that they can
// share a look.
func (a *attempts) attributeAll(es []audit.Event) {
	routes, found := make([]route, len(es)), map[route]*audit.Process{}
	for i, e := range es {
		routes[i], _ = routeOf(e)
		found[routes[i]] = nil
	}
	delete(found, route{}) // of those who are not looked for
	var looking sync.WaitGroup
	var mu sync.Mutex // guards found
	for _, r := range slices.Collect(maps.Keys(found)) {
		looking.Go(func() {
			p := a.sender(r)
			mu.Lock()
			defer mu.Unlock()
			found[r] = p
		})
	}
	looking.Wait()
	for i, r := range routes {
		if r != (route{}) {
			es[i].Process = found[r]
		}
	}
}

// route is where a query came from and where it went.
type route struct{ src, dst string }

// routeOf says whether who sent it has to be looked for.
func routeOf(e audit.Event) (r route, ok bool) {
	if e.Layer != audit.LayerDNS || e.Proto != "udp" || e.Lost > 0 || e.Process != nil {
		return route{}, false
	}
	return route{e.Src, e.Dst}, true
}

// sender is who sent a datagram; nil: that is no route.
func (a *attempts) sender(r route) *audit.Process {
	src, errSrc := netip.ParseAddrPort(r.src)
	dst, errDst := netip.ParseAddrPort(r.dst)
	if errSrc != nil || errDst != nil {
		return nil
	}
	return a.finder.Find("udp", src, dst)
}

// addrPort returns the zero AddrPort for what is no TCP address.
func addrPort(a net.Addr) netip.AddrPort {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return tcp.AddrPort()
	}
	return netip.AddrPort{}
}

const maxFinders = 1024

// finders keeps the Finder of each sandbox, as long as its holder is the same.
type finders struct {
	mu  sync.Mutex
	all map[string]finderOf
}

type finderOf struct {
	origin.Sandbox
	*origin.Finder
}

// of returns the Finder of a sandbox. It is made at once when a holder connects,
// so that its pid is still its own.
func (f *finders) of(id string, s origin.Sandbox) *origin.Finder {
	f.mu.Lock()
	defer f.mu.Unlock()
	if known, ok := f.all[id]; ok && known.Sandbox == s {
		return known.Finder
	}
	if f.all == nil || len(f.all) >= maxFinders { // those of sandboxes that have ended
		f.all = map[string]finderOf{}
	}
	made := origin.New(s)
	f.all[id] = finderOf{s, made}
	return made
}

// find says who sent a packet of a sandbox.
func (g *gateway) find(id string, o sandbox.Origin, proto string, src, dst netip.AddrPort) *audit.Process {
	return g.lookout.of(id, origin.Sandbox(o)).Find(proto, src, dst)
}
