package wall

import (
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Each end knows for good where the other is. Without that, the wall's answers over
// IPv6 stopped about ten seconds after the last packet, and a sandbox would drop
// what it sends until it has found out.
func TestPermanentNeighbours(t *testing.T) {
	b := newBox(t)
	for _, end := range []struct {
		ns    namespace
		addrs []netip.Addr // of the other end
		mac   net.HardwareAddr
	}{
		{b.wallNS, []netip.Addr{b.addr.Sandbox4, b.addr.Sandbox6}, plugMAC},
		{b.ns, []netip.Addr{b.addr.Gate4, b.addr.Gate6}, wallMAC},
	} {
		for _, addr := range end.addrs {
			found := false
			end.ns.in(t, func() error {
				list, err := netlink.NeighList(0, 0)
				for _, n := range list {
					found = found || n.IP.Equal(addr.AsSlice()) && n.State == netlink.NUD_PERMANENT && n.HardwareAddr.String() == end.mac.String()
				}
				return err
			})
			if !found {
				t.Errorf("%s is no permanent neighbour", addr)
			}
		}
	}
}

func TestConnectionThatNeverCompletes(t *testing.T) {
	b := newBox(t)
	dst := "203.0.113.5"
	b.sendRaw(t, packet4(unix.IPPROTO_TCP, b.addr.Sandbox4, netip.MustParseAddr(dst), segment(1234, 443, tcpSYN)))
	b.want(1, "half-open connections", packetTo(b.id, "half-open", dst+":443"))
}
