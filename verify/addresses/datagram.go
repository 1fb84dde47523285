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

// The ports of UDP that the peer listens on and that no two probes share.
const (
	portNTP   = 123
	portQUIC  = 443
	portSTUN  = 3478
	portQUIC2 = 4433
	portHigh  = 47123
	portTTL   = 22
	portMore  = 25
)

var udpPorts = []uint16{portNTP, portQUIC, portQUIC2, portHigh}

func datagramProbes() []probe.Probe {
	return []probe.Probe{
		{Name: "udp-ipv4", Group: probe.Addresses, Try: udpTo(false), Own: listenUDP(45, udpPorts...),
			Why:    "NTP, QUIC, WireGuard and whatever else: a datagram needs no connection that could be refused",
			Source: "RFC 768; RFC 9000; RFC 5905"},
		{Name: "udp-ipv6", Group: probe.Addresses, Try: udpTo(true), Own: listenUDP(46, udpPorts...),
			Why:    "a filter that was written for IPv4 alone leaves IPv6 open",
			Source: "RFC 768; RFC 7123"},
		{Name: "stun", Group: probe.Addresses, Try: stun, Own: listenUDP(47, portSTUN),
			Why:    "WebRTC finds out by it which address it has outside, and opens the way for its data",
			Source: "RFC 8489"},
		{Name: "udp-time-to-live", Group: probe.Addresses, Try: timeToLive, Own: listenUDP(48, portTTL),
			Why:    "who counts hops sees by time-exceeded errors what lies on the way out",
			Source: "RFC 792; ip(7) IP_TTL"},
		{Name: "udp-in-pieces-of-send", Group: probe.Addresses, Try: corked, Own: listenUDP(49, portMore),
			Why:    "a datagram put together of several system calls must be seen as one",
			Source: "send(2) MSG_MORE; CVE-2017-1000112"},
		{Name: "udp-larger-than-mtu", Group: probe.Addresses, Try: large, Own: listenUDP(50, portHigh),
			Why:    "the kernel fragments it without any privilege, and only the first fragment has ports",
			Source: "RFC 1858; RFC 8900"},
		{Name: "udp-lite", Group: probe.Addresses, Try: socketOf("udplite", unix.SOCK_DGRAM, protoUDPLite, portLite), Own: wired,
			Why:    "an unprivileged socket of a protocol that is UDP in all but its number",
			Source: "RFC 3828; udplite(7)"},
	}
}

// says is what is sent to a port: what its protocol begins with.
func says(t probe.Target, name string, port uint16) []byte {
	switch port {
	case portNTP: // a client's request of version 4, RFC 5905 §7.3
		return append([]byte{4<<3 | 3}, make([]byte, 47)...)
	case portQUIC, portQUIC2: // a version that makes a server name its own, RFC 9000 §15
		m := append([]byte{0xc0, 0x1a, 0x2a, 0x3a, 0x4a, 8}, "sallypor"...)
		return append(m, make([]byte, 1200-len(m))...)
	}
	return t.Payload(name)
}

// datagram is the attempt to get an answer by UDP.
func datagram(t probe.Target, name string, to netip.AddrPort, rule string, set ...option) attempt {
	return attempt{fmt.Sprint("udp ", to), func(ctx context.Context) probe.Finding {
		kind := socketKind{kind: unix.SOCK_DGRAM, to: to, set: set}
		return kind.converse(ctx, says(t, name, to.Port()), packetEvent("udp", to, rule))
	}}
}

func udpTo(ipv6 bool) func(context.Context, probe.Target) probe.Finding {
	return func(ctx context.Context, t probe.Target) probe.Finding {
		addr := t.Public4
		if ipv6 {
			addr = t.Public6
		}
		if !addr.IsValid() {
			return probe.Missing("public address")
		}
		var attempts []attempt
		for _, port := range udpPorts {
			attempts = append(attempts, datagram(t, "udp", netip.AddrPortFrom(addr, port), "other"))
		}
		return together(ctx, t, attempts)
	}
}

// bindingRequest is that of RFC 8489 §5, its transaction named after the run.
func bindingRequest(t probe.Target) []byte {
	m := binary.BigEndian.AppendUint32([]byte{0, 1, 0, 0}, 0x2112a442)
	id := make([]byte, 12)
	copy(id, t.Run)
	return append(m, id...)
}

