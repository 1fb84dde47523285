package verify

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
)

// Attempt is one try to get somewhere.
type Attempt struct {
	Kind   string `json:"kind"`
	Target string `json:"target"`
	// Via is the proxy of connect and http, or the DNS server of dns, as
	// address:port; empty: the one that Defaults names (http: no proxy).
	Via string `json:"via,omitempty"`
	// Record is the query type of dns; empty: A.
	Record string `json:"record,omitempty"`
	// TCP makes dns use TCP.
	TCP bool `json:"tcp,omitempty"`
}

// kind is a kind of probe: how its target is checked, how it runs.
type kind struct {
	name  string
	usage string
	check func(a Attempt) error
	run   func(ctx context.Context, a Attempt) (Outcome, string)
}

// kinds is the table behind ParseAttempt, Probe and Usage.
var kinds = []kind{
	{"tcp", "tcp ADDRESS:PORT", wantAddrPort, probeTCP},
	{"udp", "udp ADDRESS:PORT", wantAddrPort, probeUDP},
	{"icmp", "icmp ADDRESS", wantAddr(false), probeICMP},
	{"icmpv6", "icmpv6 ADDRESS", wantAddr(true), probeICMP},
	{"raw", "raw ADDRESS", wantAnyAddr, probeRaw},
	{"dns", "dns NAME [via=SERVER:PORT] [type=A|AAAA|TXT|HTTPS|MX|NULL|ANY] [over=tcp]", wantName, probeDNS},
	{"connect", "connect HOST:PORT [via=PROXY:PORT]", wantHostPort, probeConnect},
	{"http", "http http://HOST[:PORT]/PATH [via=PROXY:PORT]", wantURL, probeHTTP},
}

// Usage lists the kinds, one a line.
func Usage() string {
	var b strings.Builder
	for _, k := range kinds {
		b.WriteString(k.usage + "\n")
	}
	return b.String()
}

// Defaults are the sandbox's own proxy and DNS server, address:port each.
type Defaults struct{ Proxy, Resolver string }

// DefaultsFrom reads them from an environment (KEY=VALUE) and the text of a
// resolv.conf. What is not there stays empty.
func DefaultsFrom(environ []string, resolvConf []byte) Defaults {
	var d Defaults
	for _, e := range environ {
		key, value, _ := strings.Cut(e, "=")
		if !strings.EqualFold(key, "https_proxy") {
			continue
		}
		if u, err := url.Parse(value); err == nil && u.Host != "" {
			d.Proxy = u.Host
		}
	}
	if servers := nameservers(resolvConf); len(servers) > 0 {
		d.Resolver = net.JoinHostPort(servers[0], "53")
	}
	return d
}

func nameservers(resolvConf []byte) []string {
	var list []string
	for s := bufio.NewScanner(bytes.NewReader(resolvConf)); s.Scan(); {
		if f := strings.Fields(s.Text()); len(f) >= 2 && f[0] == "nameserver" {
			list = append(list, f[1])
		}
	}
	return list
}

// ParseAttempt reads KIND TARGET [key=value…], the arguments of `gateway probe`.
func ParseAttempt(args []string, d Defaults) (Attempt, error) {
	if len(args) < 2 {
		return Attempt{}, fmt.Errorf("probe needs a kind and a target, one of:\n%s", Usage())
	}
	a := Attempt{Kind: args[0], Target: args[1]}
	for _, arg := range args[2:] {
		key, value, _ := strings.Cut(arg, "=")
		switch {
		case key == "via" && (a.Kind == "dns" || a.Kind == "connect" || a.Kind == "http"):
			a.Via = value
		case key == "type" && a.Kind == "dns":
			a.Record = strings.ToUpper(value)
		case key == "over" && value == "tcp" && a.Kind == "dns":
			a.TCP = true
		default:
			return Attempt{}, fmt.Errorf("probe %s: %q is not an option of it", a.Kind, arg)
		}
	}
	if a.Via == "" {
		a.Via = map[string]string{"dns": d.Resolver, "connect": d.Proxy}[a.Kind]
	}
	for _, k := range kinds {
		if k.name == a.Kind {
			if err := k.check(a); err != nil {
				return Attempt{}, fmt.Errorf("probe %s: %w (usage: %s)", a.Kind, err, k.usage)
			}
			return a, nil
		}
	}
	return Attempt{}, fmt.Errorf("no probe is called %q; there are:\n%s", a.Kind, Usage())
}

// Args is the inverse of ParseAttempt.
func (a Attempt) Args() []string {
	args := []string{a.Kind, a.Target}
	if a.Via != "" {
		args = append(args, "via="+a.Via)
	}
	if a.Record != "" {
		args = append(args, "type="+a.Record)
	}
	if a.TCP {
		args = append(args, "over=tcp")
	}
	return args
}

// Names are refused where an address is wanted: looking them up is an attempt of
// its own, the kind dns.
func wantAddrPort(a Attempt) error {
	p, err := netip.ParseAddrPort(a.Target)
	if err != nil || p.Port() == 0 {
		return fmt.Errorf("%q is not address:port", a.Target)
	}
	return nil
}

func wantAnyAddr(a Attempt) error {
	if _, err := netip.ParseAddr(a.Target); err != nil {
		return fmt.Errorf("%q is not an address", a.Target)
	}
	return nil
}

func wantAddr(six bool) func(Attempt) error {
	return func(a Attempt) error {
		addr, err := netip.ParseAddr(a.Target)
		if err != nil || addr.Is4() == six {
			return fmt.Errorf("%q is not an address of that family", a.Target)
		}
		return nil
	}
}

func wantVia(a Attempt, what string) error {
	if _, err := netip.ParseAddrPort(a.Via); err != nil {
		return fmt.Errorf("via=%q: %s as address:port is needed", a.Via, what)
	}
	return nil
}

func wantName(a Attempt) error {
	if _, err := question(a); err != nil {
		return err
	}
	return wantVia(a, "a DNS server")
}

func wantHostPort(a Attempt) error {
	host, port, err := net.SplitHostPort(a.Target)
	if err != nil || host == "" || port == "" || strings.ContainsAny(a.Target, " \r\n\t") {
		return fmt.Errorf("%q is not host:port", a.Target)
	}
	return wantVia(a, "a proxy")
}

func wantURL(a Attempt) error {
	u, err := url.Parse(a.Target)
	if err != nil || u.Scheme != "http" || u.Host == "" {
		return fmt.Errorf("%q is not an http address", a.Target)
	}
	if a.Via != "" {
		return wantVia(a, "a proxy")
	}
	if _, err := netip.ParseAddr(u.Hostname()); err != nil {
		return fmt.Errorf("%q: without a proxy, an address is needed in place of a name", a.Target)
	}
	return nil
}
