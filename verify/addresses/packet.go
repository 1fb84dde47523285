package addresses

import (
	"context"
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// identification is the IPv4 header's field in all crafted packets; zero, the
// kernel would choose one.
const identification = 0x5a11

// header is that of a crafted IP packet. What is zero is usual.
type header struct {
	src, dst netip.Addr
	proto    byte
	fragment uint16 // IPv4: flags and offset
	options  []byte // IPv4: a multiple of four bytes
	hops     byte   // zero: 64
}

// packet is the header with what it carries.
func (h header) packet(payload []byte) []byte {
	hops := h.hops
	if hops == 0 {
		hops = 64
	}
	if h.dst.Is6() {
		p := append(make([]byte, 40), payload...)
		p[0], p[6], p[7] = 6<<4, h.proto, hops
		binary.BigEndian.PutUint16(p[4:], uint16(len(payload)))
		copy(p[8:], h.src.AsSlice())
		copy(p[24:], h.dst.AsSlice())
		return p
	}
	p := append(make([]byte, 20), h.options...)
	p[0], p[8], p[9] = byte(4<<4|len(p)/4), hops, h.proto
	binary.BigEndian.PutUint16(p[2:], uint16(len(p)+len(payload)))
	binary.BigEndian.PutUint16(p[4:], identification)
	binary.BigEndian.PutUint16(p[6:], h.fragment)
	copy(p[12:], h.src.AsSlice())
	copy(p[16:], h.dst.AsSlice())
	binary.BigEndian.PutUint16(p[10:], checksum(p))
	return append(p, payload...)
}

// checksum is that of RFC 1071.
func checksum(data []byte) uint16 {
	sum := uint32(0)
	for i := 0; i+1 < len(data); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(data[i:]))
	}
	if len(data)%2 == 1 {
		sum += uint32(data[len(data)-1]) << 8
	}
	for sum>>16 != 0 {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// sealed writes the checksum over data and the pseudo header (RFC 9293 §3.1, RFC
// 8200 §8.1) at offset.
func sealed(data []byte, offset int, src, dst netip.Addr, proto byte) []byte {
	pseudo := append(append([]byte{}, src.AsSlice()...), dst.AsSlice()...)
	pseudo = binary.BigEndian.AppendUint32(pseudo, uint32(len(data)))
	pseudo = append(append(pseudo, 0, 0, 0, proto), data...)
	binary.BigEndian.PutUint16(data[offset:], checksum(pseudo))
	return data
}

// sourcePort is that of crafted packets.
const sourcePort = 40000

func udp(src, dst netip.Addr, port uint16, payload []byte) []byte {
	d := make([]byte, 8, 8+len(payload))
	binary.BigEndian.PutUint16(d, sourcePort)
	binary.BigEndian.PutUint16(d[2:], port)
	binary.BigEndian.PutUint16(d[4:], uint16(8+len(payload)))
	return sealed(append(d, payload...), 6, src, dst, unix.IPPROTO_UDP)
}

// The flags of TCP, RFC 9293 §3.1.
const (
	flagFIN = 1 << iota
	flagSYN
	flagRST
	flagPSH
	flagACK
	flagURG
)

func tcp(src, dst netip.Addr, port uint16, flags byte, payload []byte) []byte {
	s := make([]byte, 20, 20+len(payload))
	binary.BigEndian.PutUint16(s, sourcePort)
	binary.BigEndian.PutUint16(s[2:], port)
	binary.BigEndian.PutUint32(s[4:], 1000)
	binary.BigEndian.PutUint32(s[8:], 2000)
	s[12], s[13] = 5<<4, flags
	binary.BigEndian.PutUint16(s[14:], 1024)
	return sealed(append(s, payload...), 16, src, dst, unix.IPPROTO_TCP)
}

func icmp4(kind, code byte, rest ...byte) []byte {
	m := append([]byte{kind, code, 0, 0}, rest...)
	binary.BigEndian.PutUint16(m[2:], checksum(m))
	return m
}

func icmp6(src, dst netip.Addr, kind, code byte, rest ...byte) []byte {
	return sealed(append([]byte{kind, code, 0, 0}, rest...), 2, src, dst, unix.IPPROTO_ICMPV6)
}

// raw sends an IP packet that is whole, header included.
func raw(packet []byte) func(context.Context) ([]byte, error) {
	return func(context.Context) ([]byte, error) {
		family, to := unix.AF_INET, unix.Sockaddr(nil)
		if packet[0]>>4 == 6 {
			family, to = unix.AF_INET6, &unix.SockaddrInet6{Addr: [16]byte(packet[24:40])}
		} else {
			to = &unix.SockaddrInet4{Addr: [4]byte(packet[16:20])}
		}
		fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		if err != nil {
			return nil, socketError{err}
		}
		defer unix.Close(fd)
		return nil, unix.Sendto(fd, packet, 0, to)
	}
}
