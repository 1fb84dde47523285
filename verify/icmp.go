package verify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

var echoBody = []byte("sallyport probe")

// probeICMP sends an echo request: by a datagram socket, which any process may
// have where net.ipv4.ping_group_range lets it, else by a raw one.
func probeICMP(ctx context.Context, a Attempt) (Outcome, string) {
	to, err := netip.ParseAddr(a.Target)
	if err != nil {
		return Unproven, err.Error()
	}
	family, proto := syscall.AF_INET, syscall.IPPROTO_ICMP
	if to.Is6() {
		family, proto = syscall.AF_INET6, syscall.IPPROTO_ICMPV6
	}
	fd, first := socket(ctx, family, syscall.SOCK_DGRAM, proto)
	raw := false
	if first != nil {
		raw = true
		var second error
		if fd, second = socket(ctx, family, syscall.SOCK_RAW, proto); second != nil {
			return socketRefused(first, second)
		}
	}
	defer syscall.Close(fd)
	if err := wantErrors(fd, to); err != nil {
		return failed(err)
	}
	return echo(fd, to, raw)
}

// wantErrors has refusals that come back by ICMP reported by recv.
func wantErrors(fd int, to netip.Addr) error {
	if to.Is6() {
		return syscall.SetsockoptInt(fd, syscall.IPPROTO_IPV6, syscall.IPV6_RECVERR, 1)
	}
	return syscall.SetsockoptInt(fd, syscall.IPPROTO_IP, syscall.IP_RECVERR, 1)
}

func socketRefused(datagram, raw error) (Outcome, string) {
	detail := fmt.Sprintf("datagram ICMP socket: %v; raw ICMP socket: %v", datagram, raw)
	if outcome, _ := failed(raw); outcome == StoppedInside || errors.Is(raw, syscall.EACCES) {
		return StoppedInside, detail
	}
	return Unproven, detail
}

func echo(fd int, to netip.Addr, raw bool) (Outcome, string) {
	var kind icmp.Type = ipv4.ICMPTypeEcho
	if to.Is6() {
		kind = ipv6.ICMPTypeEchoRequest
	}
	packet, err := (&icmp.Message{Type: kind, Body: &icmp.Echo{ID: 0x5a11, Seq: 1, Data: echoBody}}).Marshal(nil)
	if err != nil {
		return Unproven, err.Error()
	}
	if err := syscall.Sendto(fd, packet, 0, sockaddr(to)); err != nil {
		return failed(err)
	}
	buf := make([]byte, maxAnswer)
	for {
		n, _, err := syscall.Recvfrom(fd, buf, 0)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EAGAIN):
			return Blocked, "silent: no answer until the deadline"
		case err != nil:
			return failed(err)
		case isReply(buf[:n], to, raw):
			return Reached, "an echo reply came back"
		case !raw:
			return Unproven, fmt.Sprintf("something other than an echo reply came back: %.40q", buf[:n])
		}
		// A raw socket sees every ICMP packet, its own request on lo too.
	}
}

func isReply(packet []byte, to netip.Addr, raw bool) bool {
	if raw && to.Is4() && len(packet) > 0 { // with the IPv4 header
		size := int(packet[0]&0xf) * 4
		if size > len(packet) {
			return false
		}
		packet = packet[size:]
	}
	if !bytes.HasSuffix(packet, echoBody) {
		return false
	}
	if to.Is4() {
		return packet[0] == byte(ipv4.ICMPTypeEchoReply)
	}
	return packet[0] == byte(ipv6.ICMPTypeEchoReply)
}

// probeRaw sends an IP packet of a protocol that nobody speaks (253, RFC 3692).
// Without NET_RAW there is no such socket and no packet.
func probeRaw(ctx context.Context, a Attempt) (Outcome, string) {
	to, err := netip.ParseAddr(a.Target)
	if err != nil {
		return Unproven, err.Error()
	}
	family := syscall.AF_INET
	if to.Is6() {
		family = syscall.AF_INET6
	}
	fd, err := socket(ctx, family, syscall.SOCK_RAW, 253)
	if err != nil {
		outcome, detail := failed(err)
		return outcome, "raw socket: " + detail
	}
	defer syscall.Close(fd)
	if err := wantErrors(fd, to); err != nil {
		return failed(err)
	}
	if err := syscall.Sendto(fd, echoBody, 0, sockaddr(to)); err != nil {
		return failed(err)
	}
	buf := make([]byte, maxAnswer)
	n, _, err := syscall.Recvfrom(fd, buf, 0)
	if errors.Is(err, syscall.EAGAIN) {
		return Blocked, "silent: no answer until the deadline"
	}
	if err != nil {
		return failed(err)
	}
	return Reached, fmt.Sprintf("%d bytes came back", n)
}

func sockaddr(to netip.Addr) syscall.Sockaddr {
	if to.Is4() {
		return &syscall.SockaddrInet4{Addr: to.As4()}
	}
	return &syscall.SockaddrInet6{Addr: to.As16()}
}

func remaining(ctx context.Context) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return Deadline
	}
	return time.Until(deadline)
}

// readDNS reads one message, over TCP with its length before it (RFC 1035 4.2.2).
func readDNS(conn net.Conn, tcp bool) ([]byte, error) {
	buf := make([]byte, 65535)
	if !tcp {
		n, err := conn.Read(buf)
		return buf[:n], err
	}
	if _, err := io.ReadFull(conn, buf[:2]); err != nil {
		return nil, err
	}
	n := int(buf[0])<<8 | int(buf[1])
	_, err := io.ReadFull(conn, buf[:n])
	return buf[:n], err
}
