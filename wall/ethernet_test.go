package wall

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/sandbox"
	"golang.org/x/sys/unix"
)

var (
	nobodyMAC    = net.HardwareAddr{2, 0, 0, 0, 0, 0x66}
	broadcastMAC = net.HardwareAddr{255, 255, 255, 255, 255, 255}
)

// ethernet is a whole frame.
func ethernet(to, from net.HardwareAddr, kind uint16, payload ...byte) []byte {
	return append(append(append(slices.Clone(to), from...), byte(kind>>8), byte(kind)), payload...)
}

// sendEthernet sends whole frames, as root with NET_RAW can.
func (b *box) sendEthernet(t *testing.T, frames ...[]byte) {
	t.Helper()
	b.ns.in(t, func() error {
		eth0, err := net.InterfaceByName(sandboxInterface)
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for _, f := range frames {
			if err := unix.Sendto(fd, f, 0, &unix.SockaddrLinklayer{Ifindex: eth0.Index, Halen: 6, Addr: [8]byte(append(f[:6:6], 0, 0))}); err != nil {
				return err
			}
		}
		return nil
	})
}

// question is what a sandbox's kernel asks while it is plugged.
func (b *box) question() []byte {
	q := append([]byte{0, 1, 8, 0, 6, 4, 0, 1}, plugMAC...)
	return append(append(append(q, b.addr.Sandbox4.AsSlice()...), make([]byte, 6)...), b.addr.Gate4.AsSlice()...)
}

// A frame that is no IP packet to the wall is recorded, whatever else it is.
func TestFramesOfOtherKinds(t *testing.T) {
	b := newBox(t)
	packet := frame4(unix.IPPROTO_UDP, b.addr.Sandbox4, netip.MustParseAddr("203.0.113.5"), nil, datagram(1, 77))
	changed := func(at int, to byte) []byte {
		q := b.question()
		q[at] = to
		return q
	}
	tagged := func(id byte) []byte { return append([]byte{0, id, 8, 0}, packet...) }
	gate := b.addr.Gate4.String()
	for _, c := range []struct {
		name       string
		frame      []byte
		proto, dst string
		reason     string
	}{
		{"ARP answer", ethernet(wallMAC, plugMAC, unix.ETH_P_ARP, changed(7, 2)...), "arp", gate, "by ARP"},
		{"ARP question from another hardware address", ethernet(broadcastMAC, nobodyMAC, unix.ETH_P_ARP, b.question()...), "arp", gate, "by ARP"},
		{"ARP question that names another one", ethernet(broadcastMAC, plugMAC, unix.ETH_P_ARP, changed(13, 'x')...), "arp", gate, "by ARP"},
		{"ARP question with something in it", ethernet(broadcastMAC, plugMAC, unix.ETH_P_ARP, changed(20, 'x')...), "arp", gate, "by ARP"},
		{"ARP question from another address", ethernet(broadcastMAC, plugMAC, unix.ETH_P_ARP, changed(14, 203)...), "arp", gate, "by ARP"},
		{"ARP question for another address", ethernet(broadcastMAC, plugMAC, unix.ETH_P_ARP, changed(24, 203)...), "arp", "203" + strings.TrimPrefix(gate, "10"), "by ARP"},
		{"ARP question with something behind it", ethernet(broadcastMAC, plugMAC, unix.ETH_P_ARP, append(b.question(), 'x')...), "arp", gate, "by ARP"},
		{"ARP, cut", ethernet(broadcastMAC, plugMAC, unix.ETH_P_ARP, b.question()[:27]...), "arp", "", "by ARP"},
		{"of a kind for experiments", ethernet(broadcastMAC, plugMAC, 0x88b5, 'x'), "ethernet", "", "0x88b5"},
		{"to nobody", ethernet(nobodyMAC, plugMAC, unix.ETH_P_IP, packet...), "ethernet", "", "hardware address"},
		{"to nobody, IPv6", ethernet(nobodyMAC, plugMAC, unix.ETH_P_IPV6, packet...), "ethernet", "", "hardware address"},
		{"of a VLAN", ethernet(wallMAC, plugMAC, unix.ETH_P_8021Q, tagged(7)...), "ethernet", "", "VLAN"},
		{"of the VLAN 0", ethernet(wallMAC, plugMAC, unix.ETH_P_8021Q, tagged(0)...), "ethernet", "", "VLAN"},
		{"with a length", ethernet(wallMAC, plugMAC, 4, 0xaa, 0xaa, 3, 0), "ethernet", "", "not an IP packet"},
	} {
		before := b.count(func(audit.Event) bool { return true })
		b.sendEthernet(t, ethernet(broadcastMAC, plugMAC, unix.ETH_P_ARP, b.question()...), c.frame)
		b.want(before+1, c.name, func(audit.Event) bool { return true })
		all := b.all()
		if e := all[len(all)-1]; e.Layer != audit.LayerPacket || e.Rule != "frame" || e.Proto != c.proto || e.Dst != c.dst ||
			e.Sandbox != b.id || !e.Denied() || !strings.Contains(e.Reason, c.reason) || e.Count != 1 {
			t.Errorf("%s: %+v", c.name, e)
		}
	}
}

