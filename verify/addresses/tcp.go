package addresses

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/sallyport/sallyport/verify/probe"
	"golang.org/x/sys/unix"
)

// tcpFastOpenNoCookie has the first segment carry data without a cookie that was
// got before (linux/tcp.h).
const tcpFastOpenNoCookie = 34

// The ports of probes that share them with nobody, so that an event is theirs.
const (
	portFastOpen = 47201 + iota
	portMultipath
	portSCTP
	portSCTPCrafted
	portDCCP
	portLite
	portMapped
	portTranslated
	portLinkLocal
)

var tcpPorts = []uint16{22, 25, 53, 80, 443, 853, 8443, 47123}

func tcpProbes() []probe.Probe {
	return []probe.Probe{
		{Name: "tcp-ipv4", Group: probe.Addresses, Try: tcpTo(false), Own: listenTCP(41, tcpPorts...),
			Why:    "any protocol over TCP to any host: the plainest way out, on ports that filters tend to let pass",
			Source: "RFC 9293; MITRE ATT&CK T1048"},
		{Name: "tcp-ipv6", Group: probe.Addresses, Try: tcpTo(true), Own: listenTCP(42, 22, 53, 443, 47123),
			Why:    "a filter that was written for IPv4 alone leaves IPv6 open",
			Source: "RFC 7123"},
		{Name: "tcp-fast-open", Group: probe.Addresses, Try: fastOpen, Own: listenTCP(43, portFastOpen),
			Why:    "data in the first segment has left before anybody accepted or refused the connection",
			Source: "RFC 7413; tcp(7) TCP_FASTOPEN_CONNECT"},
		{Name: "multipath-tcp", Group: probe.Addresses, Try: multipath, Own: listenTCP(44, portMultipath),
			Why:    "a second subflow may take another path than the one that was looked at",
			Source: "RFC 8684; Linux 5.6 (IPPROTO_MPTCP)"},
		{Name: "metadata-service", Group: probe.Addresses, Try: metadata, Own: listenMetadata,
			Why:    "a cloud's metadata service hands out credentials of the machine to whoever asks",
			Source: "RFC 3927; AWS EC2 User Guide, Instance Metadata Service (169.254.169.254, fd00:ec2::254)"},
	}
}

// request is what a TCP probe says first, so that an HTTP server would answer.
func request(t probe.Target, name string, to netip.AddrPort) []byte {
	return fmt.Appendf(nil, "GET /%s-%s HTTP/1.0\r\nHost: %s\r\n\r\n", t.Run, name, to)
}

// stream is the attempt to talk TCP to an address.
func stream(t probe.Target, name string, to netip.AddrPort) attempt {
	return attempt{to.String(), func(ctx context.Context) probe.Finding {
		return socketKind{kind: unix.SOCK_STREAM, to: to}.converse(ctx, request(t, name, to), intercepted(to))
	}}
}

func tcpTo(ipv6 bool) func(context.Context, probe.Target) probe.Finding {
	return func(ctx context.Context, t probe.Target) probe.Finding {
		addr, ports, name := t.Public4, tcpPorts, "tcp-ipv4"
		if ipv6 {
			addr, ports, name = t.Public6, []uint16{22, 53, 443, 47123}, "tcp-ipv6"
		}
		if !addr.IsValid() {
			return probe.Missing("public address")
		}
		var attempts []attempt
		for _, port := range ports {
			attempts = append(attempts, stream(t, name, netip.AddrPortFrom(addr, port)))
		}
		return together(ctx, t, attempts)
	}
}

func fastOpen(ctx context.Context, t probe.Target) probe.Finding {
	to := netip.AddrPortFrom(t.Public4, portFastOpen)
	if !t.Public4.IsValid() {
		return probe.Missing("public address")
	}
	kind := socketKind{kind: unix.SOCK_STREAM, to: to, fastOpen: true, set: []option{{unix.IPPROTO_TCP, tcpFastOpenNoCookie, 1}}}
	return kind.converse(ctx, request(t, "fast-open", to), intercepted(to))
}

func multipath(ctx context.Context, t probe.Target) probe.Finding {
	to := netip.AddrPortFrom(t.Public4, portMultipath)
	if !t.Public4.IsValid() {
		return probe.Missing("public address")
	}
	return socketKind{kind: unix.SOCK_STREAM, proto: unix.IPPROTO_MPTCP, to: to}.converse(ctx, request(t, "multipath", to), intercepted(to))
}

// The addresses of the big clouds' metadata services.
var (
	metadata4 = netip.MustParseAddrPort("169.254.169.254:80")
	metadata6 = netip.MustParseAddrPort("[fd00:ec2::254]:80")
)

func metadata(ctx context.Context, t probe.Target) probe.Finding {
	if f, elsewhere := ownOnly(t); elsewhere {
		return f
	}
	attempts := []attempt{stream(t, "metadata", metadata4)}
	if t.Public6.IsValid() {
		attempts = append(attempts, stream(t, "metadata", metadata6))
	}
	return together(ctx, t, attempts)
}
