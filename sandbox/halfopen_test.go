package sandbox

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/sallyport/sallyport/wall/wire"
)

// connected is a connection of which only the addresses matter.
type connected struct {
	net.Conn
	src, dst netip.AddrPort
}

func (c connected) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.src) }
func (c connected) LocalAddr() net.Addr  { return net.TCPAddrFromAddrPort(c.dst) }

func syn(at time.Time, src, dst netip.AddrPort) wire.Packet {
	data := make([]byte, 40)
	data[0], data[9] = 0x45, protoTCP
	copy(data[12:], src.Addr().AsSlice())
	copy(data[16:], dst.Addr().AsSlice())
	binary.BigEndian.PutUint16(data[20:], src.Port())
	binary.BigEndian.PutUint16(data[22:], dst.Port())
	return wire.Packet{Time: at.UnixNano(), Rule: ruleSYN, Data: data}
}

// numbered is the first segment of a connection with a sequence number.
func numbered(at time.Time, src, dst netip.AddrPort, sequence byte) wire.Packet {
	p := syn(at, src, dst)
	p.Data[27] = sequence
	return p
}

func attempts(due map[pair]begun) (n int64) {
	for _, b := range due {
		n += b.attempts
	}
	return n
}

// Each case ends with the attempts that are overdue, and with the segments that are
// settled once these are recorded.
func TestHalfOpen(t *testing.T) {
	now := time.Unix(1000, 0)
	src := netip.MustParseAddrPort("10.213.0.0:40000")
	dst := netip.MustParseAddrPort("203.0.113.10:443")
	mapped := connected{src: netip.AddrPortFrom(netip.AddrFrom16(src.Addr().As16()), src.Port()), dst: dst}
	for _, c := range []struct {
		name    string
		do      func(o *halfOpen)
		due     int64
		settled uint64
	}{
		{"never completed", func(o *halfOpen) { o.begin(syn(now, src, dst), now) }, 1, 1},
		{"sent three times", func(o *halfOpen) {
			for range 3 {
				o.begin(syn(now, src, dst), now)
			}
		}, 1, 3},
		{"accepted", func(o *halfOpen) { o.begin(syn(now, src, dst), now); o.accept(mapped, now) }, 0, 1},
		{"sent twice and accepted", func(o *halfOpen) {
			o.begin(syn(now, src, dst), now)
			o.begin(syn(now, src, dst), now)
			o.accept(mapped, now)
		}, 0, 2},
		{"accepted before the wall told", func(o *halfOpen) { o.accept(mapped, now); o.begin(syn(now, src, dst), now) }, 0, 1},
		{"sent once more, told after it was accepted", func(o *halfOpen) {
			o.accept(mapped, now)
			o.begin(syn(now, src, dst), now)
			o.begin(syn(now, src, dst), now)
		}, 0, 2},
		{"the same ports again, not completed", func(o *halfOpen) {
			o.accept(mapped, now)
			o.begin(numbered(now, src, dst, 1), now)
			o.begin(numbered(now, src, dst, 2), now)
		}, 1, 2},
		{"the same ports again, both accepted before the wall told", func(o *halfOpen) {
			o.accept(mapped, now)
			o.accept(mapped, now)
			o.begin(numbered(now, src, dst, 1), now)
			o.begin(numbered(now, src, dst, 1), now) // sent once more
			o.begin(numbered(now, src, dst, 2), now)
		}, 0, 3},
		{"the same ports thrice, two accepted before the wall told", func(o *halfOpen) {
			o.accept(mapped, now)
			o.accept(mapped, now)
			for i := range 3 {
				o.begin(numbered(now, src, dst, byte(i)), now)
			}
		}, 1, 3},
		{"the same ports again, one told between", func(o *halfOpen) {
			o.accept(mapped, now)
			o.begin(numbered(now, src, dst, 1), now)
			o.accept(mapped, now)
			o.begin(numbered(now, src, dst, 1), now) // sent once more
			o.begin(numbered(now, src, dst, 2), now)
		}, 0, 3},
		{"the same ports again, no server took the second", func(o *halfOpen) {
			o.accept(mapped, now)
			o.accept(mapped, now)
			o.drop(mapped, now)
			o.begin(numbered(now, src, dst, 1), now)
			o.begin(numbered(now, src, dst, 2), now)
		}, 1, 2},
		{"three of the same ports, one accepted", func(o *halfOpen) {
			for i := range 3 {
				o.begin(numbered(now, src, dst, byte(i)), now)
			}
			o.accept(mapped, now)
		}, 2, 3},
		{"another port accepted", func(o *halfOpen) {
			o.begin(syn(now, src, dst), now)
			o.accept(connected{src: src, dst: netip.AddrPortFrom(dst.Addr(), 80)}, now)
		}, 1, 2},
		{"accepted, and no server took it", func(o *halfOpen) {
			o.begin(syn(now, src, dst), now)
			o.accept(mapped, now)
			o.drop(mapped, now)
			o.begin(syn(now, src, dst), now) // sent once more
		}, 1, 2},
		{"accepted, no server took it, and the wall tells later", func(o *halfOpen) {
			o.accept(mapped, now)
			o.drop(mapped, now)
			o.begin(syn(now, src, dst), now)
		}, 1, 1},
		{"accepted, and the wall did not tell", func(o *halfOpen) { o.accept(mapped, now) }, 0, 1},
	} {
		o := newHalfOpen()
		c.do(o)
		if early := o.overdue(now.Add(handshakeTime - time.Nanosecond)); len(early) > 0 {
			t.Errorf("%s: overdue too early", c.name)
		}
		if due := attempts(o.overdue(now.Add(handshakeTime))); due != c.due {
			t.Errorf("%s: %d; want %d", c.name, due, c.due)
		}
		if got := o.settledBefore(0); got != c.settled {
			t.Errorf("%s: %d settled, not %d", c.name, got, c.settled)
		}
		for _, a := range o.accepted {
			if a.untold == 0 {
				t.Errorf("%s: it is kept, though the wall has told", c.name)
			}
		}
		o.overdue(now.Add(tellTime))
		if len(o.begun)+len(o.accepted) > 0 {
			t.Errorf("%s: something is kept", c.name)
		}
	}
}