func stun(ctx context.Context, t probe.Target) probe.Finding {
	var attempts []attempt
	for _, addr := range []netip.Addr{t.Public4, t.Public6} {
		if to := netip.AddrPortFrom(addr, portSTUN); addr.IsValid() {
			attempts = append(attempts, attempt{to.String(), func(ctx context.Context) probe.Finding {
				return socketKind{kind: unix.SOCK_DGRAM, to: to}.converse(ctx, bindingRequest(t), packetEvent("udp", to, "other"))
			}})
		}
	}
	if len(attempts) == 0 {
		return probe.Missing("public address")
	}
	return together(ctx, t, attempts)
}

// timeToLive sends with few hops to live. An error that a hop on the way returns
// when they are used up shows that there is a way.
func timeToLive(ctx context.Context, t probe.Target) probe.Finding {
	to := netip.AddrPortFrom(t.Public4, portTTL)
	if !t.Public4.IsValid() {
		return probe.Missing("public address")
	}
	var attempts []attempt
	for hops := 1; hops <= 3; hops++ {
		attempts = append(attempts, attempt{fmt.Sprint(hops, " hops"), func(ctx context.Context) probe.Finding {
			return hopsTo(ctx, t, to, hops)
		}})
	}
	return together(ctx, t, attempts)
}

func hopsTo(ctx context.Context, t probe.Target, to netip.AddrPort, hops int) probe.Finding {
	event := packetEvent("udp", to, "other")
	kind := socketKind{kind: unix.SOCK_DGRAM, to: to, set: []option{{unix.IPPROTO_IP, unix.IP_TTL, hops}}}
	fd, err := kind.open(ctx)
	if err != nil {
		return probe.Stopped(err, "the kernel")
	}
	defer unix.Close(fd)
	if err := kind.say(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}, t.Payload("hops")); err != nil {
		return refused(err, event)
	}
	buf := make([]byte, maxAnswer)
	n, err := read(fd, buf)
	switch {
	case err == nil:
		return judge(buf[:n], event)
	case exceeded(fd):
		return probe.Reached("a hop on the way says that the time to live is over")
	case errors.Is(err, unix.EAGAIN):
		return probe.Blocked("silent: no answer until the deadline", event)
	}
	return refused(err, event)
}

// exceeded reports whether the error in the socket's queue came by ICMP and is
// time-exceeded (ip(7) IP_RECVERR, RFC 792).
func exceeded(fd int) bool {
	const originICMP, typeExceeded = 2, 11
	control := make([]byte, 512)
	_, n, _, _, err := unix.Recvmsg(fd, make([]byte, maxAnswer), control, unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
	if err != nil {
		return false
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil {
		return false
	}
	for _, m := range messages {
		if m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_RECVERR && len(m.Data) >= 6 {
			return bytes.Equal(m.Data[4:6], []byte{originICMP, typeExceeded})
		}
	}
	return false
}

// corked sends one datagram by two calls.
func corked(ctx context.Context, t probe.Target) probe.Finding {
	to := netip.AddrPortFrom(t.Public4, portMore)
	if !t.Public4.IsValid() {
		return probe.Missing("public address")
	}
	event := packetEvent("udp", to, "other")
	kind := socketKind{kind: unix.SOCK_DGRAM, to: to}
	fd, err := kind.open(ctx)
	if err != nil {
		return probe.Stopped(err, "the kernel")
	}
	defer unix.Close(fd)
	err = errors.Join(unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}),
		unix.Send(fd, t.Payload("first"), unix.MSG_MORE), unix.Send(fd, t.Payload("second"), 0))
	if err != nil {
		return refused(err, event)
	}
	return answered(fd, event)
}

// large sends more than a packet holds. That its fragments are dropped is silence.
func large(ctx context.Context, t probe.Target) probe.Finding {
	var attempts []attempt
	for _, addr := range []netip.Addr{t.Public4, t.Public6} {
		if to := netip.AddrPortFrom(addr, portHigh); addr.IsValid() {
			attempts = append(attempts, attempt{to.String(), func(ctx context.Context) probe.Finding {
				payload := append(t.Payload("large"), make([]byte, 4000)...)
				return socketKind{kind: unix.SOCK_DGRAM, to: to, wait: brief}.converse(ctx, payload, packetEvent("udp", to, "fragment"))
			}})
		}
	}
	if len(attempts) == 0 {
		return probe.Missing("public address")
	}
	return together(ctx, t, attempts)
}
