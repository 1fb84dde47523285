package main

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/origin"
	"github.com/sallyport/sallyport/sandbox"
)

// attempts gives the connections of one sandbox a method Process, by which the
// servers learn who made an attempt.
type attempts struct {
	finder  finder
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

	found   chan struct{}  // closed when process is there
	process *audit.Process // who made the connection
	asked   atomic.Bool
}

// take looks at once who made a connection: many close it soon.
func (a *attempts) take(c tcpConn) net.Conn {
	t := &attempt{tcpConn: c, finder: a.finder, found: make(chan struct{})}
	a.looking.Go(func() {
		defer close(t.found)
		t.process = t.find()
	})
	return t
}

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
	return t.finder.FindAccepted(addrPort(t.RemoteAddr()), addrPort(t.LocalAddr()), func() bool { return origin.Connected(raw) })
}

// attribute adds who sent a DNS query by UDP, which has no connection to tell.
func (a *attempts) attribute(e audit.Event) audit.Event {
	if e.Layer != audit.LayerDNS || e.Proto != "udp" || e.Lost > 0 || e.Process != nil {
		return e
	}
	src, errSrc := netip.ParseAddrPort(e.Src)
	dst, errDst := netip.ParseAddrPort(e.Dst)
	if errSrc == nil && errDst == nil {
		e.Process = a.finder.Find("udp", src, dst)
	}
	return e
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
