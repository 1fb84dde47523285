package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Addresses of the lab. Every one is of a range set aside for documentation or
// for private use, and none is routed beyond the lab.
const (
	LaptopLAN   = "198.51.100.1"
	GPUHostLAN  = "198.51.100.2"
	LaptopWAN   = "198.51.100.6"
	LaptopWAN6  = "fd5a:11f0:1::2"
	GPUHostWAN  = "198.51.100.10"
	GPUHostWAN6 = "fd5a:11f0:2::2"
	Web         = "203.0.113.10" // serves everything that the internet serves, like the next three
	Web6        = "2001:db8::10"
	DNS         = "203.0.113.53"
	DNS6        = "2001:db8::53"

	internetToLaptop = "198.51.100.5"
	internetToGPU    = "198.51.100.9"

	dockerNet6 = "fd5a:11f0:d0c::/64" // containers on the laptop's ordinary bridge
)

// port is one end of a cable.
type port struct {
	host  *Host
	name  string
	addrs []string // with prefix lengths
}

// cable connects two hosts.
func cable(a, b port) error {
	veth := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: a.name},
		PeerName:      b.name,
		PeerNamespace: netlink.NsFd(int(b.host.net.Fd())),
	}
	if err := a.host.links.LinkAdd(veth); err != nil {
		return fmt.Errorf("lab: cable %s–%s: %w", a.host.Name, b.host.Name, err)
	}
	for _, end := range []port{a, b} {
		if err := end.up(); err != nil {
			return fmt.Errorf("lab: %s of %s: %w", end.name, end.host.Name, err)
		}
	}
	return nil
}

func (p port) up() error {
	link, err := p.host.links.LinkByName(p.name)
	if err != nil {
		return err
	}
	for _, s := range p.addrs {
		addr, err := netlink.ParseAddr(s)
		if err != nil {
			return err
		}
		addr.Flags = unix.IFA_F_NODAD // usable at once
		if err := p.host.links.AddrAdd(link, addr); err != nil {
			return fmt.Errorf("address %s: %w", s, err)
		}
	}
	return p.host.links.LinkSetUp(link)
}

// route adds a route by way of a neighbour, or, with an empty via, makes every
// address of dst the host's own.
func (h *Host) route(dst, via string) error {
	_, to, err := net.ParseCIDR(dst)
	if err != nil {
		return err
	}
	r := &netlink.Route{Dst: to, Gw: net.ParseIP(via)}
	if via == "" {
		lo, err := h.links.LinkByName("lo")
		if err != nil {
			return err
		}
		r.LinkIndex, r.Type, r.Table, r.Scope = lo.Attrs().Index, unix.RTN_LOCAL, unix.RT_TABLE_LOCAL, unix.RT_SCOPE_HOST
	}
	if err := h.links.RouteAdd(r); err != nil {
		return fmt.Errorf("lab: route %s on %s: %w", dst, h.Name, err)
	}
	return nil
}

// carrier bounds the wait for a link that was plugged in again.
const carrier = 10 * time.Second

// SetLAN pulls the cable between the laptop and the GPU host, or plugs it in
// again and waits until both have noticed.
func (l *Lab) SetLAN(ctx context.Context, up bool) error {
	ends := []*Host{l.GPUHost.Host, l.Laptop.Host}
	link, err := ends[0].links.LinkByName("lan0")
	if err != nil {
		return fmt.Errorf("lab: lan0: %w", err)
	}
	if !up {
		return ends[0].links.LinkSetDown(link)
	}
	if err := ends[0].links.LinkSetUp(link); err != nil {
		return fmt.Errorf("lab: lan0: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, carrier)
	defer cancel()
	for _, h := range ends {
		if err := until(ctx, h.lanUp); err != nil {
			return fmt.Errorf("lab: lan0 of %s: %w", h.Name, err)
		}
		if err := h.forgetNeighbours(); err != nil {
			return fmt.Errorf("lab: lan0 of %s: %w", h.Name, err)
		}
	}
	return nil
}

func (h *Host) lanUp() error {
	link, err := h.links.LinkByName("lan0")
	if err == nil && link.Attrs().OperState != netlink.OperUp {
		err = fmt.Errorf("it is %s", link.Attrs().OperState)
	}
	return err
}

// forgetNeighbours ends address resolutions that began without a cable and would
// fail what was sent since.
func (h *Host) forgetNeighbours() error {
	link, err := h.links.LinkByName("lan0")
	if err != nil {
		return err
	}
	all, err := h.links.NeighList(link.Attrs().Index, netlink.FAMILY_V4)
	if err != nil {
		return err
	}
	for _, n := range all {
		if err := h.links.NeighDel(&n); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	return nil
}

// prepareNet starts the loopback interface and sets what a new namespace would
// otherwise inherit from this machine.
func (h *Host) prepareNet() error {
	lo, err := h.links.LinkByName("lo")
	if err != nil {
		return err
	}
	settings := map[string]string{
		"ipv4/ip_forward":                     "0",
		"ipv4/conf/all/rp_filter":             "0",
		"ipv4/conf/default/rp_filter":         "0",
		"ipv4/conf/all/src_valid_mark":        "0",
		"ipv4/ip_unprivileged_port_start":     "1024",
		"ipv6/conf/all/disable_ipv6":          "0",
		"ipv6/conf/default/disable_ipv6":      "0",
		"ipv6/conf/all/forwarding":            "0",
		"ipv6/conf/default/accept_ra":         "0",
		"ipv6/conf/default/accept_dad":        "0",
		"ipv6/conf/default/keep_addr_on_down": "1",
	}
	return errors.Join(h.links.LinkSetUp(lo), h.Do(func() error {
		for name, value := range settings {
			if err := os.WriteFile(filepath.Join("/proc/sys/net", name), []byte(value), 0); err != nil {
				return fmt.Errorf("lab: sysctl on %s: %w", h.Name, err)
			}
		}
		return nil
	}))
}

// connect builds the network of the three hosts.
func connect(laptop, gpu, internet *Host) error {
	for _, h := range []*Host{laptop, gpu, internet} {
		if err := h.prepareNet(); err != nil {
			return err
		}
	}
	return errors.Join(
		// For IPv6, a local route lets the kernel answer but not a program listen.
		port{internet, "lo", []string{Web6 + "/128", DNS6 + "/128"}}.up(),
		cable(port{laptop, "lan0", []string{LaptopLAN + "/30"}}, port{gpu, "lan0", []string{GPUHostLAN + "/30"}}),
		cable(port{laptop, "wan0", []string{LaptopWAN + "/30", LaptopWAN6 + "/64"}},
			port{internet, "laptop", []string{internetToLaptop + "/30", "fd5a:11f0:1::1/64"}}),
		cable(port{gpu, "wan0", []string{GPUHostWAN + "/30", GPUHostWAN6 + "/64"}},
			port{internet, "gpuhost", []string{internetToGPU + "/30", "fd5a:11f0:2::1/64"}}),
		laptop.route("0.0.0.0/0", internetToLaptop),
		laptop.route("::/0", "fd5a:11f0:1::1"),
		gpu.route("0.0.0.0/0", internetToGPU),
		gpu.route("::/0", "fd5a:11f0:2::1"),
		internet.route("203.0.113.0/24", ""),
		internet.route("2001:db8::/32", ""),
		internet.route(dockerNet6, LaptopWAN6),
	)
}
