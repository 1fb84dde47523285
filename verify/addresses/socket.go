package addresses

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/verify/probe"
	"golang.org/x/sys/unix"
)

const maxAnswer = 4096 // bytes read of one

// socketKind is what a socket is made of, and where it leads.
type socketKind struct {
	kind, proto int
	to          netip.AddrPort // with a zone: the interface of that name
	mapped      bool           // an IPv4 address, by a socket of IPv6
	fastOpen    bool           // TCP: the first segment carries data
	set         []option
	wait        time.Duration // zero: patience
}

// option is one of setsockopt(2) that takes a number.
type option struct{ level, name, value int }

// open makes the socket; it gives up at ctx's end.
func (k socketKind) open(ctx context.Context) (fd int, err error) {
	family := unix.AF_INET
	if k.to.Addr().Is6() || k.mapped {
		family = unix.AF_INET6
	}
	fd, err = unix.Socket(family, k.kind|unix.SOCK_CLOEXEC, k.proto)
	if err != nil {
		return -1, fmt.Errorf("make the socket: %w", err)
	}
	limit := k.wait
	if limit == 0 {
		limit = patience
	}
	tv := unix.NsecToTimeval(left(ctx, limit).Nanoseconds())
	err = errors.Join(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &tv))
	set := k.set
	if k.kind != unix.SOCK_STREAM { // a connection's refusal is an error of connect
		set = append(slices.Clip(set), wantErrors(family))
	}
	for _, o := range set {
		if err == nil {
			err = unix.SetsockoptInt(fd, o.level, o.name, o.value)
		}
	}
	if err != nil {
		return -1, errors.Join(fmt.Errorf("set the socket up: %w", err), unix.Close(fd))
	}
	return fd, nil
}

// wantErrors has refusals that come back by ICMP reported by recv.
func wantErrors(family int) option {
	if family == unix.AF_INET6 {
		return option{unix.IPPROTO_IPV6, unix.IPV6_RECVERR, 1}
	}
	return option{unix.IPPROTO_IP, unix.IP_RECVERR, 1}
}

func (k socketKind) address() (unix.Sockaddr, error) {
	addr, port := k.to.Addr(), int(k.to.Port())
	switch {
	case k.mapped:
		return &unix.SockaddrInet6{Addr: addr.As16(), Port: port}, nil
	case addr.Is4():
		return &unix.SockaddrInet4{Addr: addr.As4(), Port: port}, nil
	}
	zone, err := zoneIndex(addr.Zone())
	return &unix.SockaddrInet6{Addr: addr.As16(), Port: port, ZoneId: zone}, err
}

// converse connects, says message and judges what comes back. For a stream a
// connection alone proves nothing: the wall accepts each one, to learn what was
// wanted, and then answers with a 403 or a reset.
func (k socketKind) converse(ctx context.Context, message []byte, event probe.Event) probe.Finding {
	fd, err := k.open(ctx)
	if err != nil {
		return probe.Stopped(err, "the kernel")
	}
	defer unix.Close(fd)
	to, err := k.address()
	if err != nil {
		return probe.Stopped(err, "the kernel")
	}
	if err := k.say(fd, to, message); err != nil {
		return refused(err, event)
	}
	if k.kind == unix.SOCK_DGRAM {
		return answered(fd, event)
	}
	answer, err := whatIsSaid(fd)
	switch {
	case len(answer) > 0:
		return judge(answer, event)
	case err != nil:
		return refused(err, event)
	}
	return probe.Unproven("connected; closed without a word and without a reset")
}

// whatIsSaid reads from a stream until its end, an error, the end of an HTTP head,
// or the greeting.
func whatIsSaid(fd int) (answer []byte, err error) {
	buf := make([]byte, maxAnswer)
	for len(answer) < maxAnswer && !bytes.HasPrefix(answer, []byte(probe.Greeting)) && !bytes.Contains(answer, []byte("\r\n\r\n")) {
		n, err := read(fd, buf)
		if n <= 0 || err != nil {
			return answer, err
		}
		answer = append(answer, buf[:n]...)
	}
	return answer, nil
}

// answered reads an answer to a datagram, or its refusal. Silence proves nothing
// by itself: the record must have the event.
func answered(fd int, event probe.Event) probe.Finding {
	buf := make([]byte, maxAnswer)
	n, err := read(fd, buf)
	switch {
	case errors.Is(err, unix.EAGAIN):
		return probe.Blocked("silent: no answer until the deadline", event)
	case err != nil:
		return refused(err, event)
	}
	return judge(buf[:n], event)
}

// say sends message, over a stream as soon as it is connected.
func (k socketKind) say(fd int, to unix.Sockaddr, message []byte) error {
	if k.fastOpen {
		return unix.Sendto(fd, message, unix.MSG_FASTOPEN, to)
	}
	if err := unix.Connect(fd, to); err != nil {
		return err
	}
	_, err := unix.Write(fd, message)
	return err
}

func read(fd int, buf []byte) (n int, err error) {
	for {
		if n, err = unix.Read(fd, buf); !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

// judge tells the gateway's own refusal from an answer of somebody else.
func judge(answer []byte, event probe.Event) probe.Finding {
	if bytes.HasPrefix(answer, []byte("HTTP/1.1 403 ")) && bytes.Contains(answer, []byte("X-Sallyport-Reason:")) {
		return probe.Blocked("403 by the gateway", event)
	}
	return probe.Reached("%s", describe(answer))
}

// intercepted is the event of a TCP connection. Port 53 of any address is DNS.
func intercepted(to netip.AddrPort) probe.Event {
	layer := audit.LayerIntercept
	if to.Port() == 53 {
		layer = audit.LayerDNS
	}
	return probe.Event{Layer: layer, Proto: "tcp", Dst: to.String()}
}

// packetEvent is that of a packet that no other layer sees; the port is zero for
// protocols that have none.
func packetEvent(proto string, to netip.AddrPort, rule string) probe.Event {
	e := probe.Event{Layer: audit.LayerPacket, Proto: proto, Dst: to.Addr().WithZone("").String(), Rule: rule}
	if to.Port() != 0 {
		e.Dst = netip.AddrPortFrom(to.Addr().WithZone(""), to.Port()).String()
	}
	return e
}
