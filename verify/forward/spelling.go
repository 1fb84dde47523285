package forward

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/sallyport/sallyport/verify/probe"
)

// plain are targets as a client writes them.
func plain() []entry {
	host := func(spell func(t probe.Target) string) func(t probe.Target) []request {
		return func(t probe.Target) []request { return both(t, spell(t), "plain") }
	}
	return []entry{
		{name: "proxy-name", why: "any server that no rule names takes what is sent to it", source: "RFC 9110 §9.3.6",
			requests: host(func(t probe.Target) string { return t.Name("proxy-name") })},
		{name: "proxy-ipv4", why: "an address passes rules that name hosts", source: "RFC 9110 §9.3.6",
			requests: host(func(t probe.Target) string { return public4(t).String() })},
		{name: "proxy-ipv6", why: "an address passes rules that name hosts", source: "RFC 3986 §3.2.2",
			requests: host(func(t probe.Target) string { return "[" + public6(t).String() + "]" })},
		{name: "proxy-other-port", why: "a rule for one port must not open another", source: "RFC 9110 §9.3.6",
			requests: func(t probe.Target) []request {
				return []request{connect(t, t.Name("proxy-port"), "25"), connect(t, t.Name("proxy-port"), "22"), get(t, t.Name("proxy-port")+":8080", "port")}
			}},
	}
}

// both asks for host with CONNECT and in absolute form.
func both(t probe.Target, host, path string) []request {
	return []request{connect(t, host, "443"), get(t, host, path)}
}

// spelled is a way to write a host that one parser reads otherwise than another.
type spelled struct {
	name, why, source string
	hosts             func(t probe.Target) []string
	unread            bool // no HTTP parser takes it
	connectOnly       bool // in a URL it means something else
}

func spellings() []entry {
	var list []entry
	for _, table := range [][]spelled{addressSpellings, nameSpellings, brokenSpellings} {
		for _, s := range table {
			list = append(list, entry{name: "proxy-" + s.name, why: s.why, source: s.source, requests: s.requests})
		}
	}
	return append(list, oddSpellings()...)
}

func (s spelled) requests(t probe.Target) []request {
	var list []request
	for _, host := range s.hosts(t) {
		asked := both(t, host, s.name)
		if s.connectOnly {
			asked = asked[:1]
		}
		for _, r := range asked {
			if s.unread {
				r = unread(t, r)
			}
			list = append(list, r)
		}
	}
	return list
}

// octets writes an IPv4 address byte by byte.
func octets(a netip.Addr, format string) string {
	b := a.As4()
	return fmt.Sprintf(strings.TrimSuffix(strings.Repeat(format+".", 4), "."), b[0], b[1], b[2], b[3])
}

// number is an IPv4 address as one.
func number(a netip.Addr) uint32 {
	b := a.As4()
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}

// wide replaces characters by look-alikes that name mapping turns back.
func wide(s, dot string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return r + 0xfee0 // FULLWIDTH DIGIT
		}
		return r
	}, strings.ReplaceAll(s, ".", dot))
}

var addressSpellings = []spelled{
	{name: "octal-address", why: "inet_aton reads octal numbers where a filter sees a name or another address", source: "CVE-2021-29923",
		hosts: func(t probe.Target) []string {
			return []string{octets(public4(t), "0%o"), octets(public4(t), "%04o"), fmt.Sprintf("0%o", number(public4(t)))}
		}},
	{name: "hex-address", why: "inet_aton reads hexadecimal numbers where a filter sees a name", source: "RFC 3986 §7.4",
		hosts: func(t probe.Target) []string {
			return []string{octets(public4(t), "0x%x"), octets(public4(t), "0X%02X"), fmt.Sprintf("0x%08x", number(public4(t)))}
		}},
	{name: "decimal-address", why: "inet_aton reads one number as an address", source: "RFC 3986 §7.4",
		hosts: func(t probe.Target) []string { return []string{fmt.Sprint(number(public4(t)))} }},
	{name: "short-address", why: "inet_aton fills in the bytes that are left out", source: "RFC 3986 §7.4",
		hosts: func(t probe.Target) []string {
			b := public4(t).As4()
			return []string{fmt.Sprintf("%d.%d.%d", b[0], b[1], int(b[2])<<8|int(b[3])), fmt.Sprintf("%d.%d", b[0], number(public4(t))&0xffffff)}
		}},
	{name: "fullwidth-address", why: "name mapping turns fullwidth digits and full stops into an address", source: "RFC 5895 §2",
		hosts: func(t probe.Target) []string {
			a := public4(t).String()
			return []string{wide(a, "．"), strings.ReplaceAll(a, ".", "。"), strings.ReplaceAll(a, ".", "｡")}
		}},
	{name: "mapped-address", why: "an IPv4 address written as IPv6 passes filters of IPv4", source: "CVE-2024-24790",
		hosts: func(t probe.Target) []string {
			n := number(public4(t))
			return []string{"[::ffff:" + public4(t).String() + "]", fmt.Sprintf("[::ffff:%x:%x]", n>>16, n&0xffff),
				"[::" + public4(t).String() + "]", "[64:ff9b::" + public4(t).String() + "]"}
		}},
	{name: "percent-address", why: "dots that are decoded after the check", source: "RFC 3986 §3.2.2", unread: true,
		hosts: func(t probe.Target) []string {
			return []string{strings.ReplaceAll(public4(t).String(), ".", "%2e"), strings.ReplaceAll(public4(t).String(), ".", "%2E")}
		}},
}

