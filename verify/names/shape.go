package names

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/sallyport/sallyport/verify/probe"
)

// types are what a query may ask for. Each carries data out in its name, and some bring
// much of it back.
func types() []probe.Probe {
	var list []probe.Probe
	for _, c := range []struct {
		name   string
		kind   uint16
		why    string
		source string
		tcp    bool
	}{
		{"aaaa", typeAAAA, "a resolver that refuses one type may forward another", "RFC 3596", false},
		{"txt", typeTXT, "TXT brings commands back, 255 bytes a string", "RFC 1464", false},
		{"null", typeNULL, "NULL brings any bytes back: tunnels prefer it", "RFC 1035 §3.3.10", false},
		{"any", typeANY, "ANY asks for all that there is", "RFC 8482", false},
		{"https", typeHTTPS, "HTTPS records carry addresses and parameters, and browsers ask for them first", "RFC 9460", false},
		{"mx", typeMX, "a resolver that refuses one type may forward another", "RFC 1035 §3.3.9", false},
		{"srv", typeSRV, "a resolver that refuses one type may forward another", "RFC 2782", false},
		{"cname", typeCNAME, "an alias leads from a harmless name to a refused one", "RFC 1034 §3.6.2", false},
		{"unknown", typeOther, "a type that nobody knows may be passed on as it is", "RFC 3597", false},
		{"axfr", typeAXFR, "a zone transfer brings whole files back", "RFC 5936", true},
	} {
		e := entry{name: "dns-type-" + c.name, why: c.why, source: c.source, attempts: func(t probe.Target) []attempt {
			host := t.Name("type-" + c.name)
			return []attempt{{message: ask(host, c.kind).pack(), host: host, server: resolver(t), tcp: c.tcp}}
		}}
		list = append(list, e.probe())
	}
	return append(list, entry{name: "dns-type-ixfr", why: "an incremental transfer brings whole files back, over UDP as well", source: "RFC 1995", attempts: ixfr}.probe(),
		entry{name: "dns-type-ptr", why: "names of addresses tell what the network behind looks like", source: "RFC 1035 §3.5", attempts: ptr}.probe())
}

func ixfr(t probe.Target) []attempt {
	var list []attempt
	for _, tcp := range []bool{false, true} {
		host := t.Name("type-ixfr")
		m := ask(host, typeIXFR)
		m.authority = soa(host)
		list = append(list, attempt{message: m.pack(), host: host, server: resolver(t), tcp: tcp})
	}
	return list
}

func ptr(t probe.Target) []attempt {
	host := t.Run + ".113.0.203.in-addr.arpa"
	return []attempt{{message: ask(host, typePTR).pack(), host: host, server: resolver(t)}}
}

// shapes are messages of unusual form.
func shapes() []probe.Probe {
	var list []probe.Probe
	for _, e := range []entry{
		{name: "dns-long-name", why: "253 bytes are the most that one name carries", source: "RFC 1035 §2.3.4", attempts: named(longName)},
		{name: "dns-long-label", why: "63 bytes are the most that one label carries", source: "RFC 1035 §2.3.4",
			attempts: named(func(t probe.Target) []string { return []string{fill("label-"+t.Run, 63), "example"} })},
		{name: "dns-mixed-case", why: "the case of letters carries bits, and passes rules that compare them", source: "RFC 4343", attempts: named(mixedCase)},
		{name: "dns-odd-bytes", why: "a name may hold any byte: NUL ends it for one parser, a dot in a label splits it for another", source: "RFC 2181 §11", attempts: oddBytes},
		{name: "dns-no-question", why: "a message without a question is passed on by who looks at questions only", source: "RFC 9619",
			attempts: func(t probe.Target) []attempt {
				return []attempt{{message: message{flags: flagRecursion}.pack(), server: quiet(t, 101), want: unmarked}}
			}},
		{name: "dns-two-questions", why: "one question is looked at, the other answered", source: "RFC 9619", attempts: twoQuestions},
		{name: "dns-update", why: "an update writes data into a server elsewhere", source: "RFC 2136", attempts: opcode("update", opcodeUpdate)},
		{name: "dns-notify", why: "a notification makes a server ask back", source: "RFC 1996", attempts: opcode("notify", opcodeNotify)},
		{name: "dns-chaos", why: "another class asks for the resolver itself, and may be forwarded", source: "RFC 4892", attempts: chaos},
		{name: "dns-client-subnet", why: "the client's subnet is 16 bytes of one's choice, which resolvers pass on", source: "RFC 7871", attempts: withOption("subnet", subnet)},
		{name: "dns-big-payload", why: "options carry a kilobyte beside an innocent name", source: "RFC 7830", attempts: withOption("padding", padding)},
		{name: "dns-no-edns", why: "an old client's query has no place for the refusal's reason", source: "RFC 6891 §7", attempts: noEDNS},
		{name: "dns-response", why: "an unasked answer is data as well, and stateless filters let it pass", source: "RFC 5452 §2", attempts: response},
		{name: "dns-not-dns", why: "port 53 is open where DNS is, to whatever is no DNS", source: "RFC 7766", attempts: notDNS},
		{name: "dns-docker-names", why: "Docker's names of the host lead past its firewall", source: "CVE-2024-29018", attempts: dockerNames},
		{name: "dns-allowed-name", why: "a name that a rule allows still carries data in its labels", source: "CVE-2018-7160",
			lacks: "name that a rule allows", attempts: allowedNames},
	} {
		list = append(list, e.probe())
	}
	return list
}

