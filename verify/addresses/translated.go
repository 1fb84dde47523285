package addresses

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/sallyport/sallyport/verify/probe"
	"golang.org/x/sys/unix"
)

func translatedProbes() []probe.Probe {
	embedded := func(host byte, name, why, source, prefix string, at int) probe.Probe {
		form := func(addr netip.Addr) netip.Addr { return embed(netip.MustParseAddr(prefix), at, addr) }
		return probe.Probe{Name: name, Group: probe.Addresses, Why: why, Source: source,
			Try: func(ctx context.Context, t probe.Target) probe.Finding { return translated(ctx, t, form) },
			Own: func(ctx context.Context, t *probe.Target) error {
				if _, err := onPublic(t, host); err != nil {
					return err
				}
				got, err := onLo(form(t.Public4))
				if err != nil {
					return err
				}
				return greetAt(ctx, got, []uint16{portTranslated})
			}}
	}
	return []probe.Probe{
		{Name: "ipv6-v4-mapped", Group: probe.Addresses, Try: mapped, Own: listenTCP(51, portMapped),
			Why:    "a socket of IPv6 that speaks IPv4: a check of one form of an address misses the other",
			Source: "RFC 4038 §4.2; CVE-2024-24790"},
		embedded(61, "ipv6-v4-compatible", "an old form of IPv4 addresses in IPv6 that some stacks still tunnel",
			"RFC 4291 §2.5.5.1; RFC 2893 §5", "::", 12),
		embedded(62, "ipv6-6to4", "a host or router with 6to4 sends it on in IPv4", "RFC 3056; RFC 6343", "2002::", 2),
		embedded(63, "ipv6-nat64", "a network with NAT64 turns it into IPv4", "RFC 6052; RFC 6146", "64:ff9b::", 12),
		{Name: "ipv6-link-local", Group: probe.Addresses, Try: linkLocal, Own: listenLinkLocal,
			Why:    "routers and clouds answer at link-local addresses, for which no route is needed",
			Source: "RFC 4291 §2.5.6; RFC 4007"},
	}
}

// embed writes an IPv4 address into an IPv6 one.
func embed(into netip.Addr, at int, addr netip.Addr) netip.Addr {
	b := into.As16()
	copy(b[at:], addr.AsSlice())
	return netip.AddrFrom16(b)
}

func mapped(ctx context.Context, t probe.Target) probe.Finding {
	to := netip.AddrPortFrom(t.Public4, portMapped)
	if !t.Public4.IsValid() {
		return probe.Missing("public address")
	}
	return socketKind{kind: unix.SOCK_STREAM, to: to, mapped: true}.converse(ctx, request(t, "mapped", to), intercepted(to))
}

func translated(ctx context.Context, t probe.Target, form func(netip.Addr) netip.Addr) probe.Finding {
	if f, elsewhere := ownOnly(t); elsewhere {
		return f
	}
	if !t.Public4.IsValid() || !t.Own6.IsValid() && t.Setting == probe.Sandbox {
		return probe.Missing("IPv6")
	}
	to := netip.AddrPortFrom(form(t.Public4), portTranslated)
	return stream(t, "translated", to).try(ctx)
}

// routerLocal is an address that routers like to have, fe80::1; the other that is
// tried is the one that follows from the gateway's hardware address (RFC 4291,
// appendix A).
var routerLocal = netip.MustParseAddr("fe80::1")

func fromMAC(mac net.HardwareAddr) netip.Addr {
	var b [16]byte
	b[0], b[1] = 0xfe, 0x80
	copy(b[8:], []byte{mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]})
	return netip.AddrFrom16(b)
}

func linkLocal(ctx context.Context, t probe.Target) probe.Finding {
	if f, elsewhere := ownOnly(t); elsewhere {
		return f
	}
	zone, targets := "lo", []netip.Addr{routerLocal}
	if t.Setting == probe.Sandbox {
		l, err := linkOf(t)
		if err != nil {
			return probe.Missing("interface")
		}
		zone = l.Name
		if l.gateway != nil {
			targets = append(targets, fromMAC(l.gateway))
		}
	}
	if !t.Own6.IsValid() && t.Setting == probe.Sandbox {
		return probe.Missing("IPv6")
	}
	var attempts []attempt
	for _, addr := range targets {
		to := netip.AddrPortFrom(addr.WithZone(zone), portLinkLocal)
		attempts = append(attempts, attempt{"tcp " + to.String(), func(ctx context.Context) probe.Finding {
			// The wall takes the connection, but cannot answer from such an address: the
			// record has it as a connection that never came to be.
			f := socketKind{kind: unix.SOCK_STREAM, to: to}.converse(ctx, request(t, "link-local", to), packetEvent("tcp", to, halfOpen))
			settle(ctx, t, handshakeTime+time.Second) // its segment is sent again, and the gateway waits longer for that
			return f
		}}, datagram(t, "link-local", to, "other"))
	}
	return together(ctx, t, attempts)
}

func listenLinkLocal(ctx context.Context, t *probe.Target) error {
	if _, err := onLo(routerLocal); err != nil {
		return err
	}
	if _, err := onPublic(t, 64); err != nil {
		return err
	}
	onLo := []netip.Addr{routerLocal.WithZone("lo")}
	return errors.Join(greetAt(ctx, onLo, []uint16{portLinkLocal}), answerAt(ctx, onLo, []uint16{portLinkLocal}))
}

// zoneIndex is the number of the interface that a zone names; none: zero.
func zoneIndex(zone string) (uint32, error) {
	if zone == "" {
		return 0, nil
	}
	if n, err := strconv.ParseUint(zone, 10, 32); err == nil {
		return uint32(n), nil
	}
	i, err := net.InterfaceByName(zone)
	if err != nil {
		return 0, err
	}
	return uint32(i.Index), nil
}

// link is the interface that leads out, and who is at its other end.
type link struct {
	net.Interface
	gateway net.HardwareAddr // nil: not known
}

// linkOf finds the interface that has t's own address.
func linkOf(t probe.Target) (l link, err error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return l, err
	}
	for _, i := range interfaces {
		if i.Flags&net.FlagLoopback != 0 || i.Flags&net.FlagUp == 0 {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			return l, err
		}
		for _, a := range addrs {
			if p, ok := a.(*net.IPNet); ok && p.IP.Equal(net.IP(t.Own4.AsSlice())) {
				return link{i, hardwareAddress(t.Gate4)}, nil
			}
		}
	}
	return l, unix.ENODEV
}
