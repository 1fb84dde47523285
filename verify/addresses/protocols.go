package addresses

import (
	"context"
	"encoding/binary"
	"net/netip"

	"github.com/sallyport/sallyport/verify/probe"
	"golang.org/x/sys/unix"
)

// IP protocol numbers, IANA "Assigned Internet Protocol Numbers".
const (
	protoICMP     = 1
	protoIPIP     = 4
	protoTCP      = 6
	protoUDP      = 17
	protoDCCP     = 33
	protoIPv6     = 41
	protoGRE      = 47
	protoSCTP     = 132
	protoUDPLite  = 136
	protoTrial    = 253 // for experiments, RFC 3692
	sockDCCP      = 6   // linux/net.h
	ethernetIPv4  = 0x0800
	ethernetARP   = 0x0806
	ethernetVLAN  = 0x8100
	ethernetIPv6  = 0x86dd
	ethernetTrial = 0x88b5 // for experiments, IEEE 802
)

func protocolProbes() []probe.Probe {
	return []probe.Probe{
		{Name: "sctp-socket", Group: probe.Addresses, Try: socketOf("sctp", unix.SOCK_STREAM, protoSCTP, portSCTP), Own: wired,
			Why:    "an unprivileged socket of a transport that filters for TCP and UDP forget",
			Source: "RFC 9260; sctp(7)"},
		{Name: "dccp-socket", Group: probe.Addresses, Try: socketOf("dccp", sockDCCP, protoDCCP, portDCCP), Own: wired,
			Why:    "an unprivileged socket of a rare transport, with a history of holes",
			Source: "RFC 4340; CVE-2017-6074"},
		{Name: "sctp-init-crafted", Group: probe.Addresses, Try: sctpInit, Own: wired, Needs: rawSockets,
			Why:    "an association needs no SCTP in the kernel where a raw socket speaks it",
			Source: "RFC 9260 §3.3.2"},
		{Name: "gre-tunnel", Group: probe.Addresses, Try: tunnelled("gre", protoGRE, []byte{0, 0, 8, 0}), Own: wired, Needs: rawSockets,
			Why:    "a packet in a packet: who looks at the outer one alone lets anything pass",
			Source: "RFC 2784; CVE-2024-7595"},
		{Name: "ip-in-ip-tunnel", Group: probe.Addresses, Try: tunnelled("4", protoIPIP, nil), Own: wired, Needs: rawSockets,
			Why:    "hosts that unpack IP in IP from anybody send on what is inside",
			Source: "CVE-2020-10136; RFC 2003"},
		{Name: "ipv6-in-ipv4-tunnel", Group: probe.Addresses, Try: tunnelled6, Own: wired, Needs: rawSockets,
			Why:    "IPv6 out of a network that has none, by any relay",
			Source: "RFC 4213; RFC 6169; CVE-2025-23019"},
		{Name: "raw-protocol-253", Group: probe.Addresses, Try: trialProtocol, Own: wired, Needs: rawSockets,
			Why:    "a protocol that nobody has a rule for",
			Source: "RFC 3692; raw(7)"},
	}
}

// socketOf is the attempt to connect by a transport other than TCP and UDP, which
// sends a packet wherever the kernel knows it.
func socketOf(name string, kind, proto int, port uint16) func(context.Context, probe.Target) probe.Finding {
	return func(ctx context.Context, t probe.Target) probe.Finding {
		if !t.Public4.IsValid() {
			return probe.Missing("public address")
		}
		to := netip.AddrPortFrom(t.Public4, port)
		socket := socketKind{kind: kind, proto: proto, to: to, wait: brief}
		return emit(ctx, t, []parcel{{
			send: func(ctx context.Context) ([]byte, error) {
				fd, err := socket.open(ctx)
				if err != nil {
					return nil, socketError{err}
				}
				defer unix.Close(fd)
				if err := socket.say(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(port)}, t.Payload(name)); err != nil {
					return nil, unlessSilent(err)
				}
				return silence(fd)
			},
			seen: func(frame []byte) bool {
				const ip = 14
				return len(frame) >= ip+24 && frame[ip+9] == byte(proto) &&
					[4]byte(frame[ip+16:ip+20]) == to.Addr().As4() && binary.BigEndian.Uint16(frame[ip+22:]) == port
			},
			event: packetEvent(name, to, "other"),
		}})
	}
}