// A sender that goes on trying makes one attempt, however long it takes.
func TestHalfOpenWaitsForTheNextTry(t *testing.T) {
	now := time.Unix(1000, 0)
	src, dst := netip.MustParseAddrPort("10.213.0.0:40000"), netip.MustParseAddrPort("203.0.113.10:443")
	o := newHalfOpen()
	for _, after := range []time.Duration{0, 1, 3, 7, 15, 31, 63, 127} { // tcp_syn_retries
		at := now.Add(after * time.Second)
		if due := o.overdue(at); len(due) > 0 {
			t.Fatalf("overdue after %s", after*time.Second)
		}
		o.begin(syn(at, src, dst), at)
	}
	if due := attempts(o.overdue(now.Add(time.Hour))); due != 1 || o.settledBefore(0) != 8 {
		t.Errorf("%d attempts", due)
	}
}

func TestHalfOpenIsBounded(t *testing.T) {
	now := time.Unix(1000, 0)
	dst := netip.MustParseAddrPort("203.0.113.10:443")
	o := newHalfOpen()
	from := func(i int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 213, byte(i >> 16), 0}), uint16(i))
	}
	for i := range maxHalfOpen - 1 {
		o.begun[pair{from(i), dst}], o.accepted[pair{dst, from(i)}] = &begun{}, accepted{}
	}
	if !o.begin(syn(now, from(maxHalfOpen-1), dst), now) {
		t.Error("refused below the bound")
	}
	o.accept(connected{src: dst, dst: from(maxHalfOpen - 1)}, now)
	if o.begin(syn(now, from(maxHalfOpen), dst), now) {
		t.Error("remembers without a bound")
	}
	o.accept(connected{src: dst, dst: from(maxHalfOpen)}, now)
	if len(o.begun) != maxHalfOpen || len(o.accepted) != maxHalfOpen {
		t.Errorf("%d, %d", len(o.begun), len(o.accepted))
	}
}