// fill lengthens s to n bytes.
func fill(s string, n int) string { return s + strings.Repeat("x", n-len(s)) }

// named asks the sandbox's resolver for the name of these labels, for several types.
func named(labels func(t probe.Target) []string) func(t probe.Target) []attempt {
	return func(t probe.Target) []attempt {
		var list []attempt
		for _, kind := range []uint16{typeA, typeTXT} {
			of := labels(t)
			m := message{flags: flagRecursion, questions: []question{{of, kind, classIN}}}
			list = append(list, attempt{message: m.pack(), host: strings.Join(of, "."), server: resolver(t)})
		}
		return list
	}
}

// longName is of 253 characters, which are 255 bytes.
func longName(t probe.Target) []string {
	return []string{fill("long-"+t.Run, 63), fill("", 63), fill("", 63), fill("", 53), "example"}
}

func mixedCase(t probe.Target) []string {
	name := []byte(t.Name("mixedcase"))
	for i := range name {
		if i%2 == 0 && name[i] >= 'a' {
			name[i] -= 'a' - 'A'
		}
	}
	return labels(string(name))
}

// oddBytes are labels that the record shows in DNS's own escapes (RFC 1035 §5.1).
func oddBytes(t probe.Target) []attempt {
	var list []attempt
	for _, c := range []struct{ label, shown string }{
		{"nul\x00-" + t.Run, `nul\000-` + t.Run}, {"dot.-" + t.Run, `dot\.-` + t.Run}, {"\x1b[2J-" + t.Run, `\027[2j-` + t.Run}, {"\xff\xfe-" + t.Run, `\255\254-` + t.Run},
	} {
		m := message{flags: flagRecursion, questions: []question{{[]string{c.label, "example"}, typeA, classIN}}}
		list = append(list, attempt{message: m.pack(), host: c.shown + ".example", server: resolver(t)})
	}
	return list
}

func twoQuestions(t probe.Target) []attempt {
	one, two := t.Name("question-1"), t.Name("question-2")
	m := message{flags: flagRecursion, questions: []question{{labels(one), typeA, classIN}, {labels(two), typeTXT, classIN}}}
	return []attempt{{message: m.pack(), host: one, server: resolver(t), want: unmarked}}
}

func opcode(label string, code uint16) func(t probe.Target) []attempt {
	return func(t probe.Target) []attempt {
		host := t.Name(label)
		m := message{flags: code << 11, questions: []question{{labels(host), typeSOA, classIN}}}
		return []attempt{{message: m.pack(), host: host, server: resolver(t), want: unmarked}}
	}
}

func chaos(t probe.Target) []attempt {
	host := t.Name("chaos")
	m := message{flags: flagRecursion, questions: []question{{labels(host), typeTXT, classCHAOS}}}
	return []attempt{{message: m.pack(), host: host, server: resolver(t)}}
}

func withOption(label string, options func(t probe.Target) []byte) func(t probe.Target) []attempt {
	return func(t probe.Target) []attempt {
		host := t.Name(label)
		m := ask(host, typeA)
		m.options = options(t)
		return []attempt{{message: m.pack(), host: host, server: resolver(t)}}
	}
}

// subnet is an IPv6 one, of 16 bytes that the client chooses.
func subnet(t probe.Target) []byte {
	return option(optionSubnet, append([]byte{0, 2, 128, 0}, fill(t.Run, 16)...))
}

// padding is as much as a datagram takes without being cut into fragments.
func padding(t probe.Target) []byte {
	return option(optionPadding, []byte(strings.Repeat(string(t.Payload("padding")), 40)))
}

func noEDNS(t probe.Target) []attempt {
	host := t.Name("no-edns")
	m := ask(host, typeA)
	m.bare = true
	return []attempt{{message: m.pack(), host: host, server: resolver(t), want: unmarked}}
}

func response(t probe.Target) []attempt {
	host := t.Name("response")
	m := ask(host, typeA)
	m.flags |= flagResponse
	return []attempt{{message: m.pack(), host: host, server: resolver(t), want: mute}}
}

// notDNS is the payload as it is: shorter than a header, and longer.
func notDNS(t probe.Target) []attempt {
	long := t.Payload("not-dns")
	binary.BigEndian.PutUint16(long, id)
	long[2] &^= 0x80
	return []attempt{
		{message: []byte("sallyport"), server: quiet(t, 102), want: mute},
		{message: long, server: quiet(t, 103), want: unmarked},
	}
}

func dockerNames(t probe.Target) []attempt {
	var list []attempt
	for _, host := range []string{"host.docker.internal", "gateway.docker.internal", "kubernetes.docker.internal", "host.containers.internal"} {
		list = append(list, attempt{message: ask(host, typeA).pack(), host: host, server: t.Resolver})
	}
	return list
}

func allowedNames(t probe.Target) []attempt {
	var list []attempt
	for i, name := range t.Rebinds {
		for _, host := range []string{name, fmt.Sprintf("data-%d-%s.%s", i, t.Run, name)} {
			list = append(list, attempt{message: ask(host, typeA).pack(), host: host, server: t.Resolver})
		}
	}
	return list
}
