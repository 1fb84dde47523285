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
	ruleStray    = "stray"     // the wall's: a segment of no connection
	ruleFrame    = "frame"     // the wall's: no IP packet to the gateway
	ruleHalfOpen = "half-open" // ours: and the connection never came
	// handshakeTime is how long a connection may take from its first segment to
	// the gateway's Accept, and how much longer than so far where its sender tries
	// again: that doubles its pauses.
	handshakeTime = 5 * time.Second
	maxHalfOpen   = 1 << 16 // connections remembered of one sandbox, begun and accepted each
	// tryTime is how long a sender may go on trying before its attempt is told: an
	// honest one, with Linux's six retransmissions, has given up after 127 s.
	tryTime = 130 * time.Second
	// tellTime is how long the wall may take to tell the first segment of a
	// connection that was accepted: while the record fails it has to wait.
	tellTime = time.Minute
	maxLook  = 1 << 10 // accepted connections looked at for one to forget
)

// halfOpen finds the connections that a sandbox began and that did not come: not
// completed, as by who crafts segments, or dropped at a full queue, or accepted by
// the kernel when a gateway died. It compares the first segments that the wall
// tells with the connections that were accepted, either of which may come first,
// and their number with what the wall's rule counted.
type halfOpen struct {
	mu       sync.Mutex
	begun    map[pair]*begun
	accepted map[pair]accepted

	settled   uint64 // first segments of which it is known what became of them
	based     bool   // those of earlier gateways are in settled
	latest    uint64 // first segments, as the wall counts them
	counted   uint64 // the same, as it was at countedAt
	countedAt time.Time
	waiting   bool // until counted can be looked at
}

// pair are the ends of a connection, as the sandbox sees them.
type pair struct{ src, dst netip.AddrPort }

// begun is what came of one pair that was not accepted.
type begun struct {
	first, last time.Time
	sequence    uint32 // of the last: a retransmission has the same
	attempts    int64
}

// accepted is what was accepted of one pair: more than one connection, where the
// same ports were used again before the wall had told of the first.
type accepted struct {
	since    time.Time // when the last was accepted
	at       time.Time // the same, or when a first segment came last, whichever was later
	untold   int       // whose first segment has not come
	sequence uint32    // of the first segment that came last
	matched  bool      // one has come
}

func newHalfOpen() *halfOpen {
	return &halfOpen{begun: map[pair]*begun{}, accepted: map[pair]accepted{}}
}

// begin takes the first segment of a connection. False: there are too many to
// remember this one.
func (o *halfOpen) begin(p wire.Packet, now time.Time) bool {
	key, h := pairOf(p)
	at := time.Unix(0, p.Time)
	o.mu.Lock()
	defer o.mu.Unlock()
	if a, ok := o.accepted[key]; ok {
		again := a.matched && a.sequence == h.sequence
		if again || a.untold > 0 {
			if again {
				o.settled++ // sent once more
			} else {
				a.untold--
			}
			a.at, a.sequence, a.matched = now, h.sequence, true
			o.accepted[key] = a
			return true
		}
	}
	b := o.begun[key]
	switch {
	case b == nil && len(o.begun) >= maxHalfOpen:
		o.settled++
		return false
	case b == nil:
		o.begun[key] = &begun{at, at, h.sequence, 1}
	case b.sequence == h.sequence:
		b.last = at
		o.settled++ // sent once more
	default:
		b.last, b.sequence = at, h.sequence
		b.attempts++
	}
	return true
}

// belongs reports whether a stray segment is of a connection that is known: its
// reset, say, which came after its end. Then it is no attempt of its own.
func (o *halfOpen) belongs(p wire.Packet) bool {
	key, _ := pairOf(p)
	o.mu.Lock()
	defer o.mu.Unlock()
	_, ok := o.accepted[key]
	return ok || o.begun[key] != nil
}

