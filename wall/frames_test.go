package wall

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/sallyport/sallyport/audit"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// sendFrames sends frames to the wall's end, as root with NET_RAW can: the
// sandbox's kernel does not look at them.
func (b *box) sendFrames(t *testing.T, protocol uint16, payloads ...[]byte) {
	t.Helper()
	b.ns.in(t, func() error {
		eth0, err := net.InterfaceByName(sandboxInterface)
		if err != nil {
			return err
		}
		order := protocol<<8 | protocol>>8
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(order))
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		to := &unix.SockaddrLinklayer{Protocol: order, Ifindex: eth0.Index, Halen: 6, Addr: [8]byte(append(wallMAC, 0, 0))}
		for _, p := range payloads {
			if err := unix.Sendto(fd, p, 0, to); err != nil {
				return err
			}
		}
		return nil
	})
}

// frame4 is a whole IPv4 packet, with options in front of the payload.
func frame4(proto byte, src, dst netip.Addr, options, payload []byte) []byte {
	p := packet4(proto, src, dst, append(options, payload...))
	p[0] += byte(len(options) / 4)
	binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
	header := p[:20+len(options)]
	binary.BigEndian.PutUint16(p[10:], ^onesSum(header))
	return p
}

// frame6 is an IPv6 packet, whose first header is next.
func frame6(next, hops byte, src, dst string, payload []byte) []byte {
	p := make([]byte, 40, 40+len(payload))
	p[0], p[6], p[7] = 0x60, next, hops
	binary.BigEndian.PutUint16(p[4:], uint16(len(payload)))
	copy(p[8:], netip.MustParseAddr(src).AsSlice())
	copy(p[24:], netip.MustParseAddr(dst).AsSlice())
	return append(p, payload...)
}

func datagram(sport, dport uint16) []byte {
	d := []byte{0, 0, 0, 0, 0, 9, 0, 0, 'x'}
	binary.BigEndian.PutUint16(d, sport)
	binary.BigEndian.PutUint16(d[2:], dport)
	return d
}

func TestCraftedFrames(t *testing.T) {
	b := newBox(t)
	own4, own6 := b.addr.Sandbox4, b.addr.Sandbox6.String()
	dst4 := netip.MustParseAddr("203.0.113.5")
	from4 := func(src string) []byte {
		return frame4(unix.IPPROTO_UDP, netip.MustParseAddr(src), dst4, nil, datagram(1, 53))
	}
	to4 := func(dst string) []byte {
		return frame4(unix.IPPROTO_UDP, own4, netip.MustParseAddr(dst), nil, datagram(1, 53))
	}
	from6 := func(src string) []byte { return frame6(unix.IPPROTO_UDP, 64, src, "2001:db8::5", datagram(1, 53)) }
	sourceRoute := []byte{131, 7, 4, 198, 51, 100, 9, 0} // loose, RFC 791
	routed := append([]byte{unix.IPPROTO_UDP, 2, 0, 1, 0, 0, 0, 0}, append(netip.MustParseAddr("2001:db8::9").AsSlice(), datagram(1, 53)...)...)
	routedSYN := append([]byte{unix.IPPROTO_TCP, 2, 0, 1, 0, 0, 0, 0}, append(netip.MustParseAddr("2001:db8::9").AsSlice(), segment(1, 443, tcpSYN)...)...)
	advert := withChecksum6(own6, "ff02::1", append([]byte{icmpNeighborAdvert, 0, 0, 0, 0x20, 0, 0, 0}, b.addr.Gate6.AsSlice()...))
	cases := []struct {
		name     string
		protocol uint16
		frame    []byte
		rule     string
	}{
		{"from loopback", unix.ETH_P_IP, from4("127.0.0.1"), "spoof"},
		{"from nowhere", unix.ETH_P_IP, from4("0.0.0.0"), "spoof"},
		{"from everybody", unix.ETH_P_IP, from4("255.255.255.255"), "spoof"},
		{"from a group", unix.ETH_P_IP, from4("224.0.0.1"), "spoof"},
		{"from the gateway", unix.ETH_P_IP, from4(b.addr.Gate4.String()), "spoof"},
		{"from the gateway, IPv6", unix.ETH_P_IPV6, from6(b.addr.Gate6.String()), "spoof"},
		{"from a link-local address", unix.ETH_P_IPV6, from6("fe80::1"), "spoof"},
		{"from nowhere, IPv6", unix.ETH_P_IPV6, from6("::"), "spoof"},
		{"from a mapped address", unix.ETH_P_IPV6, from6("::ffff:10.213.0.0"), "spoof"},
		{"to loopback", unix.ETH_P_IP, to4("127.0.0.1"), "address"},
		{"to a group", unix.ETH_P_IP, to4("224.0.0.251"), "address"},
		{"to a group, IPv6", unix.ETH_P_IPV6, frame6(unix.IPPROTO_UDP, 64, own6, "ff02::fb", datagram(1, 53)), "address"},
		{"source route, UDP", unix.ETH_P_IP, frame4(unix.IPPROTO_UDP, own4, dst4, sourceRoute, datagram(1, 53)), "options"},
		{"source route, TCP", unix.ETH_P_IP, frame4(unix.IPPROTO_TCP, own4, dst4, sourceRoute, segment(1, 443, tcpSYN)), "options"},
		{"routing header, UDP", unix.ETH_P_IPV6, frame6(unix.IPPROTO_ROUTING, 64, own6, "2001:db8::5", routed), "options"},
		{"routing header, TCP", unix.ETH_P_IPV6, frame6(unix.IPPROTO_ROUTING, 64, own6, "2001:db8::5", routedSYN), "options"},
		{"router solicitation", unix.ETH_P_IPV6, frame6(unix.IPPROTO_ICMPV6, 255, own6, "ff02::2", []byte{routerSolicitation, 0, 0, 0, 0, 0, 0, 0}), "other"},
		{"listener report that is let travel", unix.ETH_P_IPV6, frame6(unix.IPPROTO_ICMPV6, 64, own6, "ff02::16", []byte{icmpMLD2Report, 0, 0, 0, 0, 0, 0, 0}), "other"},
		{"neighbour advertisement to all", unix.ETH_P_IPV6, frame6(unix.IPPROTO_ICMPV6, 255, own6, "ff02::1", advert), "other"},
		{"neighbour solicitation", unix.ETH_P_IPV6, frame6(unix.IPPROTO_ICMPV6, 255, own6, "ff02::1:ff00:1", append([]byte{icmpNeighborSolicit, 0, 0, 0, 0, 0, 0, 0}, b.addr.Gate6.AsSlice()...)), "other"},
		{"neighbour solicitation of another", unix.ETH_P_IPV6, frame6(unix.IPPROTO_ICMPV6, 255, "2001:db8::7", "ff02::1:ff00:1", append([]byte{icmpNeighborSolicit, 0, 0, 0, 0, 0, 0, 0}, b.addr.Gate6.AsSlice()...)), "spoof"},
	}
	for _, c := range cases {
		match := func(e audit.Event) bool { return e.Layer == audit.LayerPacket && e.Rule == c.rule }
		before := b.count(match)
		b.sendFrames(t, c.protocol, c.frame)
		b.want(before+1, c.name, match)
	}
	b.want(1, "neighbour advertisements", func(e audit.Event) bool {
		return e.Proto == "icmpv6" && e.Dst == "ff02::1" && e.Method == "type 136 code 0"
	})
	b.want(int64(len(cases)), "and nothing else", func(audit.Event) bool { return true })
}

