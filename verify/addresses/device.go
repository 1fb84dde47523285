package addresses

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"

	"github.com/sallyport/sallyport/verify/probe"
	"golang.org/x/sys/unix"
)

// admin is the capability that changes of the network take.
var admin = []string{"NET_ADMIN"}

func deviceProbes() []probe.Probe {
	return []probe.Probe{
		{Name: "route-past-the-gateway", Group: probe.Host, Try: changeRoute, Needs: admin,
			Why:    "a route of the container's own leads past the wall where a second interface or neighbour is",
			Source: "rtnetlink(7); capabilities(7) CAP_NET_ADMIN"},
		{Name: "neighbour-entry", Group: probe.Host, Try: changeNeighbour, Needs: admin,
			Why:    "who changes where the gateway is sends past it",
			Source: "rtnetlink(7); RFC 826"},
		{Name: "look-alike-veth", Group: probe.Host, Try: lookAlike, Needs: admin,
			Why:    "an interface that looks like the wall's and is not: one end can be handed to who has another network",
			Source: "veth(4); network_namespaces(7)"},
		{Name: "macvlan-interface", Group: probe.Host, Try: macvlan, Needs: admin,
			Why:    "a second hardware address on the wire is another host to the network",
			Source: "ip-link(8), MACVLAN and MACVTAP"},
		{Name: "tun-device", Group: probe.Host, Try: tun, Needs: admin,
			Why:    "a tunnel's end in the container takes packets off its routes",
			Source: "Linux Documentation/networking/tuntap.rst"},
	}
}

// outcome is the finding of a change to the network that should not be allowed.
func outcome(err error, what string) probe.Finding {
	if err != nil {
		return probe.Stopped(err, what)
	}
	return probe.Reached("%s: the kernel allows it", what)
}

// anyInterface is the first that is not lo, or else lo.
func anyInterface() (net.Interface, error) {
	all, err := net.Interfaces()
	if err != nil {
		return net.Interface{}, err
	}
	for _, i := range all {
		if i.Flags&net.FlagLoopback == 0 && i.Flags&net.FlagUp != 0 {
			return i, nil
		}
	}
	if len(all) == 0 {
		return net.Interface{}, unix.ENODEV
	}
	return all[0], nil
}

func changeRoute(_ context.Context, t probe.Target) probe.Finding {
	i, err := anyInterface()
	if err != nil {
		return probe.Missing("interface")
	}
	to := netip.MustParsePrefix("203.0.113.192/28")
	err = routeChange(unix.RTM_NEWROUTE, to, netip.Addr{}, i.Index)
	if err == nil {
		err = routeChange(unix.RTM_DELROUTE, to, netip.Addr{}, i.Index)
	}
	return outcome(err, "a route to "+to.String())
}

func changeNeighbour(_ context.Context, t probe.Target) probe.Finding {
	i, err := anyInterface()
	if err != nil {
		return probe.Missing("interface")
	}
	addr := netip.MustParseAddr("203.0.113.193")
	err = neighbourChange(unix.RTM_NEWNEIGH, addr, net.HardwareAddr{2, 0, 0, 0, 0, 0x77}, i.Index)
	if err == nil {
		err = neighbourChange(unix.RTM_DELNEIGH, addr, net.HardwareAddr{2, 0, 0, 0, 0, 0x77}, i.Index)
	}
	return outcome(err, "a neighbour at "+addr.String())
}

func lookAlike(_ context.Context, t probe.Target) probe.Finding {
	err := addVeth("sp0123456789ab", "sptwin")
	if err == nil {
		err = deleteLink("sptwin") // the other end goes with it
	}
	return outcome(err, "a veth named like the wall's")
}

// iflaMacvlanMode and macvlanBridge are of linux/if_link.h.
const (
	iflaMacvlanMode = 1
	macvlanBridge   = 4
)

func macvlan(_ context.Context, t probe.Target) probe.Finding {
	i, err := anyInterface()
	if err != nil {
		return probe.Missing("interface")
	}
	name := "spmac0"
	err = addLink(name, "macvlan", attribute(iflaMacvlanMode, number32(macvlanBridge)), attribute(unix.IFLA_LINK, number32(i.Index)))
	if err == nil {
		err = deleteLink(name)
	}
	return outcome(err, "a macvlan of "+i.Name)
}

// tun opens the kernel's tunnel device, which it makes where there is none.
func tun(_ context.Context, t probe.Target) probe.Finding {
	const path, own = "/dev/net/tun", "/tmp/sallyport-tun"
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		if err = unix.Mknod(own, unix.S_IFCHR|0o600, int(unix.Mkdev(10, 200))); err == nil {
			fd, err = unix.Open(own, unix.O_RDWR|unix.O_CLOEXEC, 0)
			err = errors.Join(err, os.Remove(own))
		}
	}
	if err != nil {
		return probe.Stopped(err, path)
	}
	defer unix.Close(fd)
	r, err := unix.NewIfreq("sptun0")
	if err == nil {
		r.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, r) // gone when it is closed
	}
	return outcome(err, "a tunnel's end")
}