// unlessSilent leaves out the error that nothing was answered.
func unlessSilent(err error) error {
	if err == unix.EAGAIN || err == unix.EINPROGRESS {
		return nil
	}
	return err
}

// silence reads what is answered, which should be nothing: then it is nil.
func silence(fd int) ([]byte, error) {
	buf := make([]byte, maxAnswer)
	n, err := read(fd, buf)
	if err != nil {
		return nil, unlessSilent(err)
	}
	return buf[:n], nil
}

// carried is a parcel of a protocol without ports.
func carried(t probe.Target, name string, proto byte, payload []byte) parcel {
	packet := header{src: t.Own4, dst: t.Public4, proto: proto}.packet(payload)
	return whole(name, packet, packetEvent(name, netip.AddrPortFrom(t.Public4, 0), "other"))
}

func sctpInit(ctx context.Context, t probe.Target) probe.Finding {
	if !t.Own4.IsValid() || !t.Public4.IsValid() {
		return missingEnds
	}
	to := netip.AddrPortFrom(t.Public4, portSCTPCrafted)
	m := binary.BigEndian.AppendUint16(nil, sourcePort)
	m = binary.BigEndian.AppendUint16(m, to.Port())
	m = append(m, make([]byte, 8)...)                           // no tag yet; a checksum that a receiver would refuse
	m = append(m, 1, 0, 0, 20, 0x5a, 0x11, 0, 1, 0, 0, 0x10, 0) // INIT: its tag, its window
	m = append(m, 0, 1, 0, 1, 0x5a, 0x11, 0, 2)                 // streams, first number
	packet := header{src: t.Own4, dst: t.Public4, proto: protoSCTP}.packet(m)
	return emit(ctx, t, []parcel{whole("sctp", packet, packetEvent("sctp", to, "other"))})
}

// tunnelled wraps a datagram to the internet into another protocol.
func tunnelled(name string, proto byte, head []byte) func(context.Context, probe.Target) probe.Finding {
	return func(ctx context.Context, t probe.Target) probe.Finding {
		if !t.Own4.IsValid() || !t.Public4.IsValid() {
			return missingEnds
		}
		inner := header{src: t.Own4, dst: t.Public4, proto: protoUDP}.packet(udp(t.Own4, t.Public4, portInner, t.Payload("inner")))
		return emit(ctx, t, []parcel{carried(t, name, proto, append(append([]byte{}, head...), inner...))})
	}
}

func tunnelled6(ctx context.Context, t probe.Target) probe.Finding {
	if !t.Own4.IsValid() || !t.Public4.IsValid() {
		return missingEnds
	}
	src, dst := netip.MustParseAddr("2001:db8:41::1"), netip.MustParseAddr("2001:db8:41::2")
	inner := header{src: src, dst: dst, proto: protoUDP}.packet(udp(src, dst, portInner, t.Payload("inner")))
	return emit(ctx, t, []parcel{carried(t, "41", protoIPv6, inner)})
}

// trialProtocol uses a raw socket of the protocol, whose header the kernel writes.
func trialProtocol(ctx context.Context, t probe.Target) probe.Finding {
	var parcels []parcel
	for _, addr := range []netip.Addr{t.Public4, t.Public6} {
		if !addr.IsValid() {
			continue
		}
		to := netip.AddrPortFrom(addr, 0)
		socket := socketKind{kind: unix.SOCK_RAW, proto: protoTrial, to: to, wait: brief}
		parcels = append(parcels, parcel{what: addr.String(), event: packetEvent("253", to, "other"), seen: holds(t.Payload("trial")),
			send: func(ctx context.Context) ([]byte, error) {
				fd, err := socket.open(ctx)
				if err != nil {
					return nil, socketError{err}
				}
				defer unix.Close(fd)
				sockaddr, err := socket.address()
				if err == nil {
					err = socket.say(fd, sockaddr, t.Payload("trial"))
				}
				if err != nil {
					return nil, err
				}
				return silence(fd)
			}})
	}
	if len(parcels) == 0 {
		return probe.Missing("public address")
	}
	return emit(ctx, t, parcels)
}
