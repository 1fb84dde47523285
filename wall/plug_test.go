package wall

import (
	"net"
	"net/netip"
	"os"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The first question for the wall's end can get lost. The kernel asks a second time
// after retrans_time_ms, which is longer here than anybody waits.
func TestGateThatMissesTheFirstQuestion(t *testing.T) {
	const plug = "sptest"
	holder, wall := newNamespace(t, nil), newNamespace(t, nil)
	gate := netip.MustParsePrefix("10.213.0.1/31")
	holder.in(t, func() error { return addVeth(plug, wall.file) }) // whose eth0 is the wall's end here

	// The wall's end has its address once it was asked for it.
	answering := make(chan error, 1)
	wall.in(t, func() error {
		const arp = unix.ETH_P_ARP<<8&0xff00 | unix.ETH_P_ARP>>8 // in network order
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, arp)
		if err != nil {
			return err
		}
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: int64(patient.Seconds())}); err != nil {
			return err
		}
		here, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		link, err := here.LinkByName(sandboxInterface)
		if err != nil {
			return err
		}
		if err := here.LinkSetUp(link); err != nil {
			return err
		}
		go func() {
			defer here.Close()
			defer unix.Close(fd)
			_, _, err := unix.Recvfrom(fd, make([]byte, 64), 0)
			if err == nil {
				err = here.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{IP: gate.Addr().AsSlice(), Mask: net.CIDRMask(31, 32)}})
			}
			answering <- err
		}()
		return nil
	})
	holder.in(t, func() error {
		if err := os.WriteFile("/proc/sys/net/ipv4/neigh/"+plug+"/retrans_time_ms", []byte("3600000"), 0); err != nil {
			return err
		}
		link, err := netlink.LinkByName(plug)
		if err != nil {
			return err
		}
		if err := setAddresses(link, []netip.Prefix{netip.PrefixFrom(gate.Addr().Prev(), gate.Bits())}); err != nil {
			return err
		}
		return awaitGate(link, gate.Addr())
	})
	if err := <-answering; err != nil {
		t.Error(err)
	}
}
