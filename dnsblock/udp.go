package dnsblock

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// The sizes of what one read may bring (bytes).
const (
	maxDatagram = 1 << 16
	maxControl  = 256 // both original destination messages and some to spare
)

// ServeUDP answers the queries that arrive at c until ctx is done; then, or on
// an error, it has closed c. c has IP_RECVORIGDSTADDR and, if it is an IPv6
// socket, IPV6_RECVORIGDSTADDR set: they tell which server was asked, and it is
// from that server's address that the answer comes. For that c has to be
// transparent, and bound to the port that was asked.
func (s *Server) ServeUDP(ctx context.Context, c *net.UDPConn) error {
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer c.Close()
	defer stop()
	if err := s.check(); err != nil {
		return err
	}
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
