package dnsblock

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The sizes of what one read may bring (bytes).
const (
	maxDatagram = 1 << 16
	maxControl  = 256 // both original destination messages and some to spare
)

// The answer of SO_MEMINFO, linux/sock_diag.h.
const (
	skMeminfoDrops = 8
	skMeminfoVars  = 9
)

// defaultDropTime is how often dropped queries are recorded, at most: each time
// makes an event of its own, and they come by the thousand.
const defaultDropTime = time.Second

// lostReason is that of queries that were dropped.
const lostReason = "DNS queries that came too fast: there was no room for them at the socket"

// ServeUDP answers the queries that arrive at c until ctx is done; then, or on
// an error, it has closed c. c has IP_RECVORIGDSTADDR and, if it is an IPv6
// socket, IPV6_RECVORIGDSTADDR set: they tell which server was asked, and it is
// from that server's address that the answer comes. For that c has to be
// transparent, and bound to the port that was asked.
func (s *Server) ServeUDP(ctx context.Context, c *net.UDPConn) error {
	defer c.Close()
	if err := s.check(); err != nil {
		return err
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return fmt.Errorf("serve DNS over UDP: %w", err)
	}
	stop := context.AfterFunc(ctx, func() {
		if c.SetDeadline(time.Unix(1, 0)) != nil { // what was dropped is counted before c is closed
			c.Close()
		}
	})
	defer stop()
	ended := make(chan struct{})
	var counting sync.WaitGroup
	counting.Go(func() { s.countDropped(raw, ended) })
	defer counting.Wait()
	defer close(ended)
	message, control := make([]byte, maxDatagram), make([]byte, maxControl)
	for {
		n, cn, _, src, err := c.ReadMsgUDPAddrPort(message, control)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("serve DNS over UDP: %w", err)
		}
		s.answerUDP(c, message[:n], peer{proto: "udp", src: src, dst: asked(control[:cn])})
	}
}

// countDropped records how many queries the kernel dropped for want of room, or
// for a wrong checksum: now and then, and what is left once ended is closed. What
// cannot be recorded is not tried again: whoever keeps the record counts what it
// refused.
func (s *Server) countDropped(raw syscall.RawConn, ended <-chan struct{}) {
	tick := time.NewTicker(cmp.Or(s.dropTime, defaultDropTime))
	defer tick.Stop()
	var told uint32
	for open := true; open; {
		select {
		case <-tick.C:
		case <-ended:
			open = false
		}
		now, err := dropped(raw)
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				s.Log.Error("DNS queries that are dropped are not counted", "error", err)
			}
			return
		}
		if now == told {
			continue
		}
		e := s.event(peer{proto: "udp"}, lostReason)
		e.Rule, e.Lost = "lost", int64(now-told) // the number may wrap around
		s.record(e)
		told = now
	}
}

// dropped is how many datagrams the kernel dropped at a socket so far: the same
// number as SO_RXQ_OVFL, which tells it only with a later datagram that has room.
func dropped(raw syscall.RawConn) (n uint32, err error) {
	var info [skMeminfoVars]uint32
	size, errno := uint32(unsafe.Sizeof(info)), syscall.Errno(0)
	err = raw.Control(func(fd uintptr) {
		_, _, errno = unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_MEMINFO,
			uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	})
	if err == nil && errno != 0 {
		err = os.NewSyscallError("getsockopt SO_MEMINFO", errno)
	}
	return info[skMeminfoDrops], err
}

func (s *Server) answerUDP(c *net.UDPConn, message []byte, p peer) {
	to := p.src
	p.src = unmapped(p.src)
	answer := s.handle(message, p)
	if answer == nil {
		return
	}
	if _, _, err := c.WriteMsgUDPAddrPort(answer, from(p.dst), to); err != nil {
		// The query is recorded and refused; its sender just does not hear of it
		// (a broadcast address was asked, say).
		s.Log.Debug("DNS answer not sent", "to", to, "error", err)
	}
}

// asked returns the server that a query was sent to, out of the control messages
// that came with it; the zero AddrPort if they do not say.
func asked(control []byte) netip.AddrPort {
	for len(control) > 0 {
		header, data, rest, err := unix.ParseOneSocketControlMessage(control)
		if err != nil {
			break
		}
		switch {
		case header.Level == unix.SOL_IP && header.Type == unix.IP_ORIGDSTADDR && len(data) >= unix.SizeofSockaddrInet4:
			// struct sockaddr_in: family, port, address
			addr, _ := netip.AddrFromSlice(data[4:8])
			return netip.AddrPortFrom(addr, binary.BigEndian.Uint16(data[2:]))
		case header.Level == unix.SOL_IPV6 && header.Type == unix.IPV6_ORIGDSTADDR && len(data) >= unix.SizeofSockaddrInet6:
			// struct sockaddr_in6: family, port, flow, address, scope
			addr, _ := netip.AddrFromSlice(data[8:24])
			return unmapped(netip.AddrPortFrom(addr, binary.BigEndian.Uint16(data[2:])))
		}
		control = rest
	}
	return netip.AddrPort{}
}

// from returns the control message that makes an answer leave with the address
// of server; nil for the zero AddrPort. An IPv6 socket takes the IPv4 form too,
// when the answer goes to an IPv4 address.
func from(server netip.AddrPort) []byte {
	switch addr := server.Addr(); {
	case addr.Is4():
		return unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: addr.As4()})
	case addr.Is6():
		return unix.PktInfo6(&unix.Inet6Pktinfo{Addr: addr.As16()})
	}
	return nil
}