var nameSpellings = []spelled{
	{name: "mixed-case", why: "rules that compare letters miss another case of a refused name", source: "RFC 4343",
		hosts: func(t probe.Target) []string { return []string{strings.ToUpper(t.Name("mixed-Case"))} }},
	{name: "trailing-dot", why: "rules that compare letters miss a name with the root's dot", source: "RFC 1034 §3.1",
		hosts: func(t probe.Target) []string { return []string{t.Name("trailing-dot") + "."} }},
	{name: "punycode", why: "a name that looks like an allowed one belongs to somebody else", source: "RFC 5890 §4",
		hosts: func(t probe.Target) []string { return []string{"xn--80ak6aa92e." + t.Name("punycode")} }},
	{name: "look-alike", why: "a Cyrillic letter makes another name of an allowed one", source: "RFC 5890 §4",
		hosts: func(t probe.Target) []string { return []string{"\u0430" + allowed(t), "ａ-" + t.Name("wide")} }},
	{name: "empty-label", why: "resolvers and rules differ in what empty labels mean", source: "RFC 1034 §3.1",
		hosts: func(t probe.Target) []string { return []string{"a.." + t.Name("empty"), "." + t.Name("empty")} }},
	{name: "wildcard-name", why: "a name that is a pattern may match a rule", source: "RFC 4592",
		hosts: func(t probe.Target) []string { return []string{"*." + t.Name("wildcard")} }},
	{name: "name-list", why: "one parser takes the first name of a list, another the last", source: "RFC 9112 §3.2.3", connectOnly: true,
		hosts: func(t probe.Target) []string {
			return []string{allowed(t) + "," + t.Name("list"), allowed(t) + ";" + t.Name("list"), allowed(t) + "/" + t.Name("list"), allowed(t) + "?" + t.Name("list")}
		}},
}

// brokenSpellings are refused before anybody looks for a host in them.
var brokenSpellings = []spelled{
	{name: "nul-in-host", why: "a C library ends the name there, a rule does not", source: "CVE-2009-2408", unread: true,
		hosts: func(t probe.Target) []string {
			return []string{t.Name("nul") + "\x00." + allowed(t), t.Name("nul") + "%00." + allowed(t)}
		}},
	{name: "space-in-host", why: "parsers differ in where the target ends", source: "RFC 9112 §3.2", unread: true,
		hosts: func(t probe.Target) []string {
			return []string{t.Name("space") + " ." + allowed(t), t.Name("space") + "\t." + allowed(t), t.Name("space") + "\v." + allowed(t)}
		}},
	{name: "line-end-in-host", why: "a line end in the target begins a header, or another request", source: "CVE-2019-9741", unread: true,
		hosts: func(t probe.Target) []string {
			return []string{t.Name("crlf") + "\r\nX: ." + allowed(t), t.Name("lf") + "\nX: ." + allowed(t), t.Name("cr") + "\rX: ." + allowed(t),
				t.Name("escaped") + "%0d%0aX:." + allowed(t)}
		}},
	{name: "hash-in-host", why: "one parser takes the host before a # or \\, another the one behind", source: "RFC 3986 §3.2", unread: true,
		hosts: func(t probe.Target) []string {
			return []string{t.Name("hash") + "#." + allowed(t), t.Name("backslash") + `\.` + allowed(t)}
		}},
}

