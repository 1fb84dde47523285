package addresses

import (
	"bufio"
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/sallyport/sallyport/verify/probe"
	"golang.org/x/sys/unix"
)

var broadcastMAC = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

func frameProbes() []probe.Probe {
	return []probe.Probe{
		{Name: "packet-socket", Group: probe.Addresses, Try: packetSocket, Own: wired, Needs: rawSockets,
			Why:    "a frame that is given to the interface passes no route, no neighbour and no rule of the container's own",
			Source: "packet(7); CVE-2020-14386"},
		{Name: "packet-socket-broadcast", Group: probe.Addresses, Try: packetBroadcast, Own: wired, Needs: rawSockets,
			Why:    "who listens on the link takes a packet that is not for it out of a broadcast frame",
			Source: "packet(7); Linux Documentation/networking/ip-sysctl.rst, drop_unicast_in_l2_multicast"},
		{Name: "unspecified-source", Group: probe.Addresses, Try: unspecified, Own: wired, Needs: rawSockets,
			Why:    "source 0.0.0.0 is nobody's, and some checks of sources let it pass",
			Source: "RFC 1122 §3.2.1.3; RFC 6890"},
		{Name: "broadcast", Group: probe.Addresses, Try: broadcast, Own: wired,
			Why:    "a datagram to everybody on the link needs no address and no route",
			Source: "RFC 919; RFC 922"},
		{Name: "multicast-discovery", Group: probe.Addresses, Try: discovery, Own: wired,
			Why:    "mDNS, SSDP and LLMNR find and question hosts of the network, whatever its resolver refuses",
			Source: "RFC 6762; RFC 4795; UPnP Device Architecture 2.0; CVE-2020-12695"},
	}
}

// hardwareAddress is what the kernel knows of a neighbour in IPv4; nil: nothing.
func hardwareAddress(addr netip.Addr) net.HardwareAddr {
	file, err := os.Open("/proc/net/arp")
	if err != nil {
		return nil
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if f := strings.Fields(lines.Text()); len(f) >= 4 && f[0] == addr.String() {
			mac, err := net.ParseMAC(f[3])
			if err != nil {
				return nil
			}
			return mac
		}
	}
	return nil
}

// multicastMAC is where frames to a multicast address go (RFC 1112, RFC 2464 §7).
func multicastMAC(addr netip.Addr) net.HardwareAddr {
	b := addr.AsSlice()
	if addr.Is4() {
		return net.HardwareAddr{1, 0, 0x5e, b[1] & 0x7f, b[2], b[3]}
	}
	return append(net.HardwareAddr{0x33, 0x33}, b[12:]...)
}

// ethernet is a frame from a hardware address to another.
func ethernet(to, from net.HardwareAddr, kind uint16, payload []byte) []byte {
	f := append(append([]byte{}, to...), from...)
	return append(binary.BigEndian.AppendUint16(f, kind), payload...)
}

// framed is a parcel that is sent by a packet socket. No hardware address: the
// gateway's, or else everybody's.
func framed(t probe.Target, what string, to net.HardwareAddr, kind uint16, payload []byte, event probe.Event) parcel {
	return parcel{what: what, event: event, seen: holds(payload), send: func(context.Context) ([]byte, error) {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return nil, socketError{err}
		}
		defer unix.Close(fd)
		l, err := linkOf(t)
		if err != nil {
			return nil, err
		}
		if to == nil {
			to = l.gateway
		}
		if to == nil {
			to = broadcastMAC
		}
		frame := ethernet(to, l.HardwareAddr, kind, payload)
		return nil, unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: l.Index, Protocol: networkOrder(kind)})
	}}
}

func packetSocket(ctx context.Context, t probe.Target) probe.Finding {
	if !t.Own4.IsValid() || !t.Public4.IsValid() {
		return missingEnds
	}
	datagram, segment := netip.AddrPortFrom(t.Public4, portFrames), netip.AddrPortFrom(t.Public4, portFrames+1)
	parcels := []parcel{
		framed(t, "UDP", nil, ethernetIPv4, header{src: t.Own4, dst: t.Public4, proto: protoUDP}.packet(
			udp(t.Own4, t.Public4, datagram.Port(), t.Payload("frame"))), packetEvent("udp", datagram, "other")),
		framed(t, "TCP", nil, ethernetIPv4, header{src: t.Own4, dst: t.Public4, proto: protoTCP}.packet(
			tcp(t.Own4, t.Public4, segment.Port(), flagSYN, nil)), packetEvent("tcp", segment, halfOpen)),
	}
	if t.Own6.IsValid() && t.Public6.IsValid() {
		to := netip.AddrPortFrom(t.Public6, portFrames+2)
		parcels = append(parcels, framed(t, "UDP over IPv6", nil, ethernetIPv6, header{src: t.Own6, dst: t.Public6, proto: protoUDP}.packet(
			udp(t.Own6, t.Public6, to.Port(), t.Payload("frame"))), packetEvent("udp", to, "other")))
	}
	return emit(ctx, t, parcels)
}

