package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"
)

// Packet is one packet that arrived at the internet.
type Packet struct {
	From     string // the host it came from
	Proto    uint8  // the IP protocol's number; 0: not IP
	Src, Dst netip.AddrPort
}

func (p Packet) String() string {
	return fmt.Sprintf("from %s: protocol %d, %s → %s", p.From, p.Proto, p.Src, p.Dst)
}

// capture keeps what arrives on one interface. The socket's buffer is read when
// somebody asks, so a count is exact: what the buffer had no room for is counted
// by the kernel.
type capture struct {
	from   string
	marker netip.AddrPort // where that host's marker packets go
	fd     int
	mu     sync.Mutex
	seen   []Packet
	lost   int
	marked map[string]bool // payloads of marker packets that arrived
}

// captureBuffer holds about 80,000 packets.
const captureBuffer = 64 << 20

// newCapture runs on the host that has the interface.
func newCapture(from string, ifindex int, marker netip.AddrPort) (*capture, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("lab: capture: %w", err)
	}
	c := &capture{from: from, fd: fd, marker: marker, marked: make(map[string]bool)}
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, captureBuffer),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: swap16(unix.ETH_P_ALL), Ifindex: ifindex}),
	)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lab: capture: %w", err), unix.Close(fd))
	}
	return c, nil
}

func swap16(v uint16) uint16 { return v<<8 | v>>8 }

// drain takes what is in the buffer and returns copies of the lists.
func (c *capture) drain() (seen []Packet, lost int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	buf := make([]byte, 256)
	for {
		n, from, err := unix.Recvfrom(c.fd, buf, 0)
		if errors.Is(err, unix.EAGAIN) {
			break
		}
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, 0, fmt.Errorf("lab: read capture: %w", err)
		}
		ll, ok := from.(*unix.SockaddrLinklayer)
		if !ok || ll.Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		c.keep(swap16(ll.Protocol), buf[:n])
	}
	stats, err := unix.GetsockoptTpacketStats(c.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return nil, 0, fmt.Errorf("lab: read capture's statistics: %w", err)
	}
	c.lost += int(stats.Drops)
	return append([]Packet(nil), c.seen...), c.lost, nil
}

func (c *capture) keep(ethertype uint16, b []byte) {
	p := Packet{From: c.from}
	var payload []byte
	switch ethertype {
	case unix.ETH_P_ARP:
		return // neighbours find each other
	case unix.ETH_P_IP:
		payload = p.parse4(b)
	case unix.ETH_P_IPV6:
		payload = p.parse6(b)
		if p.Proto == unix.IPPROTO_ICMPV6 && neighbourKind(payload) {
			return
		}
	}
	if p.Dst == c.marker && p.Proto == unix.IPPROTO_UDP && len(payload) > 8 {
		c.marked[string(payload[8:])] = true
		return
	}
	c.seen = append(c.seen, p)
}

func (p *Packet) parse4(b []byte) (payload []byte) {
	if len(b) < 20 {
		return nil
	}
	p.Proto = b[9]
	src, dst := netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
	if header, total := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:])); header <= len(b) {
		payload = b[header:min(max(total, header), len(b))]
	}
	p.ports(src, dst, payload)
	return payload
}

func (p *Packet) parse6(b []byte) (payload []byte) {
	if len(b) < 40 {
		return nil
	}
	p.Proto, payload = b[6], b[40:]
	src, dst := netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
	if p.Proto == unix.IPPROTO_HOPOPTS && len(payload) >= 8 { // MLD has one
		length := 8 + int(payload[1])*8
		p.Proto, payload = payload[0], payload[min(length, len(payload)):]
	}
	p.ports(src, dst, payload)
	return payload
}

func (p *Packet) ports(src, dst netip.Addr, payload []byte) {
	var from, to uint16
	if (p.Proto == unix.IPPROTO_TCP || p.Proto == unix.IPPROTO_UDP) && len(payload) >= 4 {
		from, to = binary.BigEndian.Uint16(payload), binary.BigEndian.Uint16(payload[2:])
	}
	p.Src, p.Dst = netip.AddrPortFrom(src, from), netip.AddrPortFrom(dst, to)
}

// neighbourKind tells the ICMPv6 messages that kernels send by themselves on a
// link: router and neighbour discovery and multicast listener reports.
func neighbourKind(icmp []byte) bool {
	if len(icmp) == 0 {
		return false
	}
	switch t := icmp[0]; {
	case t >= 130 && t <= 136, t == 143:
		return true
	}
	return false
}

func (c *capture) saw(marker string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.marked[marker]
}
