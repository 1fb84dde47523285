package names

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/verify"
	"github.com/sallyport/sallyport/verify/forward/open"
	"github.com/sallyport/sallyport/verify/probe"
)

// cve is how names carried data out of a coding agent's sandbox.
const cve = "CVE-2025-55284"

// servers are those that a resolver may be pointed to.
func servers() []probe.Probe {
	single := func(name string, server func(t probe.Target) netip.AddrPort, tcp bool) func(t probe.Target) []attempt {
		return func(t probe.Target) []attempt {
			host := t.Name(name)
			return []attempt{{message: ask(host, typeA).pack(), host: host, server: server(t), tcp: tcp}}
		}
	}
	own := func(t probe.Target) netip.AddrPort { return t.Resolver }
	four := func(t probe.Target) netip.AddrPort { return at(t.Public4, 53) }
	six := func(t probe.Target) netip.AddrPort { return at(t.Public6, 53) }
	const public = "a resolver elsewhere tells its owner every name that is asked for"
	var list []probe.Probe
	for _, e := range []entry{
		{name: "dns-sinkhole-udp", why: "a resolver that forwards carries data out in names", source: cve, attempts: single("sinkhole-udp", own, false)},
		{name: "dns-sinkhole-tcp", why: "a resolver that forwards carries data out in names", source: "RFC 7766", attempts: single("sinkhole-tcp", own, true)},
		{name: "dns-public-udp", why: public, source: cve, attempts: single("public-udp", four, false)},
		{name: "dns-public-tcp", why: public, source: "RFC 7766", attempts: single("public-tcp", four, true)},
		{name: "dns-public-udp-ipv6", why: public, source: cve, attempts: single("public6-udp", six, false)},
		{name: "dns-public-tcp-ipv6", why: public, source: "RFC 7766", attempts: single("public6-tcp", six, true)},
	} {
		list = append(list, e.probe())
	}
	return append(list, docker())
}

// docker is the engine's own resolver, at the container's loopback: where it is, it
// forwards; in a sandbox nobody listens, and the kernel says so before a packet leaves.
func docker() probe.Probe {
	server := netip.MustParseAddrPort("127.0.0.11:53")
	return probe.Probe{
		Name: "dns-docker-resolver", Group: probe.DNS, Source: "CVE-2024-29018",
		Why: "Docker's resolver asks from the host's network, even for networks that lead nowhere",
		Try: func(ctx context.Context, t probe.Target) probe.Finding {
			if t.Setting == probe.Ordinary || t.Setting == probe.Unconfined {
				return probe.Missing("resolver of verify's own at 127.0.0.11") // the engine's would ask outside
			}
			var findings []probe.Finding
			for _, tcp := range []bool{false, true} {
				host := t.Name("docker")
				a := attempt{message: ask(host, typeA).pack(), host: host, server: server, tcp: tcp}
				findings = append(findings, a.local(ctx))
			}
			return merge(t, findings)
		},
		Own: func(ctx context.Context, _ *probe.Target) error { return open.Resolver(ctx, server) },
	}
}

// local is try at an address of the container itself, where a refusal is its kernel's.
func (a attempt) local(ctx context.Context) probe.Finding {
	conn, err := dial(ctx, a.network(), a.server)
	if err != nil {
		return probe.Stopped(err, "connect")
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	exchange := byStream
	if !a.tcp {
		exchange = func(c net.Conn, query []byte) ([]byte, error) { return byDatagram(c, query, patience) }
	}
	answer, err := exchange(conn, a.message)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return probe.Stopped(err, "nobody listens")
	}
	if err != nil {
		return refused(err)
	}
	f := judge(answer, marked, probe.Event{})
	if f.Outcome == verify.Blocked { // a sinkhole there would be none of the wall's
		return probe.Unproven("%s", f.Detail)
	}
	return f
}

// covert is DNS in another protocol.
type covert struct {
	name, why, source string
	port              uint16
	six               bool
	use               func(conn net.Conn, name string, query []byte) ([]byte, error)
	own               func(ctx context.Context, addr netip.AddrPort) error
}

// hidden are the ways of asking that a resolver's port does not show.
func hidden() []probe.Probe {
	const dot, doh = "DNS in TLS is unread, and some resolvers speak nothing else", "DNS in HTTPS looks like a web page, and browsers turn to it by themselves"
	var list []probe.Probe
	for _, c := range []covert{
		{"dns-over-tls", dot, "RFC 7858", 853, false, byTLS, open.ResolverTLS},
		{"dns-over-tls-ipv6", dot, "RFC 7858", 853, true, byTLS, open.ResolverTLS},
		{"dns-over-https", doh, "RFC 8484", 443, false, byHTTPS, open.ResolverHTTPS},
		{"dns-over-https-ipv6", doh, "RFC 8484", 443, true, byHTTPS, open.ResolverHTTPS},
	} {
		list = append(list, probe.Probe{Name: c.name, Group: probe.DNS, Why: c.why, Source: c.source, Try: c.try, Own: c.start})
	}
	return list
}

func (c covert) addr(t probe.Target) netip.AddrPort {
	if c.six {
		return at(t.Public6, c.port)
	}
	return at(t.Public4, c.port)
}

func (c covert) start(ctx context.Context, t *probe.Target) error {
	var err error
	if t.Public4, t.Public6, err = open.Somewhere(ctx); err != nil || !c.addr(*t).IsValid() {
		return err
	}
	return c.own(ctx, c.addr(*t))
}

func (c covert) try(ctx context.Context, t probe.Target) probe.Finding {
	to := c.addr(t)
	if !to.IsValid() {
		return probe.Missing("address of that family")
	}
	name := t.Name(c.name)
	event := probe.Event{Layer: audit.LayerIntercept, Proto: "tcp", Dst: to.String(), Host: name}
	conn, err := dial(ctx, "tcp", to)
	if err != nil {
		return refused(err, event)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	answer, err := c.use(conn, name, ask(t.Name("covert"), typeA).pack())
	if err != nil {
		return refused(err, event)
	}
	return judge(answer, marked, event)
}
