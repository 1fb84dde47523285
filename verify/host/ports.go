package host

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/sallyport/sallyport/verify/probe"
	"golang.org/x/sys/unix"
)

// Names of the probes whose payload the traps see.
const (
	portsTCP    = "host-ports-tcp"
	portsUDP    = "host-ports-udp"
	loopback    = "host-loopback"
	engineTCP   = "engine-tcp"
	ownPages    = "gateway-page"
	bridgePeers = "bridge-gateway"
)

func portProbes() []probe.Probe {
	return []probe.Probe{
		{Name: portsTCP, Group: probe.Host, Why: "what listens on the host trusts its own networks: databases, debuggers, editors", Source: "CVE-2020-15257, moby/moby issue 22054",
			Try: func(ctx context.Context, t probe.Target) probe.Finding {
				return tryPorts(ctx, t, portsTCP, "tcp", t.Host.TCP, t.Host.TrapTCP)
			}, Own: ownTraps},
		{Name: portsUDP, Group: probe.Host, Why: "what listens on the host trusts its own networks: name servers, file servers", Source: "RFC 768",
			Try: func(ctx context.Context, t probe.Target) probe.Finding {
				return tryPorts(ctx, t, portsUDP, "udp", t.Host.UDP, t.Host.TrapUDP)
			}, Own: ownTraps},
		{Name: loopback, Group: probe.Host, Why: "what listens on 127.0.0.1 has no password, since only the host's own programs get there", Source: "CVE-2020-8558",
			Try: tryLoopback, Own: ownLoopback},
		{Name: engineTCP, Group: probe.Host, Why: "the engine's socket is root on the host", Source: "dockerd(8), moby/moby issue 22054",
			Try: func(ctx context.Context, t probe.Target) probe.Finding {
				return tryPorts(ctx, t, engineTCP, "tcp", []uint16{2375, 2376, 2377, 4243, 7946, 10250}, t.Host.TrapTCP)
			}, Own: ownTraps},
		{Name: ownPages, Group: probe.Host, Why: "the gateway's page and metrics show the record", Source: "CWE-306",
			Try: tryPages, Own: ownTraps},
		{Name: bridgePeers, Group: probe.Host, Why: "the engine's bridges have the host at their first address", Source: "moby/moby issue 22054",
			Try: tryBridges, Own: ownBridge},
	}
}

// tryPorts tries ports at every address of the host; outside a sandbox the trap
// alone, since the user's own programs listen on the others.
func tryPorts(ctx context.Context, t probe.Target, name, network string, ports []uint16, trap uint16) probe.Finding {
	if t.Setting != probe.Sandbox {
		ports = []uint16{trap}
	}
	list := pairs(network, t.Host.Addrs, ports)
	if len(list) == 0 {
		return probe.Missing("address and port of the host")
	}
	return tryAll(ctx, t, name, list)
}

// tryLoopback finds the container's own loopback, if all is well.
func tryLoopback(ctx context.Context, t probe.Target) probe.Finding {
	addrs := []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	list := append(pairs("tcp", addrs, []uint16{t.Host.TrapTCP}), pairs("udp", addrs, []uint16{t.Host.TrapUDP})...)
	if len(list) == 0 {
		return probe.Missing("trap on the host")
	}
	return tryAll(ctx, t, loopback, list)
}

// tryPages tries the gateway's own listeners, at the address they are bound to and
// at every other of the host.
func tryPages(ctx context.Context, t probe.Target) probe.Finding {
	if t.Setting != probe.Sandbox {
		return tryPorts(ctx, t, ownPages, "tcp", nil, t.Host.TrapTCP)
	}
	var list []pair
	for _, listener := range t.Host.Listeners {
		to, err := netip.ParseAddrPort(listener)
		if err != nil {
			return probe.Unproven("the gateway's listener %q is no address and port", listener)
		}
		list = append(list, pairs("tcp", append([]netip.Addr{to.Addr()}, t.Host.Addrs...), []uint16{to.Port()})...)
	}
	if len(list) == 0 {
		return probe.Missing("page or metrics of the gateway")
	}
	return tryAll(ctx, t, ownPages, list)
}

// tryBridges tries what may be the host: the first address of the network of each
// of the container's own interfaces, and of the networks that engines begin with.
func tryBridges(ctx context.Context, t probe.Target) probe.Finding {
	addrs := []netip.Addr{netip.MustParseAddr("172.17.0.1"), netip.MustParseAddr("172.18.0.1"), netip.MustParseAddr("10.88.0.1")}
	if t.Setting != probe.Sandbox {
		addrs = gateways(addrs)
	}
	list := append(pairs("tcp", addrs, []uint16{t.Host.TrapTCP}), pairs("udp", addrs, []uint16{t.Host.TrapUDP})...)
	if len(list) == 0 {
		return probe.Missing("trap on the host")
	}
	return tryAll(ctx, t, bridgePeers, list)
}

// gateways keeps those that are in a network of this container's own: others may
// be somebody's.
func gateways(addrs []netip.Addr) []netip.Addr {
	own, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var list []netip.Addr
	for _, addr := range addrs {
		for _, a := range own {
			if n, ok := a.(*net.IPNet); ok && n.Contains(addr.AsSlice()) {
				list = append(list, addr)
				break
			}
		}
	}
	return list
}

// ownTraps are traps in the container itself, at an address of the documentation's
// (RFC 5737).
func ownTraps(ctx context.Context, t *probe.Target) error {
	return trapsAt(ctx, t, netip.MustParseAddr("198.51.100.1"))
}

func ownLoopback(ctx context.Context, t *probe.Target) error {
	return trapsAt(ctx, t, netip.AddrFrom4([4]byte{127, 0, 0, 1}))
}

func ownBridge(ctx context.Context, t *probe.Target) error {
	return trapsAt(ctx, t, netip.MustParseAddr("172.17.0.1"))
}

func trapsAt(ctx context.Context, t *probe.Target, addr netip.Addr) error {
	if err := addAddress(addr); err != nil {
		return err
	}
	traps, err := openAt(ctx, t.Run, []netip.Addr{addr}, 0)
	if err != nil {
		return err
	}
	traps.Describe(&t.Host)
	return nil // what listens ends with ctx
}

// addAddress gives lo one more address, and has it up.
func addAddress(addr netip.Addr) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	err = request(fd, "lo", unix.SIOCSIFFLAGS, func(r *unix.Ifreq) error { r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING); return nil })
	if err == nil && !addr.IsLoopback() {
		four := addr.As4()
		label := fmt.Sprintf("lo:%d", int(four[0])<<8|int(four[3]))
		err = request(fd, label, unix.SIOCSIFADDR, func(r *unix.Ifreq) error { return r.SetInet4Addr(four[:]) })
	}
	if err != nil {
		return fmt.Errorf("give lo the address %s: %w", addr, err)
	}
	return nil
}

func request(fd int, name string, number uint, set func(*unix.Ifreq) error) error {
	r, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	if err := set(r); err != nil {
		return err
	}
	return unix.IoctlIfreq(fd, number, r)
}
