package dial

import "net/netip"

// A class is a range of addresses that a rule never reaches, and its name in
// reasons.
type class struct {
	prefix netip.Prefix
	why    string
}

// classes is read top to bottom, the first match wins: the special before the
// general. Everything below is refused, and so is IPv6 outside 2000::/3. The
// documentation ranges are not in it on purpose: nothing routes there, and the
// tests' internet is made of them. Source: IANA's special-purpose address
// registries (RFC 6890), unless a line says otherwise.
var classes = []class{
	{netip.MustParsePrefix("169.254.169.254/32"), "a cloud metadata address"},
	{netip.MustParsePrefix("169.254.170.2/32"), "a cloud metadata address"},   // AWS ECS task credentials
	{netip.MustParsePrefix("100.100.100.200/32"), "a cloud metadata address"}, // Alibaba Cloud
	{netip.MustParsePrefix("168.63.129.16/32"), "a cloud metadata address"},   // Azure's wire server, a public address
	{netip.MustParsePrefix("0.0.0.0/8"), "an unspecified address"},            // Linux: 0.0.0.0 is this machine
	{netip.MustParsePrefix("10.0.0.0/8"), "a private address"},
	{netip.MustParsePrefix("100.64.0.0/10"), "a carrier-grade NAT address"},
	{netip.MustParsePrefix("127.0.0.0/8"), "a loopback address"},
	{netip.MustParsePrefix("169.254.0.0/16"), "a link-local address"},
	{netip.MustParsePrefix("172.16.0.0/12"), "a private address"},
	{netip.MustParsePrefix("192.0.0.0/24"), "an IETF protocol address"}, // Oracle's metadata service too
	{netip.MustParsePrefix("192.88.99.0/24"), "a 6to4 relay address"},
	{netip.MustParsePrefix("192.168.0.0/16"), "a private address"},
	{netip.MustParsePrefix("198.18.0.0/15"), "a benchmarking address"}, // and the sinkhole's pool
	{netip.MustParsePrefix("224.0.0.0/4"), "a multicast address"},
	{netip.MustParsePrefix("255.255.255.255/32"), "the broadcast address"},
	{netip.MustParsePrefix("240.0.0.0/4"), "a reserved address"},

	{netip.MustParsePrefix("fd00:ec2::/32"), "a cloud metadata address"},    // AWS: fd00:ec2::254 and its siblings
	{netip.MustParsePrefix("fd20:ce::254/128"), "a cloud metadata address"}, // Google Cloud
	{netip.MustParsePrefix("::/128"), "an unspecified address"},
	{netip.MustParsePrefix("::1/128"), "a loopback address"},
	{netip.MustParsePrefix("::ffff:0:0:0/96"), "an IPv4-translated address"}, // RFC 2765
	{netip.MustParsePrefix("::/96"), "an IPv4-compatible address"},
	{netip.MustParsePrefix("64:ff9b::/96"), "a NAT64 address"},
	{netip.MustParsePrefix("64:ff9b:1::/48"), "a NAT64 address"},
	{netip.MustParsePrefix("100::/64"), "a discard-only address"},
	{netip.MustParsePrefix("2001::/32"), "a Teredo address"},
	{netip.MustParsePrefix("2001::/23"), "an IETF protocol address"},
	{netip.MustParsePrefix("2002::/16"), "a 6to4 address"},
	{netip.MustParsePrefix("fc00::/7"), "a unique local address"},
	{netip.MustParsePrefix("fe80::/10"), "a link-local address"},
	{netip.MustParsePrefix("fec0::/10"), "a site-local address"},
	{netip.MustParsePrefix("ff00::/8"), "a multicast address"},
}

// globalIPv6 is the only part of IPv6 that is handed out for global use so far.
var globalIPv6 = netip.MustParsePrefix("2000::/3")

// Classify says whether a is an ordinary address of the public internet, and
// names what it is otherwise ("a loopback address"). An IPv4 address mapped into
// IPv6 is judged as the IPv4 address. The zero Addr is not public.
func Classify(a netip.Addr) (why string, public bool) {
	if !a.IsValid() {
		return "no address", false
	}
	if a.Zone() != "" {
		return "an address with a zone", false
	}
	a = a.Unmap()
	for _, c := range classes {
		if c.prefix.Contains(a) {
			return c.why, false
		}
	}
	if a.Is6() && !globalIPv6.Contains(a) {
		return "outside the global IPv6 range", false
	}
	return "", true
}
