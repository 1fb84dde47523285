package wall

import (
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The wall knows where each sandbox is for good. Without that, its answers over
// IPv6 stopped about ten seconds after the last packet.
func TestSandboxIsAPermanentNeighbour(t *testing.T) {
	b := newBox(t)
	for _, addr := range []net.IP{b.addr.Sandbox4.AsSlice(), b.addr.Sandbox6.AsSlice()} {
		found := false
		b.wallNS.in(t, func() error {
			list, err := netlink.NeighList(0, 0)
			for _, n := range list {
				found = found || n.IP.Equal(addr) && n.State == netlink.NUD_PERMANENT && n.HardwareAddr.String() == plugMAC.String()
			}
			return err
		})
		if !found {
			t.Errorf("%s is no permanent neighbour", addr)
		}
	}
}

func TestConnectionThatNeverCompletes(t *testing.T) {
	b := newBox(t)
	dst := "203.0.113.5"
	b.sendRaw(t, packet4(unix.IPPROTO_TCP, b.addr.Sandbox4, netip.MustParseAddr(dst), segment(1234, 443, tcpSYN)))
	b.want(1, "half-open connections", packetTo(b.id, "half-open", dst+":443"))
}
