package forward

import (
	"net"
	"net/netip"
	"strconv"

	"github.com/sallyport/sallyport/verify/probe"
)

// maxAims bounds the addresses of the host that are tried.
const maxAims = 16

// aims are places that the proxy could reach and its client must not.
func aims() []entry {
	const rfc = "RFC 9110 §9.3.6"
	return []entry{
		{name: "proxy-to-itself", why: "a proxy that asks itself speaks from its own address, which rules trust", source: "RFC 8586",
			requests: func(t probe.Target) []request { return reach(t, t.Proxy) }},
		{name: "proxy-to-model", why: "the endpoint takes what comes from the proxy for another's request", source: rfc, lacks: "model endpoint",
			requests: func(t probe.Target) []request { return reach(t, t.Model) }},
		{name: "proxy-to-loopback", why: "what listens on the host's loopback trusts whoever reaches it", source: "RFC 1122 §3.2.1.3",
			requests: func(t probe.Target) []request {
				return reach(t, trap(t, "127.0.0.1"), trap(t, "127.1.2.3"), trap(t, "::1"), trap(t, "::ffff:127.0.0.1"))
			}},
		{name: "proxy-to-localhost", why: "a name of the host's own leads to its loopback", source: "RFC 6761 §6.3", requests: localNames},
		{name: "proxy-to-unspecified", why: "0.0.0.0 is loopback to connect(2), and no loopback to many filters", source: "RFC 1122 §3.2.1.3",
			requests: func(t probe.Target) []request { return reach(t, trap(t, "0.0.0.0"), trap(t, "::")) }},
		{name: "proxy-to-host", why: "services of the host, and those in its network, are open to its own addresses", source: rfc,
			lacks: "address of the host with a listener of verify's own", requests: hosts},
		{name: "proxy-to-page", why: "the gateway's page and numbers are for who runs it", source: rfc, lacks: "page or metrics of the gateway",
			requests: func(t probe.Target) []request {
				var list []request
				for _, l := range t.Host.Listeners {
					if to, err := netip.ParseAddrPort(l); err == nil {
						list = append(list, reach(t, to)...)
					}
				}
				return list
			}},
		{name: "proxy-to-sandbox", why: "one sandbox reads another's files and model by way of the proxy", source: rfc, lacks: "other sandbox",
			requests: func(t probe.Target) []request {
				return reach(t, netip.AddrPortFrom(t.Other4, 8000), t.OtherModel)
			}},
		{name: "proxy-to-metadata", why: "a cloud's metadata service hands its credentials to who asks from the host", source: "RFC 3927",
			requests: func(t probe.Target) []request {
				at := netip.MustParseAddrPort
				return append(reach(t, at("169.254.169.254:80"), at("[fd00:ec2::254]:80")), both(t, "metadata.google.internal", "metadata")...)
			}},
		{name: "proxy-to-docker-host", why: "Docker's names of the host lead past its firewall", source: "CVE-2024-29018",
			requests: func(t probe.Target) []request {
				return append(both(t, "host.docker.internal", "docker"), both(t, "gateway.docker.internal", "docker")...)
			}},
	}
}

// reach asks for each of the addresses that is there, with CONNECT and in absolute form.
func reach(t probe.Target, to ...netip.AddrPort) []request {
	var list []request
	for _, a := range to {
		if !a.IsValid() {
			continue
		}
		host, port, err := net.SplitHostPort(a.String())
		if err != nil {
			continue
		}
		written := host
		if a.Addr().Is6() {
			written = "[" + host + "]"
		}
		list = append(list, connect(t, written, port), get(t, a.String(), "v1/models"))
	}
	return list
}

// trap is the port of verify's own listener on the host, at one of its addresses.
func trap(t probe.Target, addr string) netip.AddrPort {
	port := t.Host.TrapTCP
	if port == 0 {
		port = 80
	}
	return netip.AddrPortFrom(netip.MustParseAddr(addr), port)
}

func localNames(t probe.Target) []request {
	var list []request
	port := strconv.Itoa(int(trap(t, "::1").Port()))
	for _, name := range []string{"localhost", "LocalHost.", "a.localhost", "localhost.localdomain", "ip6-localhost"} {
		list = append(list, connect(t, name, port), get(t, name+":"+port, "local"))
	}
	return list
}

func hosts(t probe.Target) []request {
	var list []request
	if t.Host.TrapTCP == 0 {
		return nil
	}
	for _, a := range t.Host.Addrs[:min(len(t.Host.Addrs), maxAims)] {
		list = append(list, reach(t, netip.AddrPortFrom(a.WithZone(""), t.Host.TrapTCP))...)
	}
	return list
}

// rebinds are probes of group probe.DNS that need the proxy.
func rebinds() []entry {
	const lacks = "name that a rule allows and that leads to a private address"
	// The reason tells this refusal from a name that is not found.
	const reason = ": refused"
	each := func(ask func(t probe.Target, name string) request) func(t probe.Target) []request {
		return func(t probe.Target) []request {
			var list []request
			for _, name := range t.Rebinds {
				r := ask(t, name)
				r.unreachable, r.event.Reason = true, reason
				list = append(list, r)
			}
			return list
		}
	}
	return []entry{
		{name: "rebind-connect", group: probe.DNS, lacks: lacks, why: "the owner of an allowed name lets it lead into your network", source: "CVE-2018-7160",
			requests: each(func(t probe.Target, name string) request { return connect(t, name, "443") })},
		{name: "rebind-http", group: probe.DNS, lacks: lacks, why: "the owner of an allowed name lets it lead into your network", source: "CVE-2018-7160",
			requests: each(func(t probe.Target, name string) request { return get(t, name, "") })},
		{name: "doh-by-proxy", group: probe.DNS, why: "DNS over HTTPS carries data to a resolver that looks like a web site", source: "RFC 8484",
			requests: func(t probe.Target) []request {
				list := []request{connect(t, t.Name("doh"), "443"), connect(t, public4(t).String(), "443")}
				return append(list, get(t, t.Name("doh"), "dns-query"))
			}},
	}
}
