package dial

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// Resolver makes a Dialer's Resolve of a resolver's LookupNetIP. Names are looked
// up as they stand: the machine's search list never turns an allowed name into
// another one.
func Resolver(lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)) func(ctx context.Context, host string) ([]netip.Addr, error) {
	return func(ctx context.Context, host string) ([]netip.Addr, error) {
		return lookup(ctx, "ip", strings.TrimSuffix(host, ".")+".")
	}
}

// TCP is a Dialer's Connect on this machine's network.
func TCP(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", to.String())
}

// MachineAddresses returns this machine's present addresses, each as a prefix of
// its full length, for a Dialer's Own.
func MachineAddresses() ([]netip.Prefix, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list this machine's addresses: %w", err)
	}
	var own []netip.Prefix
	for _, a := range addrs {
		n, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		if ip, ok := netip.AddrFromSlice(n.IP); ok {
			ip = ip.Unmap()
			own = append(own, netip.PrefixFrom(ip, ip.BitLen()))
		}
	}
	return own, nil
}