// An IP packet to everybody's hardware address is looked at like any other.
func TestPacketToEverybody(t *testing.T) {
	b := newBox(t)
	dst := netip.MustParseAddr("203.0.113.5")
	b.sendEthernet(t, ethernet(broadcastMAC, plugMAC, unix.ETH_P_IP, frame4(unix.IPPROTO_UDP, b.addr.Sandbox4, dst, nil, datagram(1, 77))...))
	b.want(1, "the packet", packetTo(b.id, "other", "203.0.113.5:77"))
}

// Each frame of a flood is recorded or counted, and the first of another kind is
// told none the less.
func TestFloodOfFrames(t *testing.T) {
	b := newBox(t)
	const each, rounds = 1000, 60
	flood := slices.Repeat([][]byte{ethernet(broadcastMAC, plugMAC, 0x88b5, make([]byte, 1000)...)}, each)
	for range rounds {
		b.sendEthernet(t, flood...)
	}
	b.sendEthernet(t, ethernet(broadcastMAC, nobodyMAC, unix.ETH_P_ARP, b.question()...))
	b.want(1, "ARP", func(e audit.Event) bool { return e.Proto == "arp" })
	b.want(each*rounds-b.dropped(t), "frames, with those that are lost", func(e audit.Event) bool { return e.Proto != "arp" })
}

// Frames are looked at after the rules were put back, and of a sandbox that has
// ended nothing stays in them.
func TestFramesAfterAFlush(t *testing.T) {
	b := newBox(t)
	o := b.other(t)
	whole := b.ruleset(t)
	b.asRoot(t, func(c *nftables.Conn) error { c.FlushRuleset(); return nil })
	until(t, "the rules are whole", func() bool { return slices.Equal(b.ruleset(t), whole) && b.count(changed("the rules")) > 0 })
	for _, s := range []*box{b, o} {
		s.sendEthernet(t, ethernet(broadcastMAC, plugMAC, 0x88b5, 'x'))
		b.want(1, "the frame of "+s.id, func(e audit.Event) bool { return e.Rule == "frame" && e.Sandbox == s.id })
	}
	b.hub.Unregister(o.id)
	left := func(s string) bool { return strings.Contains(s, o.id) }
	if !slices.ContainsFunc(whole, left) {
		t.Fatalf("no chain of its own: %v", whole)
	}
	until(t, "its chain is gone", func() bool { now := b.ruleset(t); return now != nil && !slices.ContainsFunc(now, left) })
}

// What kernels do by themselves, while a sandbox is plugged and its wall or gateway
// come back, leaves no event.
func TestKernelsOwnFramesAreQuiet(t *testing.T) {
	b := newBox(t)
	use := func() {
		for _, addr := range []string{"203.0.113.9:9", "[2001:db8::9]:9", b.addr.Gate4.String() + ":8000", "[" + b.addr.Gate6.String() + "]:8000"} {
			if _, _, err := b.dial(t, addr); err != nil {
				t.Errorf("%s: %v", addr, err)
			}
		}
	}
	use()
	b.stop()
	b.start()
	b.await(b.id, sandbox.Ready)
	use()
	b.wall.kill()
	b.await(b.id, sandbox.Held)
	newNamespace(t, nil).startWall(t, b.socket)
	b.await(b.id, sandbox.Ready)
	use()
	b.sendEthernet(t, ethernet(broadcastMAC, plugMAC, 0x88b5, 'x'))
	b.want(1, "the frame, after all that", func(e audit.Event) bool { return e.Rule == "frame" })
	for _, e := range b.all() {
		if e.Rule != "frame" && e.Proto != "tcp" {
			t.Errorf("%+v", e)
		}
	}
}
