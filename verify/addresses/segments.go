package addresses

import (
	"context"
	"net/netip"

	"github.com/sallyport/sallyport/verify/probe"
)

// The first of the ports that each probe of crafted packets has to itself.
const (
	portSegments  = 47300
	portSegments6 = 47320
	portSpoof     = 47340
	portSpoof6    = 47350
	portPieces    = 47360
	portPieces6   = 47370
	portOptions   = 47380
	portRoutes    = 47390
	portHeaders   = 47400
	portInner     = 47410
	portFrames    = 47420
	portEcho      = 47430
)

// segments are odd sets of flags, and the rule that must refuse them.
var segments = []struct {
	what  string
	flags byte
	data  string
	rule  string
}{
	{"SYN alone, never completed", flagSYN, "", halfOpen},
	{"SYN with data", flagSYN | flagPSH, "sallyport", halfOpen},
	{"SYN and FIN", flagSYN | flagFIN, "", "stray"},
	{"SYN and RST", flagSYN | flagRST, "", "stray"},
	{"SYN and ACK", flagSYN | flagACK, "", "stray"},
	{"no flags", 0, "", "stray"},
	{"all flags", 0xff, "", "stray"},
	{"FIN", flagFIN, "", "stray"},
	{"RST", flagRST, "", "stray"},
	{"ACK with data", flagACK | flagPSH, "sallyport", "stray"},
	{"FIN, PSH, URG", flagFIN | flagPSH | flagURG, "sallyport", "stray"},
}

func segmentProbes() []probe.Probe {
	return []probe.Probe{
		{Name: "odd-segments", Group: probe.Addresses, Try: oddSegments(false), Own: wired, Needs: rawSockets,
			Why:    "segments of no connection pass filters that look at connections only, and carry data",
			Source: "RFC 9293 §3.10.7; nmap(1), Port Scanning Techniques (FIN, NULL, Xmas, ACK)"},
		{Name: "odd-segments-ipv6", Group: probe.Addresses, Try: oddSegments(true), Own: wired, Needs: rawSockets,
			Why:    "the same over IPv6, whose rules are others",
			Source: "RFC 9293 §3.10.7; RFC 8200"},
		{Name: "spoofed-source", Group: probe.Addresses, Try: spoofed, Own: wired, Needs: rawSockets,
			Why:    "who sends under another address is taken for a neighbour, the gateway or the host",
			Source: "RFC 2827 (BCP 38); CVE-2020-8558"},
		{Name: "spoofed-source-ipv6", Group: probe.Addresses, Try: spoofed6, Own: wired, Needs: rawSockets,
			Why:    "the same over IPv6, where the kernel has no rp_filter",
			Source: "RFC 2827 (BCP 38); Linux Documentation/networking/ip-sysctl.rst (rp_filter is IPv4's)"},
	}
}

// rawSockets are the capabilities of raw and packet sockets; the control's wire
// needs the other one.
var rawSockets = []string{"NET_RAW", "NET_ADMIN"}

// whole is a parcel of an IP packet that is sent by a raw socket.
func whole(what string, packet []byte, event probe.Event) parcel {
	return parcel{what: what, send: raw(packet), seen: holds(packet), event: event}
}

func oddSegments(ipv6 bool) func(context.Context, probe.Target) probe.Finding {
	return func(ctx context.Context, t probe.Target) probe.Finding {
		src, dst, first := t.Own4, t.Public4, uint16(portSegments)
		if ipv6 {
			src, dst, first = t.Own6, t.Public6, portSegments6
		}
		if !src.IsValid() || !dst.IsValid() {
			return missingEnds
		}
		var parcels []parcel
		for i, s := range segments {
			to := netip.AddrPortFrom(dst, first+uint16(i))
			packet := header{src: src, dst: dst, proto: protoTCP}.packet(tcp(src, dst, to.Port(), s.flags, []byte(s.data)))
			parcels = append(parcels, whole(s.what, packet, packetEvent("tcp", to, s.rule)))
		}
		return emit(ctx, t, parcels)
	}
}

var missingEnds = probe.Missing("own or public address")

func spoofed(ctx context.Context, t probe.Target) probe.Finding {
	if !t.Own4.IsValid() || !t.Public4.IsValid() {
		return missingEnds
	}
	neighbour := t.Other4
	if !neighbour.IsValid() {
		neighbour = t.Own4.Next().Next() // sandboxes have pairs of addresses
	}
	sources := []struct {
		what string
		src  netip.Addr
	}{
		{"a public source", netip.MustParseAddr("203.0.113.77")},
		{"a neighbour's source", neighbour},
		{"source 127.0.0.1", netip.MustParseAddr("127.0.0.1")},
		{"the gateway's source", t.Gate4},
	}
	var parcels []parcel
	for i, s := range sources {
		if s.src.IsValid() {
			parcels = append(parcels, spoofs(t, s.what, s.src, netip.AddrPortFrom(t.Public4, portSpoof+uint16(2*i)))...)
		}
	}
	return emit(ctx, t, parcels)
}

// spoofs are a datagram and a SYN from src.
func spoofs(t probe.Target, what string, src netip.Addr, to netip.AddrPort) []parcel {
	next := netip.AddrPortFrom(to.Addr(), to.Port()+1)
	datagram := header{src: src, dst: to.Addr(), proto: protoUDP}.packet(udp(src, to.Addr(), to.Port(), t.Payload("spoof")))
	segment := header{src: src, dst: to.Addr(), proto: protoTCP}.packet(tcp(src, to.Addr(), next.Port(), flagSYN, nil))
	return []parcel{
		whole(what+", UDP", datagram, packetEvent("udp", to, "spoof")),
		whole(what+", TCP", segment, packetEvent("tcp", next, "spoof")),
	}
}

func spoofed6(ctx context.Context, t probe.Target) probe.Finding {
	if !t.Own6.IsValid() || !t.Public6.IsValid() {
		return missingEnds
	}
	var parcels []parcel
	for i, s := range []struct {
		what string
		src  netip.Addr
	}{
		{"a public source", netip.MustParseAddr("2001:db8:77::77")},
		{"the gateway's source", t.Gate6},
		{"a link-local source", netip.MustParseAddr("fe80::77")},
	} {
		if s.src.IsValid() {
			parcels = append(parcels, spoofs(t, s.what, s.src, netip.AddrPortFrom(t.Public6, portSpoof6+uint16(2*i)))...)
		}
	}
	return emit(ctx, t, parcels)
}
