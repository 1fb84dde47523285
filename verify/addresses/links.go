package addresses

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/verify/probe"
)

func linkProbes() []probe.Probe {
	return []probe.Probe{
		{Name: "arp-claims-gateway", Group: probe.Host, Try: arpClaims, Own: wired, Needs: rawSockets,
			Why:    "who says that the gateway's address, or a neighbour's, is its own gets what is meant for them",
			Source: "RFC 826; RFC 5227; MITRE ATT&CK T1557.002"},
		{Name: "neighbour-advertisement", Group: probe.Host, Try: neighbourAdvert, Own: wired, Needs: rawSockets,
			Why:    "the same over IPv6: an unasked advertisement replaces what neighbours believe",
			Source: "RFC 4861 §7.2.6; RFC 3756"},
		{Name: "router-advertisement", Group: probe.Host, Try: routerAdvert, Own: wired, Needs: rawSockets,
			Why:    "a container with NET_RAW that says it is a router becomes the host's default route",
			Source: "CVE-2020-13401; RFC 6104"},
		{Name: "router-solicitation", Group: probe.Host, Try: routerSolicit, Own: wired, Needs: rawSockets,
			Why:    "asks routers of the link for a prefix and a route, and carries data in its options",
			Source: "RFC 4861 §4.1"},
		{Name: "dhcp-discover", Group: probe.Host, Try: dhcp, Own: wired,
			Why:    "a DHCP server of the link would hand out an address and a route of its own",
			Source: "RFC 2131; CVE-2024-3661"},
		{Name: "frame-of-another-kind", Group: probe.Host, Try: otherFrames, Own: wired, Needs: rawSockets,
			Why:    "a frame that is no IP packet is looked at by no rule for packets",
			Source: "packet(7); IEEE 802 (EtherType 88B5)"},
	}
}

// arp is a message of RFC 826 for Ethernet and IPv4.
func arp(operation byte, mac net.HardwareAddr, addr netip.Addr, toMAC net.HardwareAddr, to netip.Addr) []byte {
	m := append([]byte{0, 1, 8, 0, 6, 4, 0, operation}, mac...)
	return append(append(append(m, addr.AsSlice()...), toMAC...), to.AsSlice()...)
}

// linkEvent is that of a frame which is no IP packet.
func linkEvent(proto string) probe.Event { return probe.Event{Layer: audit.LayerPacket, Proto: proto} }

func arpClaims(ctx context.Context, t probe.Target) probe.Finding {
	if !t.Own4.IsValid() || !t.Gate4.IsValid() {
		return missingEnds
	}
	ours := net.HardwareAddr{2, 0, 0, 0, 0, 0x77}
	parcels := []parcel{
		framed(t, "the gateway's, unasked", broadcastMAC, ethernetARP, arp(1, ours, t.Gate4, broadcastMAC, t.Gate4), linkEvent("arp")),
		framed(t, "the gateway's, as an answer", nil, ethernetARP, arp(2, ours, t.Gate4, broadcastMAC, t.Gate4), linkEvent("arp")),
	}
	if t.Other4.IsValid() {
		parcels = append(parcels, framed(t, "a neighbour's", nil, ethernetARP, arp(2, ours, t.Other4, broadcastMAC, t.Gate4), linkEvent("arp")))
	}
	return emit(ctx, t, parcels)
}

// toNodes is an ICMPv6 message to all nodes of the link, as neighbour discovery
// wants it: it has not been routed (RFC 4861 §6.1).
func toNodes(t probe.Target, what string, src, dst netip.Addr, kind byte, body []byte) parcel {
	packet := header{src: src, dst: dst, proto: 58, hops: 255}.packet(icmp6(src, dst, kind, 0, body...))
	return framed(t, what, multicastMAC(dst), ethernetIPv6, packet, typed(packetEvent("icmpv6", netip.AddrPortFrom(dst, 0), ""), kind, 0))
}

func neighbourAdvert(ctx context.Context, t probe.Target) probe.Finding {
	if !t.Own6.IsValid() || !t.Gate6.IsValid() {
		return missingEnds
	}
	body := append([]byte{0x20, 0, 0, 0}, t.Gate6.AsSlice()...) // override what is known
	body = append(body, 2, 1, 2, 0, 0, 0, 0, 0x77)              // the target's hardware address
	return emit(ctx, t, []parcel{toNodes(t, "the gateway's", t.Own6, allNodesAddress, 136, body)})
}

func routerAdvert(ctx context.Context, t probe.Target) probe.Finding {
	if !t.Own6.IsValid() {
		return missingEnds
	}
	body := binary.BigEndian.AppendUint16([]byte{64, 0}, 1800) // hops, flags, seconds as a default router
	body = append(body, make([]byte, 8)...)
	prefix := append([]byte{3, 4, 64, 0xc0}, 0, 0, 7, 8, 0, 0, 7, 8, 0, 0, 0, 0)
	body = append(append(body, prefix...), netip.MustParseAddr("2001:db8:77::").AsSlice()...)
	return emit(ctx, t, []parcel{
		toNodes(t, "from a link-local address", netip.MustParseAddr("fe80::77"), allNodesAddress, 134, body),
		toNodes(t, "from its own address", t.Own6, allNodesAddress, 134, body),
	})
}

func routerSolicit(ctx context.Context, t probe.Target) probe.Finding {
	if !t.Own6.IsValid() {
		return missingEnds
	}
	return emit(ctx, t, []parcel{toNodes(t, "to all routers", t.Own6, netip.MustParseAddr("ff02::2"), 133, make([]byte, 4))})
}

// dhcp sends what a client sends first, from an ordinary socket.
func dhcp(ctx context.Context, t probe.Target) probe.Finding {
	if !t.Own4.IsValid() {
		return probe.Missing("own address")
	}
	m := make([]byte, 240)
	copy(m, []byte{1, 1, 6, 0, 0x5a, 0x11, 0x5a, 0x11, 0, 0, 0x80}) // a request, its transaction; answer by broadcast
	copy(m[28:], []byte{2, 0, 0, 0, 0, 0x77})
	copy(m[236:], []byte{99, 130, 83, 99}) // the options follow
	m = append(m, 53, 1, 1, 255)           // discover
	to := netip.AddrPortFrom(netip.AddrFrom4([4]byte{255, 255, 255, 255}), 67)
	return emit(ctx, t, []parcel{toAll(t, "discover", to, m)})
}

func otherFrames(ctx context.Context, t probe.Target) probe.Finding {
	if !t.Own4.IsValid() || !t.Public4.IsValid() {
		return missingEnds
	}
	inner := func(what string) []byte {
		return header{src: t.Own4, dst: t.Public4, proto: protoUDP}.packet(udp(t.Own4, t.Public4, portFrames+5, t.Payload(what)))
	}
	tagged := framed(t, "of a VLAN", nil, ethernetVLAN, append([]byte{0, 7, 8, 0}, inner("vlan")...), linkEvent("ethernet"))
	tagged.seen = holds(inner("vlan")) // the kernel takes the tag off
	return emit(ctx, t, []parcel{
		framed(t, "of a kind for experiments", broadcastMAC, ethernetTrial, t.Payload("frame"), linkEvent("ethernet")),
		tagged,
		framed(t, "to a hardware address that is nobody's", net.HardwareAddr{2, 0, 0, 0, 0, 0x66}, ethernetIPv4, inner("nobody"), linkEvent("ethernet")),
	})
}