// neighbours are the wall's, but for lo's.
func (b *box) neighbours(t *testing.T) (list []string) {
	t.Helper()
	b.wallNS.in(t, func() error {
		all, err := netlink.NeighList(0, 0)
		for _, n := range all {
			if n.State&netlink.NUD_NOARP == 0 {
				list = append(list, n.IP.String()+" "+n.HardwareAddr.String())
			}
		}
		return err
	})
	slices.Sort(list)
	return list
}

// Whatever a sandbox claims by ARP or neighbour discovery, the wall's entries stay
// as they are, and there are no more of them.
func TestNeighbourClaims(t *testing.T) {
	b := newBox(t)
	before := b.neighbours(t)
	const request, reply = 1, 2
	arp := func(operation byte, sender, target netip.Addr) []byte {
		p := []byte{0, 1, 8, 0, 6, 4, 0, operation}
		p = append(append(p, 2, 'e', 'v', 'i', 'l', '!'), sender.AsSlice()...)
		return append(append(p, wallMAC...), target.AsSlice()...)
	}
	gate4, gate6 := b.addr.Gate4, b.addr.Gate6
	var frames, frames6 [][]byte
	for _, operation := range []byte{request, reply} {
		for _, sender := range []netip.Addr{b.addr.Sandbox4, gate4} {
			frames = append(frames, arp(operation, sender, gate4), arp(operation, sender, sender))
		}
		for i := range 100 {
			frames = append(frames, arp(operation, netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}), gate4))
		}
	}
	for _, kind := range []byte{icmpNeighborSolicit, icmpNeighborAdvert} {
		for i, src := range []string{b.addr.Sandbox6.String(), gate6.String(), "2001:db8::7", "fe80::7"} {
			target, option := gate6, byte(1) // source link-layer address
			if kind == icmpNeighborAdvert {
				target, option = netip.MustParseAddr(src), 2 // target link-layer address
			}
			body := append(append([]byte{kind, 0, 0, 0, 0x20, 0, 0, 0}, target.AsSlice()...), option, 1, 2, 'e', 'v', 'i', 'l', byte(i))
			frames6 = append(frames6, frame6(unix.IPPROTO_ICMPV6, 255, src, gate6.String(), withChecksum6(src, gate6.String(), body)))
		}
	}
	b.sendFrames(t, unix.ETH_P_ARP, frames...)
	b.sendFrames(t, unix.ETH_P_IPV6, frames6...)
	b.want(6, "claims under foreign addresses", func(e audit.Event) bool { return e.Rule == "spoof" && e.Proto == "icmpv6" })
	if after := b.neighbours(t); !slices.Equal(before, after) || len(before) != 2 {
		t.Errorf("neighbours before: %v, after: %v", before, after)
	}
	if _, _, err := b.dial(t, "203.0.113.9:9"); err != nil {
		t.Error(err)
	}
}

// withChecksum6 sets the checksum of an ICMPv6 message, RFC 4443 §2.3.
func withChecksum6(src, dst string, message []byte) []byte {
	pseudo := append(netip.MustParseAddr(src).AsSlice(), netip.MustParseAddr(dst).AsSlice()...)
	pseudo = append(pseudo, 0, 0, 0, byte(len(message)), 0, 0, 0, unix.IPPROTO_ICMPV6)
	binary.BigEndian.PutUint16(message[2:], ^onesSum(append(pseudo, message...)))
	return message
}
