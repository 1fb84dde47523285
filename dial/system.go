package dial

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
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

// machineAge is how old a Machine's list may be. An address that is newer is seen when
// a connection to it was made: see verify.
const machineAge = time.Second

// Machine is this machine's addresses, for a Dialer's Own, to be asked before each
// Dial: reading them anew takes longer than all else that a Dial does by itself. The
// zero Machine is ready. It is safe for concurrent use.
type Machine struct {
	mu  sync.Mutex
	at  time.Time
	own []netip.Prefix
}

// Addresses are MachineAddresses of now, or of the last second. After an error nothing
// older is given out.
func (m *Machine) Addresses() ([]netip.Prefix, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.own != nil && time.Since(m.at) < machineAge {
		return slices.Clip(m.own), nil
	}
	m.own = nil
	at := time.Now()
	own, err := MachineAddresses()
	if err != nil {
		return nil, err
	}
	m.at, m.own = at, own
	return slices.Clip(own), nil
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
