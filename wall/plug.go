package wall

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"

	"github.com/sallyport/sallyport/wall/wire"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// sandboxInterface is the name of the interface that sandboxes see.
const sandboxInterface = "eth0"

// plugMAC is the hardware address of every sandbox's end. By it a holder tells its
// plug from an interface of the same name that somebody else put there, for
// instance an engine, while the wall is away.
var plugMAC = net.HardwareAddr{0x02, 's', 'p', 'o', 'r', 't'}

// wallMAC is the hardware address of the wall's end of every veth.
var wallMAC = net.HardwareAddr{0x02, 's', 'p', 'w', 'a', 'l'}

// interfaceName is the wall's side of a sandbox's veth: 14 bytes, of the 15 that
// IFNAMSIZ leaves.
func interfaceName(sandbox string) string { return "sp" + sandbox }

// plugs remembers which network namespace each sandbox's veth leads to, by the
// namespace's inode.
type plugs map[string]uint64

// plug connects the sandbox's network namespace by a veth, unless it already is,
// and opens the listeners that are bound to it.
func (p plugs) plug(req wire.Plug, ns *os.File, ipv6 bool) (tcp, udp *os.File, err error) {
	if !wire.ValidSandbox(req.Sandbox) {
		return nil, nil, errors.New("not a sandbox id")
	}
	inode, err := foreignNamespace(ns)
	if err != nil {
		return nil, nil, err
	}
	name := interfaceName(req.Sandbox)
	_, missing := netlink.LinkByName(name)
	if missing != nil || p[req.Sandbox] != inode {
		if err := p.unplug(req.Sandbox); err != nil {
			return nil, nil, err
		}
		if err := addVeth(name, ns); err != nil {
			return nil, nil, err
		}
		p[req.Sandbox] = inode
	}
	if err := address(name, req.Wall4, req.Wall6, ipv6); err != nil {
		return nil, nil, errors.Join(err, p.unplug(req.Sandbox))
	}
	return listeners(name, ipv6)
}

// unplug removes the sandbox's veth, both ends. A veth that is not there is fine.
func (p plugs) unplug(sandbox string) error {
	delete(p, sandbox)
	link, err := netlink.LinkByName(interfaceName(sandbox))
	var none netlink.LinkNotFoundError
	if errors.As(err, &none) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for interface %s: %w", interfaceName(sandbox), err)
	}
	if err := netlink.LinkDel(link); err != nil {
		return fmt.Errorf("delete interface %s: %w", interfaceName(sandbox), err)
	}
	return nil
}

// foreignNamespace returns the inode of the network namespace that f is, and
// refuses what is none, or is the wall's own.
func foreignNamespace(f *os.File) (uint64, error) {
	kind, err := unix.IoctlRetInt(int(f.Fd()), unix.NS_GET_NSTYPE)
	if err != nil || kind != unix.CLONE_NEWNET {
		return 0, errors.New("the descriptor is not a network namespace")
	}
	var theirs, ours unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &theirs); err != nil {
		return 0, fmt.Errorf("stat the network namespace: %w", err)
	}
	if err := unix.Stat("/proc/thread-self/ns/net", &ours); err != nil {
		return 0, fmt.Errorf("stat our network namespace: %w", err)
	}
	if theirs.Ino == ours.Ino && theirs.Dev == ours.Dev {
		return 0, errors.New("the descriptor is the wall's own network namespace")
	}
	return theirs.Ino, nil
}

func addVeth(name string, ns *os.File) error {
	veth := &netlink.Veth{
		LinkAttrs:        netlink.LinkAttrs{Name: name, HardwareAddr: wallMAC},
		PeerName:         sandboxInterface,
		PeerHardwareAddr: plugMAC,
		PeerNamespace:    netlink.NsFd(int(ns.Fd())),
	}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("plug a veth: %w", err)
	}
	return nil
}

