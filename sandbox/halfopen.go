package sandbox

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/sallyport/sallyport/wall/wire"
)

const (
	ruleSYN      = "syn"       // the wall's: the first segment of a connection went to the gateway's listener
	ruleHalfOpen = "half-open" // ours: and the connection never came
	// handshakeTime is how long a connection may take from its first segment to
	// the gateway's Accept. The kernel itself does not wait for a sandbox that
	// answers no SYN-ACK.
	handshakeTime = 5 * time.Second
	maxHalfOpen   = 4096 // first segments remembered of one sandbox
)

// halfOpen finds the connections that a sandbox began and did not complete, as
// who crafts segments does: the listener never tells of them. It compares the
// first segments that the wall reports with the connections that were accepted;
// either may come first.
type halfOpen struct {
	mu       sync.Mutex
	begun    map[pair]wire.Packet
	accepted map[pair]time.Time
}

// pair are the ends of a connection, as the sandbox sees them.
type pair struct{ src, dst netip.AddrPort }

func newHalfOpen() *halfOpen {
	return &halfOpen{begun: map[pair]wire.Packet{}, accepted: map[pair]time.Time{}}
}

// begin takes the first segment of a connection. False: there are too many to
// remember this one.
func (o *halfOpen) begin(p wire.Packet) bool {
	h, _ := parseHeader(p.Data)
	key := pair{netip.AddrPortFrom(h.src, h.sport), netip.AddrPortFrom(h.dst, h.dport)}
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, ok := o.accepted[key]; ok {
		delete(o.accepted, key)
		return true
	}
	if _, again := o.begun[key]; again {
		return true // sent once more: it keeps the first one's time
	}
	if len(o.begun) >= maxHalfOpen {
		return false
	}
	o.begun[key] = p
	return true
}

// accept takes a connection that was accepted.
func (o *halfOpen) accept(c net.Conn, now time.Time) {
	src, okSrc := c.RemoteAddr().(*net.TCPAddr)
	dst, okDst := c.LocalAddr().(*net.TCPAddr)
	if !okSrc || !okDst {
		return
	}
	key := pair{unmapped(src.AddrPort()), unmapped(dst.AddrPort())}
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, ok := o.begun[key]; ok {
		delete(o.begun, key)
	} else if len(o.accepted) < maxHalfOpen {
		o.accepted[key] = now
	}
}

// overdue forgets and returns the first segments whose connection did not come.
func (o *halfOpen) overdue(now time.Time) []wire.Packet {
	o.mu.Lock()
	defer o.mu.Unlock()
	var due []wire.Packet
	for key, p := range o.begun {
		if now.Sub(time.Unix(0, p.Time)) >= handshakeTime {
			p.Rule = ruleHalfOpen
			due = append(due, p)
			delete(o.begun, key)
		}
	}
	for key, at := range o.accepted {
		if now.Sub(at) >= handshakeTime {
			delete(o.accepted, key)
		}
	}
	return due
}

func unmapped(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}