// accept takes a connection that was accepted.
func (o *halfOpen) accept(c net.Conn, now time.Time) {
	key, ok := ends(c)
	if !ok {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.settled++
	a, again := o.accepted[key]
	a.since, a.at = now, now
	if b := o.begun[key]; b != nil {
		a.matched, a.sequence = true, b.sequence
		if b.attempts--; b.attempts == 0 {
			delete(o.begun, key)
		}
	} else {
		a.untold++
	}
	if again || o.room(now) {
		o.accepted[key] = a
	}
}

// room reports whether another connection that was accepted can be remembered, and
// makes it so where it can: of some connections, one whose first segment has come
// is forgotten, or else one whose segment should have. o.mu is held.
func (o *halfOpen) room(now time.Time) bool {
	if len(o.accepted) < maxHalfOpen {
		return true
	}
	var late pair
	looked := 0
	for key, a := range o.accepted { // in an order of chance
		if a.untold == 0 {
			delete(o.accepted, key)
			return true
		}
		if now.Sub(a.at) >= handshakeTime {
			late = key
		}
		if looked++; looked == maxLook {
			break
		}
	}
	delete(o.accepted, late)
	return len(o.accepted) < maxHalfOpen
}

// drop takes back a connection that was accepted: no server will record it.
func (o *halfOpen) drop(c net.Conn, now time.Time) {
	key, ok := ends(c)
	if !ok {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.settled--
	a := o.accepted[key]
	if a.untold == 0 && a.matched { // else its first segment is still to be told
		o.begun[key] = &begun{now, now, a.sequence, 1}
	}
	if a.untold--; a.untold > 0 {
		o.accepted[key] = a
	} else {
		delete(o.accepted, key)
	}
}

// overdue forgets and returns the attempts whose connection did not come: the
// time of the first, and how many.
func (o *halfOpen) overdue(now time.Time) map[pair]begun {
	o.mu.Lock()
	defer o.mu.Unlock()
	due := map[pair]begun{}
	for key, b := range o.begun {
		if tried := b.last.Sub(b.first); tried >= tryTime || now.Sub(b.last) >= handshakeTime+tried {
			due[key] = *b
			o.settled += uint64(b.attempts)
			delete(o.begun, key)
		}
	}
	for key, a := range o.accepted {
		if age := now.Sub(a.at); age >= tellTime || a.untold == 0 && (age >= handshakeTime || now.Sub(a.since) >= tryTime) {
			delete(o.accepted, key)
		}
	}
	return due
}

// count takes the wall's number, and how many of it earlier gateways knew about.
func (o *halfOpen) count(b wire.Begun) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.based {
		o.based = true
		o.settled += b.Settled
	}
	o.latest = b.Segments
}

// lost is how many attempts there were of which nothing is known, and will not be
// any more. Each is returned once.
func (o *halfOpen) lost(now time.Time) (n int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.waiting && o.latest != o.counted {
		o.counted, o.countedAt, o.waiting = o.latest, now, true
	}
	if !o.waiting || now.Sub(o.countedAt) < 2*handshakeTime {
		return 0
	}
	o.waiting = false
	known := o.settled
	for _, b := range o.begun {
		known += uint64(b.attempts)
	}
	if o.counted > known {
		n = int64(o.counted - known)
		o.settled += uint64(n)
	}
	return n
}

// rest is how many attempts there were of which nothing is known now. They are
// settled then.
func (o *halfOpen) rest() (n int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.latest > o.settled {
		n = int64(o.latest - o.settled)
		o.settled = o.latest
	}
	return n
}

// settledBefore is how many first segments the record has, less young ones, which
// it may not have yet.
func (o *halfOpen) settledBefore(young int) uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.settled - min(uint64(young), o.settled)
}

// rebase begins anew, for a wall that may count from zero.
func (o *halfOpen) rebase() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.settled, o.based, o.counted, o.latest, o.waiting = 0, false, 0, 0, false
}

// pairOf is the pair that a packet claims to be of.
func pairOf(p wire.Packet) (pair, header) {
	h, _ := parseHeader(p.Data)
	return pair{netip.AddrPortFrom(h.src, h.sport), netip.AddrPortFrom(h.dst, h.dport)}, h
}

// ends are those of a TCP connection.
func ends(c net.Conn) (p pair, ok bool) {
	src, okSrc := c.RemoteAddr().(*net.TCPAddr)
	dst, okDst := c.LocalAddr().(*net.TCPAddr)
	if !okSrc || !okDst {
		return p, false
	}
	return pair{unmapped(src.AddrPort()), unmapped(dst.AddrPort())}, true
}

func unmapped(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}