func address(name string, wall4, wall6 netip.Prefix, ipv6 bool) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("look for interface %s: %w", name, err)
	}
	prefixes := []netip.Prefix{wall4}
	if ipv6 {
		prefixes = append(prefixes, wall6)
	}
	if err := setAddresses(link, prefixes); err != nil {
		return err
	}
	for _, prefix := range prefixes { // of which the sandbox has the even address
		if err := setNeighbour(link, prefix.Addr().Prev(), plugMAC); err != nil {
			return err
		}
	}
	return nil
}

// setNeighbour tells the kernel for good where the other end of a pair is. The
// wall could not find out over IPv6: its answers have a foreign source, and without
// a link-local address it has none to ask from. A sandbox would drop what it sends
// until it has an answer, and nobody would know. An invalid to is passed over.
func setNeighbour(link netlink.Link, to netip.Addr, mac net.HardwareAddr) error {
	if !to.IsValid() {
		return nil
	}
	family := unix.AF_INET
	if to.Is6() {
		family = unix.AF_INET6
	}
	neighbour := &netlink.Neigh{LinkIndex: link.Attrs().Index, Family: family, State: netlink.NUD_PERMANENT, IP: to.AsSlice(), HardwareAddr: mac}
	if err := netlink.NeighSet(neighbour); err != nil {
		return fmt.Errorf("set the neighbour %s: %w", to, err)
	}
	return nil
}

// setAddresses gives link the addresses that it lacks and sets it up. Invalid
// prefixes are passed over.
func setAddresses(link netlink.Link, prefixes []netip.Prefix) error {
	present, err := netlink.AddrList(link, unix.AF_UNSPEC)
	if err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	for _, prefix := range prefixes {
		if !prefix.IsValid() {
			continue
		}
		if !prefix.Addr().IsPrivate() || prefix.Bits() != prefix.Addr().BitLen()-1 {
			return fmt.Errorf("%s is no pair of private addresses", prefix)
		}
		addr := &netlink.Addr{IPNet: &net.IPNet{IP: prefix.Addr().AsSlice(), Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen())}}
		if slices.ContainsFunc(present, addr.Equal) {
			continue
		}
		if prefix.Addr().Is6() {
			addr.Flags = unix.IFA_F_NODAD
		}
		if err := netlink.AddrReplace(link, addr); err != nil {
			return fmt.Errorf("set address %s: %w", prefix, err)
		}
	}
	if link.Attrs().Flags&net.FlagUp != 0 {
		return nil
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("set interface %s up: %w", link.Attrs().Name, err)
	}
	return nil
}

// routeMarked delivers what the rules marked to this namespace's own sockets,
// whatever its destination (Documentation/networking/tproxy.rst in the kernel), and
// reports whether that was not so already.
func routeMarked(ipv6 bool) (changed bool, err error) {
	const table = 100
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return false, fmt.Errorf("look for lo: %w", err)
	}
	if lo.Attrs().Flags&net.FlagUp == 0 {
		changed = true
		if err := netlink.LinkSetUp(lo); err != nil {
			return changed, fmt.Errorf("set lo up: %w", err)
		}
	}
	families := map[int]*net.IPNet{unix.AF_INET: {IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}}
	if ipv6 {
		families[unix.AF_INET6] = &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
	}
	for family, all := range families {
		rule := netlink.NewRule()
		rule.Family, rule.Mark, rule.Table, rule.Priority = family, delivered, table, 100
		if err := netlink.RuleAdd(rule); err == nil {
			changed = true
		} else if !errors.Is(err, unix.EEXIST) {
			return changed, fmt.Errorf("add the rule for marked packets: %w", err)
		}
		route := &netlink.Route{LinkIndex: lo.Attrs().Index, Dst: all, Type: unix.RTN_LOCAL, Scope: unix.RT_SCOPE_HOST, Table: table}
		present, err := netlink.RouteListFiltered(family, route, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_TYPE|netlink.RT_FILTER_OIF)
		if err != nil {
			return changed, fmt.Errorf("list the routes for marked packets: %w", err)
		}
		if slices.ContainsFunc(present, isDefault) {
			continue
		}
		changed = true
		if err := netlink.RouteReplace(route); err != nil {
			return changed, fmt.Errorf("add the route for marked packets: %w", err)
		}
	}
	return changed, nil
}
