package sandbox

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strconv"
)

// IP protocol numbers, IANA "Assigned Internet Protocol Numbers".
const (
	protoHopByHop = 0
	protoICMP     = 1
	protoTCP      = 6
	protoUDP      = 17
	protoRouting  = 43
	protoFragment = 44
	protoICMPv6   = 58
	protoDestOpts = 60
	protoSCTP     = 132
	protoDCCP     = 33
	protoUDPLite  = 136
)

var protoNames = map[uint8]string{
	protoICMP: "icmp", protoTCP: "tcp", protoUDP: "udp", protoICMPv6: "icmpv6",
	protoSCTP: "sctp", protoDCCP: "dccp", protoUDPLite: "udplite", 47: "gre",
}

// header is what a refused packet says of itself. It is the sender's claim.
type header struct {
	proto    uint8
	src, dst netip.Addr
	sport    uint16 // zero where the protocol has none
	dport    uint16 // for ICMP: type<<8 | code; for a frame: its EtherType
	sequence uint32 // TCP
}

func (h header) protoName() string {
	if name, ok := protoNames[h.proto]; ok {
		return name
	}
	return strconv.Itoa(int(h.proto))
}

func (h header) hasPorts() bool {
	switch h.proto {
	case protoTCP, protoUDP, protoSCTP, protoDCCP, protoUDPLite:
		return true
	}
	return false
}

func (h header) isICMP() bool { return h.proto == protoICMP || h.proto == protoICMPv6 }

// EtherTypes, IANA "IEEE 802 Numbers".
const (
	etherIPv4 = 0x0800
	etherARP  = 0x0806
	etherIPv6 = 0x86dd
)

// parseFrame reads what follows the header of a frame of this EtherType: of ARP for
// IPv4, who it says it is from and whom it is about (RFC 826).
func parseFrame(kind uint16, data []byte) header {
	h := header{dport: kind}
	if kind == etherARP && len(data) >= 28 && bytes.Equal(data[:6], []byte{0, 1, 8, 0, 6, 4}) {
		h.src, h.dst = netip.AddrFrom4([4]byte(data[14:18])), netip.AddrFrom4([4]byte(data[24:28]))
	}
	return h
}

// parseHeader reads the IP header at the start of data, and the transport header
// as far as it is there. ok is false where there is no whole IP header.
func parseHeader(data []byte) (h header, ok bool) {
	if len(data) < 1 {
		return h, false
	}
	switch data[0] >> 4 {
	case 4:
		return parseIPv4(data)
	case 6:
		return parseIPv6(data)
	}
	return h, false
}

func parseIPv4(data []byte) (h header, ok bool) {
	length := int(data[0]&0x0f) * 4
	if len(data) < 20 || length < 20 {
		return h, false
	}
	h.proto = data[9]
	h.src = netip.AddrFrom4([4]byte(data[12:16]))
	h.dst = netip.AddrFrom4([4]byte(data[16:20]))
	laterFragment := binary.BigEndian.Uint16(data[6:8])&0x1fff != 0
	if !laterFragment && len(data) > length {
		h.transport(data[length:])
	}
	return h, true
}

func parseIPv6(data []byte) (h header, ok bool) {
	if len(data) < 40 {
		return h, false
	}
	h.proto = data[6]
	h.src = netip.AddrFrom16([16]byte(data[8:24]))
	h.dst = netip.AddrFrom16([16]byte(data[24:40]))
	rest := data[40:]
	for range 8 { // extension headers, RFC 8200 §4; more are not followed
		length := 8
		switch h.proto {
		case protoHopByHop, protoRouting, protoDestOpts:
			if len(rest) < 2 {
				return h, true
			}
			length = (int(rest[1]) + 1) * 8
		case protoFragment:
			if len(rest) < 8 || binary.BigEndian.Uint16(rest[2:4])&0xfff8 != 0 {
				return h, true
			}
		default:
			h.transport(rest)
			return h, true
		}
		if len(rest) < length {
			return h, true
		}
		h.proto, rest = rest[0], rest[length:]
	}
	return h, true
}

func (h *header) transport(data []byte) {
	switch {
	case h.hasPorts() && len(data) >= 4:
		h.sport = binary.BigEndian.Uint16(data[0:2])
		h.dport = binary.BigEndian.Uint16(data[2:4])
		if h.proto == protoTCP && len(data) >= 8 {
			h.sequence = binary.BigEndian.Uint32(data[4:8])
		}
	case h.isICMP() && len(data) >= 2:
		h.dport = binary.BigEndian.Uint16(data[0:2])
	}
}
