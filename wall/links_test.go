package wall

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/sandbox"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// links are the names of the interfaces, fallbacks left out.
func (n namespace) links(t *testing.T) (names []string) {
	t.Helper()
	n.in(t, func() error {
		links, err := netlink.LinkList()
		for range 100 {
			if !errors.Is(err, netlink.ErrDumpInterrupted) { // a change came in between
				break
			}
			links, err = netlink.LinkList()
		}
		for _, link := range links {
			if !isFallback(link) {
				names = append(names, link.Attrs().Name)
			}
		}
		return err
	})
	return names
}

func foreign(name string) func(audit.Event) bool {
	return func(e audit.Event) bool { return e.Rule == "foreign-interface" && e.Host == name }
}

// addLink makes an interface in the sandbox as root of the machine would.
func (b *box) addLink(t *testing.T, link netlink.Link) {
	t.Helper()
	b.ns.in(t, func() error {
		if err := netlink.LinkAdd(link); err != nil {
			return err
		}
		_ = netlink.LinkSetUp(link) // it may be gone already: that is the point
		return nil
	})
}

// veth is a pair with both ends in the sandbox, as an engine would make one.
func veth(name string) *netlink.Veth {
	return &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: name + "p"}
}

func TestForeignInterfaceIsRemoved(t *testing.T) {
	b := newBox(t)
	b.addLink(t, veth("eth1"))
	begin := time.Now()
	b.addLink(t, &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br7"}})
	until(t, "the bridge is gone", func() bool { return !slices.Contains(b.ns.links(t), "br7") })
	t.Logf("gone %s after it began to be made", time.Since(begin))
	b.want(1, "br7", foreign("br7"))
	until(t, "the pair is recorded", func() bool { return b.count(foreign("eth1"))+b.count(foreign("eth1p")) > 0 })
	until(t, "they are gone", func() bool { return slices.Equal(b.ns.links(t), []string{"lo", "eth0"}) })
	if _, _, err := b.dial(t, "203.0.113.9:9"); err != nil {
		t.Error("the sandbox suffered:", err)
	}
}

func TestForeignInterfaceIsRemovedWhileTheGatewayIsAway(t *testing.T) {
	b := newBox(t)
	b.stop()
	b.addLink(t, &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br7"}})
	until(t, "it is gone", func() bool { return slices.Equal(b.ns.links(t), []string{"lo", "eth0"}) })
	b.start()
	b.want(1, "br7", foreign("br7"))
}

// While there is no wall, an interface named like ours is not ours: an engine
// would name the one that it connects to a network just so.
func TestForeignEth0IsRemovedWhileTheWallIsAway(t *testing.T) {
	b := newBox(t)
	b.wall.kill()
	b.await(b.id, sandbox.Held)
	until(t, "the dead plug is gone", func() bool { return slices.Equal(b.ns.links(t), []string{"lo"}) })
	b.addLink(t, &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}})
	b.want(1, "eth0", foreign("eth0"))
	until(t, "it is gone", func() bool { return slices.Equal(b.ns.links(t), []string{"lo"}) })
	newNamespace(t, nil).startWall(t, b.socket)
	b.await(b.id, sandbox.Ready)
	if _, _, err := b.dial(t, "203.0.113.9:9"); err != nil {
		t.Error(err)
	}
}

func TestAddressesAndRoutesArePutBack(t *testing.T) {
	b := newBox(t)
	works := func() bool {
		for _, addr := range []string{"203.0.113.9:9", "[2001:db8::9]:9"} {
			if _, _, err := b.dial(t, addr); err != nil {
				return false
			}
		}
		return true
	}
	eth0 := func(do func(netlink.Link) error) {
		t.Helper()
		b.ns.in(t, func() error {
			link, err := netlink.LinkByName("eth0")
			if err != nil {
				return err
			}
			return do(link)
		})
	}
	for _, address := range []netip.Addr{b.addr.Sandbox4, b.addr.Sandbox6} {
		eth0(func(link netlink.Link) error {
			p := netip.PrefixFrom(address, address.BitLen()-1)
			return netlink.AddrDel(link, &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}})
		})
		until(t, "the address is back", works)
	}
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		eth0(func(link netlink.Link) error {
			routes, err := netlink.RouteList(link, family)
			for _, route := range routes {
				if err == nil && isDefault(route) {
					err = netlink.RouteDel(&route)
				}
			}
			return err
		})
		until(t, "the route is back", works)
	}
	eth0(netlink.LinkSetDown)
	until(t, "the interface is up again", works)
}
