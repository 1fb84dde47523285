package addresses

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/sallyport/sallyport/verify/probe"
	"golang.org/x/sys/unix"
)

// The addresses of the control that has no network: of documentation's (RFC 5737,
// RFC 3849), and nobody's. Listeners stand at public addresses, on lo, each probe's
// at its own; what is sent to the far ones leaves by the wire.
var (
	far4  = netip.MustParseAddr("198.51.100.60")
	far6  = netip.MustParseAddr("2001:db8:60::1")
	near4 = netip.MustParsePrefix("198.51.100.252/31")
	near6 = netip.MustParsePrefix("2001:db8:f::/127")
)

// nearEnd and farEnd are the two interfaces of the wire.
const (
	nearEnd = "spverify0"
	farEnd  = "spverify1"
)

// wired makes a wire whose far end shows what leaves, leads every route to it and
// points t at the other side.
func wired(_ context.Context, t *probe.Target) error {
	if err := addVeth(nearEnd, farEnd); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("make a wire: %w", err)
	}
	near, err := net.InterfaceByName(nearEnd)
	if err != nil {
		return fmt.Errorf("look for the wire: %w", err)
	}
	far, err := net.InterfaceByName(farEnd)
	if err != nil {
		return fmt.Errorf("look for the wire's far end: %w", err)
	}
	if err := errors.Join(setUp(far.Index), setUp(near.Index)); err != nil {
		return err
	}
	t.Public4, t.Own4, t.Gate4, t.Other4 = far4, near4.Addr(), near4.Addr().Next(), netip.MustParseAddr("198.51.100.250")
	if err := lead(near, near4, far.HardwareAddr); err != nil {
		return err
	}
	t.Public6, t.Own6, t.Gate6 = far6, near6.Addr(), near6.Addr().Next()
	if !ipv6Here() {
		t.Public6, t.Own6, t.Gate6 = netip.Addr{}, netip.Addr{}, netip.Addr{}
		return nil
	}
	return lead(near, near6, far.HardwareAddr)
}

// lead gives the wire an address and everything's way out: its other address,
// which is at the far end's hardware address.
func lead(near *net.Interface, p netip.Prefix, mac net.HardwareAddr) error {
	if err := addAddress(near.Index, p); err != nil {
		return err
	}
	gate, all := p.Addr().Next(), netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	if gate.Is6() {
		all = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	for what, err := range map[string]error{
		"a neighbour": neighbourChange(unix.RTM_NEWNEIGH, gate, mac, near.Index),
		"a route":     routeChange(unix.RTM_NEWROUTE, all, gate, near.Index),
	} {
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("add %s by %s: %w", what, gate, err)
		}
	}
	return nil
}

// ipv6Here reports whether an address of IPv6 can be had.
func ipv6Here() bool {
	data, err := os.ReadFile("/proc/sys/net/ipv6/conf/all/disable_ipv6")
	return err == nil && len(data) > 0 && data[0] == '0'
}

// onLo gives lo addresses, and leaves those out that this kernel cannot have.
func onLo(addrs ...netip.Addr) (got []netip.Addr, err error) {
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		return nil, fmt.Errorf("look for lo: %w", err)
	}
	if err := setUp(lo.Index); err != nil {
		return nil, err
	}
	for _, a := range addrs {
		if a.Is6() && !ipv6Here() {
			continue
		}
		if err := addAddress(lo.Index, netip.PrefixFrom(a.WithZone(""), a.BitLen())); err != nil {
			return nil, err
		}
		got = append(got, a)
	}
	if len(got) == 0 {
		return nil, errors.New("IPv6 is off here; hint: start the container with the sysctl net.ipv6.conf.all.disable_ipv6=0")
	}
	return got, nil
}

// pointed sets the public addresses of t to those that were got.
func pointed(t *probe.Target, got []netip.Addr) {
	t.Public4, t.Public6 = got[0], netip.Addr{}
	if len(got) > 1 {
		t.Public6 = got[1]
	}
}

// public are the addresses of a probe's listeners.
func public(host byte) (addr4, addr6 netip.Addr) {
	addr6 = netip.MustParseAddr("2001:db8:40::")
	b := addr6.As16()
	b[15] = host
	return netip.AddrFrom4([4]byte{198, 51, 100, host}), netip.AddrFrom16(b)
}

// onPublic gives lo the addresses of a probe's listeners and points t there.
func onPublic(t *probe.Target, host byte) ([]netip.Addr, error) {
	addr4, addr6 := public(host)
	got, err := onLo(addr4, addr6)
	if err == nil {
		pointed(t, got)
	}
	return got, err
}

func listenTCP(host byte, ports ...uint16) func(context.Context, *probe.Target) error {
	return func(ctx context.Context, t *probe.Target) error {
		got, err := onPublic(t, host)
		if err != nil {
			return err
		}
		return greetAt(ctx, got, ports)
	}
}

func listenMetadata(ctx context.Context, t *probe.Target) error {
	got, err := onLo(metadata4.Addr(), metadata6.Addr())
	if err != nil {
		return err
	}
	pointed(t, got)
	return greetAt(ctx, got, []uint16{metadata4.Port()})
}

// greetAt listens for TCP and greets who connects, until ctx ends.
func greetAt(ctx context.Context, addrs []netip.Addr, ports []uint16) error {
	for _, addr := range addrs {
		for _, port := range ports {
			l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", netip.AddrPortFrom(addr, port).String())
			if err != nil {
				return fmt.Errorf("listen for the control: %w", err)
			}
			context.AfterFunc(ctx, func() { l.Close() })
			go greet(ctx, l)
		}
	}
	return nil
}

func greet(ctx context.Context, l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			defer context.AfterFunc(ctx, func() { c.Close() })()
			_ = c.SetDeadline(time.Now().Add(patience)) // a control's end is not worth an error
			_, _ = c.Write([]byte(probe.Greeting))
			_, _ = c.Read(make([]byte, maxAnswer)) // so that the close is no reset
		}()
	}
}

func listenUDP(host byte, ports ...uint16) func(context.Context, *probe.Target) error {
	return func(ctx context.Context, t *probe.Target) error {
		got, err := onPublic(t, host)
		if err != nil {
			return err
		}
		return answerAt(ctx, got, ports)
	}
}

// answerAt answers datagrams, until ctx ends.
func answerAt(ctx context.Context, addrs []netip.Addr, ports []uint16) error {
	for _, addr := range addrs {
		for _, port := range ports {
			c, err := (&net.ListenConfig{}).ListenPacket(ctx, "udp", netip.AddrPortFrom(addr, port).String())
			if err != nil {
				return fmt.Errorf("listen for the control: %w", err)
			}
			answerDatagrams(ctx, c)
		}
	}
	return nil
}

// answerDatagrams answers each with the greeting, until ctx ends.
func answerDatagrams(ctx context.Context, c net.PacketConn) {
	context.AfterFunc(ctx, func() { c.Close() })
	go func() {
		buf := make([]byte, 1<<16)
		for {
			_, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = c.WriteTo([]byte(probe.Greeting), from) // who gets none is not reached
		}
	}()
}
