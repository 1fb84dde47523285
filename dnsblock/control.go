package dnsblock

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// maxControl is room for the control messages of one query (bytes): both original
// destinations, and some to spare.
const maxControl = 128

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