// oddSpellings are recorded in ways of their own.
func oddSpellings() []entry {
	return []entry{
		{name: "proxy-userinfo", why: "a reader sees the allowed name before the @, the client goes behind it", source: "RFC 3986 §7.6", requests: userinfo},
		{name: "proxy-dotted-address", why: "with the root's dot an address looks like a name", source: "RFC 1034 §3.1",
			requests: func(t probe.Target) []request {
				list := both(t, public4(t).String()+".", "dotted-address")
				list[0].event.Host, list[0].event.Reason = "", public4(t).String()+".:443"
				list[1].event.Host, list[1].event.Reason = "", public4(t).String()+"."
				return list
			}},
		{name: "proxy-percent-twice", why: "dots that are decoded once by the check and once more by the resolver", source: "RFC 3986 §2.4",
			requests: func(t probe.Target) []request {
				list := both(t, strings.ReplaceAll(public4(t).String(), ".", "%252e"), "percent-twice")
				list[1].event.Host = strings.ReplaceAll(public4(t).String(), ".", "%2e")
				return list
			}},
		{name: "proxy-zone", why: "a zone names one of the proxy's own links, or passes for a name", source: "CVE-2025-22870", requests: zones},
		{name: "proxy-no-host", why: "an empty host is the proxy's own machine to some libraries", source: "RFC 9110 §4.2.1",
			requests: func(t probe.Target) []request {
				list := both(t, "", "no-host")
				list[0].event.Host, list[0].event.Reason = "", `":443"`
				list[1].event.Host = t.Name("host")
				return list
			}},
	}
}

func userinfo(t probe.Target) []request {
	var list []request
	for _, user := range []string{"user", allowed(t), allowed(t) + ":443", "user:word"} {
		for _, name := range []string{t.Name("userinfo"), allowed(t)} {
			tunnel := connect(t, user+"@"+name, "443")
			tunnel.event.Host, tunnel.event.Reason = "", user+"@"+name
			list = append(list, tunnel, message(recorded(t, probe.Event{Method: "GET", Host: name, Path: "/userinfo"}),
				"GET http://"+user+"@"+name+"/userinfo HTTP/1.1", "Host: "+name, "Connection: close"))
		}
	}
	return list
}

func zones(t probe.Target) []request {
	var list []request
	for _, zone := range []string{"eth0", "1", "." + allowed(t)} {
		asked := both(t, "[fe80::1%25"+zone+"]", "zone")
		asked[1].event.Host = "[fe80::1%" + strings.ToLower(zone) + "]"
		list = append(list, asked...)
	}
	for _, r := range both(t, "[fe80::1%eth0]", "zone-"+t.Run) {
		list = append(list, unread(t, r))
	}
	return list
}

// ports are those that are none.
func ports() []entry {
	read := func(port string) func(t probe.Target) request {
		return func(t probe.Target) request {
			r := connect(t, t.Name("port"), port)
			r.event.Host, r.event.Reason = "", `"`+t.Name("port")+":"+port+`"`
			return r
		}
	}
	broken := func(port string) func(t probe.Target) request {
		return func(t probe.Target) request { return unread(t, connect(t, t.Name("port"), port)) }
	}
	all := []func(t probe.Target) request{read("0"), read("65536"), read("0443"), read(""), read("65979"),
		broken("+443"), broken(" 443"), broken("-443"), broken("443:443"), broken("４４３"), broken("0x1bb")}
	return []entry{{name: "proxy-odd-port", why: "a port that is cut to 16 bits, or parsed otherwise, is another one", source: "RFC 9110 §9.3.6",
		requests: func(t probe.Target) []request {
			list := []request{{
				bytes: "CONNECT " + t.Name("no-port") + " HTTP/1.1\r\nHost: " + t.Name("no-port") + "\r\nConnection: close\r\n\r\n",
				event: recorded(t, probe.Event{Method: "CONNECT", Host: t.Name("no-port")}),
			}}
			for _, r := range all {
				list = append(list, r(t))
			}
			return list
		}}}
}
