package wall

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/sallyport/sallyport/audit"
	"golang.org/x/sys/unix"
)

// ICMPv6 types, RFC 4861.
const (
	routerSolicitation  = 133
	icmpNeighborSolicit = 135
	icmpNeighborAdvert  = 136
)

// packet4 is an IPv4 packet; the kernel fills in length and checksum.
func packet4(proto byte, src, dst netip.Addr, payload []byte) []byte {
	p := make([]byte, 20, 20+len(payload))
	p[0], p[8], p[9] = 0x45, 64, proto
	copy(p[12:], src.AsSlice())
	copy(p[16:], dst.AsSlice())
	return append(p, payload...)
}

func segment(sport, dport uint16, flags byte) []byte {
	s := make([]byte, 20)
	binary.BigEndian.PutUint16(s, sport)
	binary.BigEndian.PutUint16(s[2:], dport)
	binary.BigEndian.PutUint32(s[4:], 1000)
	binary.BigEndian.PutUint32(s[8:], 2000)
	s[12], s[13] = 5<<4, flags
	binary.BigEndian.PutUint16(s[14:], 1024)
	return s
}

// sendRaw sends packets from the sandbox as root with NET_RAW would.
func (b *box) sendRaw(t *testing.T, packets ...[]byte) {
	t.Helper()
	b.ns.in(t, func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for _, p := range packets {
			if err := unix.Sendto(fd, p, 0, &unix.SockaddrInet4{Addr: [4]byte(p[16:20])}); err != nil {
				return err
			}
		}
		return nil
	})
}

