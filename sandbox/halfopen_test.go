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

func TestHalfOpen(t *testing.T) {
	now := time.Unix(1000, 0)
	src := netip.MustParseAddrPort("10.213.0.0:40000")
	dst := netip.MustParseAddrPort("203.0.113.10:443")
	mapped := connected{src: netip.AddrPortFrom(netip.AddrFrom16(src.Addr().As16()), src.Port()), dst: dst}
	for _, c := range []struct {
		name string
		do   func(o *halfOpen)
		due  int
	}{
		{"never completed", func(o *halfOpen) { o.begin(syn(now, src, dst)) }, 1},
		{"sent three times", func(o *halfOpen) {
			for i := range 3 {
				o.begin(syn(now.Add(time.Duration(i)*time.Second), src, dst))
			}
		}, 1},
		{"accepted", func(o *halfOpen) { o.begin(syn(now, src, dst)); o.accept(mapped, now) }, 0},
		{"accepted before the wall told", func(o *halfOpen) { o.accept(mapped, now); o.begin(syn(now, src, dst)) }, 0},
		{"the same ports again, not completed", func(o *halfOpen) {
			o.accept(mapped, now)
			o.begin(syn(now, src, dst))
			o.begin(syn(now, src, dst))
		}, 1},
		{"another port accepted", func(o *halfOpen) {
			o.begin(syn(now, src, dst))
			o.accept(connected{src: src, dst: netip.AddrPortFrom(dst.Addr(), 80)}, now)
		}, 1},
	} {
		o := newHalfOpen()
		c.do(o)
		if early := o.overdue(now.Add(handshakeTime - time.Nanosecond)); len(early) > 0 {
			t.Errorf("%s: overdue too early", c.name)
		}
		due := o.overdue(now.Add(handshakeTime))
		if len(due) != c.due || (c.due > 0 && due[0].Rule != ruleHalfOpen) {
			t.Errorf("%s: %v; want %d", c.name, due, c.due)
		}
		if len(o.begun)+len(o.accepted) > 0 {
			t.Errorf("%s: something is kept", c.name)
		}
	}
}

func TestHalfOpenIsBounded(t *testing.T) {
	now := time.Unix(1000, 0)
	dst := netip.MustParseAddrPort("203.0.113.10:443")
	o := newHalfOpen()
	for i := range maxHalfOpen {
		if !o.begin(syn(now, netip.AddrPortFrom(netip.MustParseAddr("10.213.0.0"), uint16(i+1)), dst)) {
			t.Fatalf("refused at %d", i)
		}
	}
	if o.begin(syn(now, netip.MustParseAddrPort("10.213.0.0:60000"), dst)) {
		t.Error("remembers without a bound")
	}
}
