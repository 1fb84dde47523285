package addresses

import (
	"context"
	"encoding/binary"
	"net/netip"

	"github.com/sallyport/sallyport/verify/probe"
)

// The fragment field of IPv4: more fragments follow (RFC 791).
const moreFragments = 1 << 13

func pieceProbes() []probe.Probe {
	return []probe.Probe{
		{Name: "udp-in-two-fragments", Group: probe.Addresses, Try: twoFragments, Own: wired, Needs: rawSockets,
			Why:    "the second fragment has no ports for a filter to look at",
			Source: "RFC 1858; RFC 815"},
		{Name: "tcp-header-in-fragments", Group: probe.Addresses, Try: tinyFragments, Own: wired, Needs: rawSockets,
			Why:    "flags in a second fragment: a filter that looks at the first sees no connection begin",
			Source: "RFC 1858 §3; RFC 3128"},
		{Name: "overlapping-fragments", Group: probe.Addresses, Try: overlapping, Own: wired, Needs: rawSockets,
			Why:    "what is put together is not what was looked at",
			Source: "RFC 5722; CVE-2018-5391"},
		{Name: "lone-fragment", Group: probe.Addresses, Try: loneFragment, Own: wired, Needs: rawSockets,
			Why:    "a fragment whose rest never comes is dropped late, and by many filters without a word",
			Source: "RFC 791; CVE-2018-5391"},
		{Name: "ipv6-fragments", Group: probe.Addresses, Try: fragments6, Own: wired, Needs: rawSockets,
			Why:    "IPv6 fragments by a header of its own, which a filter has to look behind",
			Source: "RFC 7112; RFC 6946; RFC 8200 §4.5"},
	}
}

// piece is a fragment of data, from its byte begin up to end; the last one has no
// end. Both are multiples of eight.
func piece(t probe.Target, proto byte, data []byte, begin, end int) []byte {
	h := header{src: t.Own4, dst: t.Public4, proto: proto, fragment: uint16(begin / 8)}
	if end == 0 {
		return h.packet(data[begin:])
	}
	h.fragment |= moreFragments
	return h.packet(data[begin:end])
}

// firstOf and laterOf are the events of fragments; only a first one has ports.
func firstOf(proto string, to netip.AddrPort) probe.Event { return packetEvent(proto, to, "fragment") }

func laterOf(proto string, to netip.AddrPort) probe.Event {
	return packetEvent(proto, netip.AddrPortFrom(to.Addr(), 0), "fragment")
}

func twoFragments(ctx context.Context, t probe.Target) probe.Finding {
	if !t.Own4.IsValid() || !t.Public4.IsValid() {
		return missingEnds
	}
	to := netip.AddrPortFrom(t.Public4, portPieces)
	data := udp(t.Own4, t.Public4, to.Port(), t.Payload("fragments"))
	return emit(ctx, t, []parcel{
		whole("the first", piece(t, protoUDP, data, 0, 16), firstOf("udp", to)),
		whole("the second", piece(t, protoUDP, data, 16, 0), laterOf("udp", to)),
	})
}

func tinyFragments(ctx context.Context, t probe.Target) probe.Finding {
	if !t.Own4.IsValid() || !t.Public4.IsValid() {
		return missingEnds
	}
	to := netip.AddrPortFrom(t.Public4, portPieces+1)
	data := tcp(t.Own4, t.Public4, to.Port(), flagSYN, nil)
	return emit(ctx, t, []parcel{
		whole("the ports", piece(t, protoTCP, data, 0, 8), firstOf("tcp", to)),
		whole("the flags", piece(t, protoTCP, data, 8, 0), laterOf("tcp", to)),
	})
}

func overlapping(ctx context.Context, t probe.Target) probe.Finding {
	if !t.Own4.IsValid() || !t.Public4.IsValid() {
		return missingEnds
	}
	to := netip.AddrPortFrom(t.Public4, portPieces+2)
	data := udp(t.Own4, t.Public4, to.Port(), t.Payload("overlapping"))
	return emit(ctx, t, []parcel{
		whole("the first", piece(t, protoUDP, data, 0, 24), firstOf("udp", to)),
		whole("one that overlaps", piece(t, protoUDP, data, 8, 0), laterOf("udp", to)),
	})
}

func loneFragment(ctx context.Context, t probe.Target) probe.Finding {
	if !t.Own4.IsValid() || !t.Public4.IsValid() {
		return missingEnds
	}
	to := netip.AddrPortFrom(t.Public4, portPieces+3)
	data := udp(t.Own4, t.Public4, to.Port(), t.Payload("lone"))
	return emit(ctx, t, []parcel{whole("the first of two", piece(t, protoUDP, data, 0, 16), firstOf("udp", to))})
}

// piece6 is an IPv6 packet with a fragment header (RFC 8200 §4.5).
func piece6(t probe.Target, data []byte, offset int, more bool) []byte {
	field := uint16(offset)
	if more {
		field |= 1
	}
	f := binary.BigEndian.AppendUint16([]byte{protoUDP, 0}, field)
	f = binary.BigEndian.AppendUint32(f, identification)
	return header{src: t.Own6, dst: t.Public6, proto: 44}.packet(append(f, data...))
}

func fragments6(ctx context.Context, t probe.Target) probe.Finding {
	if !t.Own6.IsValid() || !t.Public6.IsValid() {
		return missingEnds
	}
	to, atomic := netip.AddrPortFrom(t.Public6, portPieces6), netip.AddrPortFrom(t.Public6, portPieces6+1)
	data := udp(t.Own6, t.Public6, to.Port(), t.Payload("fragments"))
	one := udp(t.Own6, t.Public6, atomic.Port(), t.Payload("atomic"))
	return emit(ctx, t, []parcel{
		whole("the first", piece6(t, data[:16], 0, true), firstOf("udp", to)),
		whole("the second", piece6(t, data[16:], 16, false), laterOf("44", to)),
		whole("a datagram that is one fragment", piece6(t, one, 0, false), firstOf("udp", atomic)),
	})
}