// The rest of a connection that never came is told behind its first segment, however
// many wait to be told, and is no attempt of its own.
func TestStrayIsToldBehindItsSYN(t *testing.T) {
	b := newBox(t)
	b.records.Store(true)
	const begun = 2000
	dst := netip.MustParseAddr("203.0.113.5")
	var packets [][]byte
	for n := range uint16(begun) {
		packets = append(packets, packet4(unix.IPPROTO_TCP, b.addr.Sandbox4, dst, segment(1000+n, 443, tcpSYN)))
	}
	for _, flags := range []byte{tcpACK, tcpFIN | tcpACK, tcpRST} { // of the last one
		packets = append(packets, packet4(unix.IPPROTO_TCP, b.addr.Sandbox4, dst, segment(1000+begun-1, 443, flags)))
	}
	if err := b.wall.Process.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	b.sendRaw(t, packets...)
	if err := b.wall.Process.Signal(unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	b.wantAttempts(t, begun)
	if n := b.counted(t)[ruleStray]; n == 0 {
		t.Error("no segment was stray")
	}
}

// Segments of no connection, of every set of flags, are counted one by one; a SYN
// alone is a connection attempt.
func TestCraftedSegments(t *testing.T) {
	b := newBox(t)
	dst := netip.MustParseAddr("203.0.113.5")
	var packets [][]byte
	for flags := range 256 {
		if flags&(tcpFIN|tcpSYN|tcpRST|tcpACK) != tcpSYN {
			packets = append(packets, packet4(unix.IPPROTO_TCP, b.addr.Sandbox4, dst, segment(uint16(1000+flags), 443, byte(flags))))
		}
	}
	b.sendRaw(t, packets...)
	b.want(int64(len(packets)), "stray segments", packetTo(b.id, "stray", "203.0.113.5:443"))

	packets = nil
	for flags := range 64 { // to the port of the listeners, SYN included
		packets = append(packets, packet4(unix.IPPROTO_TCP, b.addr.Sandbox4, dst, segment(uint16(1000+flags), tproxyPort, byte(flags))))
	}
	b.sendRaw(t, packets...)
	b.want(64, "segments to the listeners' port", packetTo(b.id, "port", "203.0.113.5:15001"))
}

func TestSpoofedSources(t *testing.T) {
	b := newBox(t)
	dst := netip.MustParseAddr("203.0.113.5")
	sources := []string{"203.0.113.77", b.addr.Gate4.String(), "10.213.0.2", "8.8.8.8"}
	for _, src := range sources {
		addr := netip.MustParseAddr(src)
		b.sendRaw(t,
			packet4(unix.IPPROTO_TCP, addr, dst, segment(1000, 443, tcpSYN)),
			packet4(unix.IPPROTO_UDP, addr, dst, []byte{3, 232, 0, 53, 0, 9, 0, 0, 'x'}),
			packet4(unix.IPPROTO_ICMP, addr, dst, []byte{8, 0, 0, 0, 0, 0, 0, 0}))
		b.want(3, "of "+src, func(e audit.Event) bool {
			from, _ := netip.ParseAddrPort(e.Src)
			return e.Rule == "spoof" && e.Sandbox == b.id && (e.Src == src || from.Addr() == addr)
		})
	}
	b.want(0, "taken for real", func(e audit.Event) bool { return e.Layer != audit.LayerPacket || e.Rule != "spoof" })
}

func TestOtherProtocols(t *testing.T) {
	b := newBox(t)
	dst := netip.MustParseAddr("203.0.113.5")
	for proto, name := range map[byte]string{unix.IPPROTO_ICMP: "icmp", unix.IPPROTO_SCTP: "sctp", 47: "gre", 50: "50", 253: "253"} {
		b.sendRaw(t, packet4(proto, b.addr.Sandbox4, dst, []byte{8, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0}))
		b.want(1, name, func(e audit.Event) bool { return e.Rule == "other" && e.Proto == name && e.Sandbox == b.id })
	}
}

// ping is refused at once, with an error and not by a time-out.
func TestPing(t *testing.T) {
	b := newBox(t)
	for _, c := range []struct {
		family, proto, request int
		to                     unix.Sockaddr
		event                  string
	}{
		{unix.AF_INET, unix.IPPROTO_ICMP, 8, &unix.SockaddrInet4{Addr: [4]byte{203, 0, 113, 5}}, "icmp"},
		{unix.AF_INET6, unix.IPPROTO_ICMPV6, 128, &unix.SockaddrInet6{Addr: netip.MustParseAddr("2001:db8::5").As16()}, "icmpv6"},
	} {
		b.ns.in(t, func() error {
			fd, err := unix.Socket(c.family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, c.proto)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			if err := unix.Connect(fd, c.to); err != nil {
				return err
			}
			_, err = unix.Write(fd, []byte{byte(c.request), 0, 0xf7, 0xff, 0, 0, 0, 0})
			return err
		})
		b.want(1, c.event, func(e audit.Event) bool { return e.Proto == c.event && e.Rule == "other" })
	}
}

// A piece of a datagram, whose rest never comes, is recorded, and nothing is put
// together of pieces.
func TestFragments(t *testing.T) {
	b := newBox(t)
	dst := netip.MustParseAddr("203.0.113.5")
	piece := func(offset uint16, payload ...byte) []byte {
		p := packet4(unix.IPPROTO_UDP, b.addr.Sandbox4, dst, payload)
		binary.BigEndian.PutUint16(p[4:], 77)
		binary.BigEndian.PutUint16(p[6:], offset)
		return p
	}
	const more = 1 << 13
	b.sendRaw(t, piece(more, 3, 232, 0, 53, 0, 16, 0, 0), piece(1, make([]byte, 8)...))
	b.want(1, "the first piece", packetTo(b.id, "fragment", "203.0.113.5:53"))
	b.want(1, "the last piece", func(e audit.Event) bool { return e.Rule == "fragment" && e.Dst == "203.0.113.5" && e.Proto == "udp" })
	b.ns.in(t, func() error {
		fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_FRAGMENT)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Sendto(fd, []byte{unix.IPPROTO_UDP, 0, 0, 1, 0, 0, 0, 9, 3, 232, 0, 53, 0, 16, 0, 0}, 0,
			&unix.SockaddrInet6{Addr: netip.MustParseAddr("2001:db8::5").As16()})
	})
	b.want(1, "an IPv6 piece", packetTo(b.id, "fragment", "[2001:db8::5]:53"))
	b.want(3, "and nothing else", func(audit.Event) bool { return true })
}

// A router solicitation to an address that is not link-local multicast is not the
// kernel's own.
func TestSolicitationToAnyAddress(t *testing.T) {
	b := newBox(t)
	for _, kind := range []byte{routerSolicitation, icmpMLDReport, icmpMLD2Report} {
		b.ns.in(t, func() error {
			fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			return unix.Sendto(fd, []byte{kind, 0, 0, 0, 0, 0, 0, 0}, 0, &unix.SockaddrInet6{Addr: netip.MustParseAddr("2001:db8::5").As16()})
		})
	}
	b.want(3, "ICMPv6", func(e audit.Event) bool { return e.Rule == "other" && e.Proto == "icmpv6" && e.Dst == "2001:db8::5" })
}