// While the record fails the wall tells late: then what was accepted is still no
// attempt of its own, nor is what its sender sent once more.
func TestHalfOpenWaitsForTheWall(t *testing.T) {
	now := time.Unix(1000, 0)
	src, dst := netip.MustParseAddrPort("10.213.0.0:40000"), netip.MustParseAddrPort("203.0.113.10:443")
	o := newHalfOpen()
	o.accept(connected{src: src, dst: dst}, now)
	told := now.Add(tellTime - time.Nanosecond)
	o.overdue(told)
	o.begin(syn(now, src, dst), told)
	o.overdue(told.Add(handshakeTime - time.Nanosecond))
	o.begin(syn(now.Add(time.Second), src, dst), told.Add(handshakeTime))
	if due := attempts(o.overdue(now.Add(time.Hour))); due != 0 || len(o.accepted) != 0 || o.settledBefore(0) != 2 {
		t.Errorf("%d due, %d kept, %d settled", due, len(o.accepted), o.settledBefore(0))
	}
}

// Where too many are remembered, those go first that the wall has told of, and then
// those of which it should have.
func TestHalfOpenForgets(t *testing.T) {
	now := time.Unix(1000, 0)
	dst := netip.MustParseAddrPort("203.0.113.10:443")
	from := func(i int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 213, byte(i >> 16), 0}), uint16(i))
	}
	for name, old := range map[string]accepted{
		"told of": {at: now, matched: true},
		"late":    {at: now.Add(-handshakeTime), untold: 1},
	} {
		o := newHalfOpen()
		for i := range maxHalfOpen { // every other one: those are found
			o.accepted[pair{from(i), dst}] = accepted{at: now, untold: 1}
			if i%2 == 0 {
				o.accepted[pair{from(i), dst}] = old
			}
		}
		const more = 100
		for i := range more {
			o.accept(connected{src: from(maxHalfOpen + i), dst: dst}, now)
		}
		left := 0
		for i := range maxHalfOpen + more {
			if _, ok := o.accepted[pair{from(i), dst}]; ok {
				left++
			} else if i%2 == 1 || i >= maxHalfOpen {
				t.Fatalf("%s: %d is not remembered", name, i)
			}
		}
		if left != maxHalfOpen {
			t.Errorf("%s: %d remembered", name, left)
		}
	}
}

// What the wall counted, less what is known of it, is lost: once, and only when it
// can no longer come.
func TestLostConnections(t *testing.T) {
	now := time.Unix(1000, 0)
	src, dst := netip.MustParseAddrPort("10.213.0.0:40000"), netip.MustParseAddrPort("203.0.113.10:443")
	o := newHalfOpen()
	o.accept(connected{src: src, dst: dst}, now)
	o.begin(syn(now, netip.AddrPortFrom(src.Addr(), 1), dst), now)
	if n := o.lost(now); n != 0 {
		t.Fatalf("%d lost before the wall told its number", n)
	}
	o.count(wire.Begun{Segments: 10, Settled: 3}) // 10 - 3 of an earlier gateway - 1 accepted - 1 begun
	for _, step := range []struct {
		after time.Duration
		lost  int64
	}{{0, 0}, {2*handshakeTime - 1, 0}, {2 * handshakeTime, 5}, {4 * handshakeTime, 0}, {6 * handshakeTime, 0}} {
		if n := o.lost(now.Add(step.after)); n != step.lost {
			t.Errorf("after %s: %d lost, not %d", step.after, n, step.lost)
		}
	}
	if due := attempts(o.overdue(now.Add(time.Hour))); due != 1 || o.settledBefore(0) != 10 || o.settledBefore(4) != 6 || o.settledBefore(11) != 0 {
		t.Errorf("%d due, %d settled", due, o.settledBefore(0))
	}
	o.count(wire.Begun{Segments: 12, Settled: 99}) // the base is said once
	o.lost(now.Add(8 * handshakeTime))
	o.count(wire.Begun{Segments: 13}) // which it does not look at yet
	if n := o.lost(now.Add(10 * handshakeTime)); n != 2 {
		t.Errorf("%d lost, not 2", n)
	}
	o.rebase()
	o.count(wire.Begun{Segments: 1})
	o.accept(connected{src: src, dst: dst}, now)
	if n := o.lost(now) + o.lost(now.Add(time.Hour)); n != 0 {
		t.Errorf("%d lost of another wall", n)
	}
}
