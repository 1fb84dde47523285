package addresses

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/sallyport/sallyport/verify/probe"
	"golang.org/x/sys/unix"
)

// ICMP types: RFC 792, RFC 950, RFC 1256; RFC 4443.
const (
	echoReply      = 0
	redirect       = 5
	echoRequest    = 8
	solicitation   = 10
	timestamp      = 13
	timestampReply = 14
	addressMask    = 17
	echoRequest6   = 128
	echoReply6     = 129
)

func pingProbes() []probe.Probe {
	return []probe.Probe{
		{Name: "icmp-echo", Group: probe.Addresses, Try: ping(false), Own: listenTCP(52),
			Why:    "an echo request carries data out, and its reply carries data in; a datagram socket needs no privilege",
			Source: "RFC 792; MITRE ATT&CK T1095; icmp(7) ping_group_range"},
		{Name: "icmpv6-echo", Group: probe.Addresses, Try: ping(true), Own: listenTCP(53),
			Why:    "the same over IPv6, where ICMP can not be refused as a whole",
			Source: "RFC 4443; RFC 4890"},
		{Name: "icmp-other-types", Group: probe.Addresses, Try: otherTypes, Own: wired, Needs: rawSockets,
			Why:    "timestamps and masks tell of the network outside, redirects and router discovery change its routes",
			Source: "RFC 792; RFC 950; RFC 1256; CVE-1999-0524"},
		{Name: "icmpv6-all-nodes", Group: probe.Addresses, Try: allNodes, Own: wired, Needs: rawSockets,
			Why:    "one packet asks every host of the link who it is",
			Source: "RFC 4443 §4.1; RFC 5157"},
	}
}

func ping(ipv6 bool) func(context.Context, probe.Target) probe.Finding {
	return func(ctx context.Context, t probe.Target) probe.Finding {
		to, proto, name, kind := t.Public4, unix.IPPROTO_ICMP, "icmp", byte(echoRequest)
		if ipv6 {
			to, proto, name, kind = t.Public6, unix.IPPROTO_ICMPV6, "icmpv6", echoRequest6
		}
		if !to.IsValid() {
			return probe.Missing("public address")
		}
		socket := socketKind{kind: unix.SOCK_DGRAM, proto: proto, to: netip.AddrPortFrom(to, 0)}
		fd, err := socket.open(ctx)
		if err != nil {
			socket.kind = unix.SOCK_RAW
			if fd, err = socket.open(ctx); err != nil {
				return probe.Stopped(err, "datagram and raw ICMP sockets")
			}
		}
		defer unix.Close(fd)
		return echo(fd, socket, kind, t.Payload("echo"), typed(packetEvent(name, netip.AddrPortFrom(to, 0), "other"), kind, 0))
	}
}

// typed is the event of an ICMP message of this type and code.
func typed(e probe.Event, kind, code byte) probe.Event {
	e.Method = fmt.Sprintf("type %d code %d", kind, code)
	return e
}

// echo sends an echo request and waits for the reply. A raw socket sees other ICMP
// too, on lo its own request.
func echo(fd int, socket socketKind, kind byte, payload []byte, event probe.Event) probe.Finding {
	reply := byte(echoReply)
	if kind == echoRequest6 {
		reply = echoReply6
	}
	message := icmp4(kind, 0, append([]byte{0x5a, 0x11, 0, 1}, payload...)...) // the kernel seals ICMPv6
	to, err := socket.address()
	if err != nil {
		return probe.Stopped(err, "the kernel")
	}
	if err := socket.say(fd, to, message); err != nil {
		return refused(err, event)
	}
	buf := make([]byte, maxAnswer)
	for {
		n, err := read(fd, buf)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return probe.Blocked("silent: no answer until the deadline", event)
		case err != nil:
			return refused(err, event)
		case bytes.HasSuffix(buf[:n], payload) && n >= len(message) && buf[n-len(message)] == reply:
			return probe.Reached("an echo reply came back")
		}
	}
}

func otherTypes(ctx context.Context, t probe.Target) probe.Finding {
	if !t.Own4.IsValid() || !t.Public4.IsValid() {
		return missingEnds
	}
	// A redirect tells of a packet of the receiver's: its header and eight bytes.
	told := header{src: t.Public4, dst: t.Own4, proto: protoUDP}.packet(make([]byte, 8))
	gate := t.Own4.AsSlice()
	var parcels []parcel
	for _, m := range []struct {
		what string
		data []byte
	}{
		{"timestamp", icmp4(timestamp, 0, append([]byte{0x5a, 0x11, 0, 1}, make([]byte, 12)...)...)},
		{"address mask", icmp4(addressMask, 0, 0x5a, 0x11, 0, 1, 0, 0, 0, 0)},
		{"router solicitation", icmp4(solicitation, 0, 0, 0, 0, 0)},
		{"redirect", icmp4(redirect, 1, append(append([]byte{}, gate...), told...)...)},
		{"a type that nobody uses", icmp4(200, 0, t.Payload("icmp")...)},
	} {
		packet := header{src: t.Own4, dst: t.Public4, proto: protoICMP}.packet(m.data)
		parcels = append(parcels, whole(m.what, packet, typed(packetEvent("icmp", netip.AddrPortFrom(t.Public4, 0), "other"), m.data[0], m.data[1])))
	}
	return emit(ctx, t, parcels)
}

var allNodesAddress = netip.MustParseAddr("ff02::1")

func allNodes(ctx context.Context, t probe.Target) probe.Finding {
	if !t.Own6.IsValid() {
		return missingEnds
	}
	body := append(binary.BigEndian.AppendUint32(nil, identification<<16|1), t.Payload("all nodes")...)
	packet := header{src: t.Own6, dst: allNodesAddress, proto: 58}.packet(icmp6(t.Own6, allNodesAddress, echoRequest6, 0, body...))
	return emit(ctx, t, []parcel{framed(t, "echo to all nodes", multicastMAC(allNodesAddress), ethernetIPv6, packet,
		typed(packetEvent("icmpv6", netip.AddrPortFrom(allNodesAddress, 0), ""), echoRequest6, 0))})
}