func packetBroadcast(ctx context.Context, t probe.Target) probe.Finding {
	if !t.Own4.IsValid() || !t.Public4.IsValid() {
		return missingEnds
	}
	to := netip.AddrPortFrom(t.Public4, portFrames+3)
	packet := header{src: t.Own4, dst: t.Public4, proto: protoUDP}.packet(udp(t.Own4, t.Public4, to.Port(), t.Payload("everybody")))
	return emit(ctx, t, []parcel{framed(t, "UDP", broadcastMAC, ethernetIPv4, packet, packetEvent("udp", to, "other"))})
}

func unspecified(ctx context.Context, t probe.Target) probe.Finding {
	if !t.Own4.IsValid() || !t.Public4.IsValid() {
		return missingEnds
	}
	to, none := netip.AddrPortFrom(t.Public4, portFrames+4), netip.IPv4Unspecified()
	packet := header{src: none, dst: t.Public4, proto: protoUDP}.packet(udp(none, t.Public4, to.Port(), t.Payload("nobody")))
	return emit(ctx, t, []parcel{framed(t, "UDP", nil, ethernetIPv4, packet, packetEvent("udp", to, "spoof"))})
}

// toAll is a datagram to everybody, or to a group, from an ordinary socket. What
// anybody answers is read.
func toAll(t probe.Target, what string, to netip.AddrPort, payload []byte) parcel {
	socket := socketKind{kind: unix.SOCK_DGRAM, to: to, wait: brief, set: []option{{unix.SOL_SOCKET, unix.SO_BROADCAST, 1}}}
	return parcel{what: what, seen: holds(payload), event: packetEvent("udp", to, ""), send: func(ctx context.Context) ([]byte, error) {
		if l, err := linkOf(t); err == nil && to.Addr().Is6() {
			socket.to = netip.AddrPortFrom(to.Addr().WithZone(l.Name), to.Port())
		}
		fd, err := socket.open(ctx)
		if err != nil {
			return nil, socketError{err}
		}
		defer unix.Close(fd)
		sockaddr, err := socket.address()
		if err != nil {
			return nil, socketError{err}
		}
		if err := unix.Sendto(fd, payload, 0, sockaddr); err != nil {
			return nil, err
		}
		return silence(fd)
	}}
}

func broadcast(ctx context.Context, t probe.Target) probe.Finding {
	if !t.Own4.IsValid() {
		return probe.Missing("own address")
	}
	b := t.Own4.As4()
	subnet := netip.AddrFrom4([4]byte{b[0], b[1], 255, 255})
	return emit(ctx, t, []parcel{
		toAll(t, "255.255.255.255", netip.AddrPortFrom(netip.AddrFrom4([4]byte{255, 255, 255, 255}), portEcho), t.Payload("broadcast")),
		toAll(t, subnet.String(), netip.AddrPortFrom(subnet, portEcho), t.Payload("subnet")),
	})
}

// The names that discovery asks for are of RFC 2606.
func discovery(ctx context.Context, t probe.Target) probe.Finding {
	query := func(label string) []byte { // for the addresses of a name, RFC 1035 §4
		m := []byte{0x5a, 0x11, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0}
		for _, part := range strings.Split(t.Name(label), ".") {
			m = append(append(m, byte(len(part))), part...)
		}
		return append(m, 0, 0, 1, 0, 1)
	}
	search := []byte("M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\nST: sallyport:" + t.Run + "\r\n\r\n")
	groups := []struct {
		what, to string
		payload  []byte
	}{
		{"mDNS", "224.0.0.251:5353", query("mdns")},
		{"SSDP", "239.255.255.250:1900", search},
		{"LLMNR", "224.0.0.252:5355", query("llmnr")},
		{"mDNS over IPv6", "[ff02::fb]:5353", query("mdns6")},
		{"LLMNR over IPv6", "[ff02::1:3]:5355", query("llmnr6")},
	}
	var parcels []parcel
	for _, g := range groups {
		to := netip.MustParseAddrPort(g.to)
		if to.Addr().Is6() && !t.Own6.IsValid() {
			continue
		}
		parcels = append(parcels, toAll(t, g.what, to, g.payload))
	}
	return emit(ctx, t, parcels)
}
