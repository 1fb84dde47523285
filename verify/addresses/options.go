package addresses

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/sallyport/sallyport/verify/probe"
	"golang.org/x/sys/unix"
)

// Options of IPv4 (RFC 791 §3.1): record route, and the loose and strict source
// routes.
const (
	optionRecord = 7
	optionLoose  = 131
	optionStrict = 137
)

func optionProbes() []probe.Probe {
	return []probe.Probe{
		{Name: "source-route-by-socket", Group: probe.Addresses, Try: routedSocket, Own: wired,
			Why:    "the packet is addressed to the gateway, which is to send it on; to record a route needs no privilege",
			Source: "RFC 7126 §4.3; ip(7) IP_OPTIONS"},
		{Name: "source-route-crafted", Group: probe.Addresses, Try: routedCrafted, Own: wired, Needs: rawSockets,
			Why:    "a router that heeds source routes takes the packet where its sender likes",
			Source: "RFC 7126 §4.3; RFC 6274 §3.13.2.3"},
		{Name: "ipv6-extension-headers", Group: probe.Addresses, Try: extended, Own: wired, Needs: rawSockets,
			Why:    "filters stop at a header that they do not know, and routing headers lead elsewhere",
			Source: "RFC 5095; RFC 7045; CVE-2007-2242"},
	}
}

// sourceRoute is the option that leads by way of hops; it ends at a multiple of
// four bytes.
func sourceRoute(kind byte, hops ...netip.Addr) []byte {
	o := []byte{kind, byte(3 + 4*len(hops)), 4}
	for _, h := range hops {
		o = append(o, h.AsSlice()...)
	}
	return append(o, make([]byte, -len(o)&3)...)
}

var sourceRoutes = []struct {
	what string
	kind byte
}{{"loose source route", optionLoose}, {"strict source route", optionStrict}, {"record route", optionRecord}}

// routedSocket aims by way of the gateway. The kernel addresses the packet to the
// first hop, and puts the true destination into the option.
func routedSocket(ctx context.Context, t probe.Target) probe.Finding {
	if !t.Gate4.IsValid() || !t.Public4.IsValid() {
		return probe.Missing("gateway or public address")
	}
	var parcels []parcel
	for i, r := range sourceRoutes {
		to, first := netip.AddrPortFrom(t.Public4, portOptions+uint16(i)), t.Gate4
		option := sourceRoute(r.kind, t.Gate4)
		if r.kind == optionRecord {
			option, first = sourceRoute(r.kind, netip.IPv4Unspecified()), t.Public4
		}
		payload := t.Payload(fmt.Sprint("option ", r.kind))
		parcels = append(parcels, parcel{what: r.what, seen: holds(payload),
			event: packetEvent("udp", netip.AddrPortFrom(first, to.Port()), ""),
			send:  func(ctx context.Context) ([]byte, error) { return sendOption(ctx, to, option, payload) }})
	}
	return emit(ctx, t, parcels)
}

func sendOption(ctx context.Context, to netip.AddrPort, option, payload []byte) ([]byte, error) {
	socket := socketKind{kind: unix.SOCK_DGRAM, to: to, wait: brief}
	fd, err := socket.open(ctx)
	if err != nil {
		return nil, socketError{err}
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptString(fd, unix.IPPROTO_IP, unix.IP_OPTIONS, string(option)); err != nil {
		return nil, socketError{err}
	}
	if err := unix.Sendto(fd, payload, 0, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}); err != nil {
		return nil, err
	}
	return silence(fd)
}

func routedCrafted(ctx context.Context, t probe.Target) probe.Finding {
	if !t.Own4.IsValid() || !t.Gate4.IsValid() || !t.Public4.IsValid() {
		return missingEnds
	}
	var parcels []parcel
	for i, r := range sourceRoutes {
		dst, option := t.Gate4, sourceRoute(r.kind, t.Public4)
		if r.kind == optionRecord {
			dst, option = t.Public4, sourceRoute(r.kind, netip.IPv4Unspecified())
		}
		to := netip.AddrPortFrom(dst, portRoutes+uint16(i))
		packet := header{src: t.Own4, dst: dst, proto: protoUDP, options: option}.packet(udp(t.Own4, dst, to.Port(), t.Payload("route")))
		parcels = append(parcels, whole(r.what, packet, packetEvent("udp", to, "")))
	}
	return emit(ctx, t, parcels)
}

func extended(ctx context.Context, t probe.Target) probe.Finding {
	if !t.Own6.IsValid() || !t.Public6.IsValid() || !t.Gate6.IsValid() {
		return missingEnds
	}
	padding := []byte{protoUDP, 0, 1, 4, 0, 0, 0, 0} // PadN, RFC 8200 §4.2
	route := append([]byte{protoUDP, 2, 0, 1, 0, 0, 0, 0}, t.Public6.AsSlice()...)
	var parcels []parcel
	for i, h := range []struct {
		what  string
		next  byte
		data  []byte
		first netip.Addr
	}{
		{"hop-by-hop options", 0, padding, t.Public6},
		{"destination options", 60, padding, t.Public6},
		{"routing header of type 0", 43, route, t.Gate6},
	} {
		to := netip.AddrPortFrom(h.first, portHeaders+uint16(i))
		datagram := udp(t.Own6, t.Public6, to.Port(), t.Payload("extended"))
		packet := header{src: t.Own6, dst: h.first, proto: h.next}.packet(append(append([]byte{}, h.data...), datagram...))
		parcels = append(parcels, whole(h.what, packet, packetEvent("udp", to, "")))
	}
	return emit(ctx, t, parcels)
}
