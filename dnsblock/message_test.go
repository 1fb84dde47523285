package dnsblock

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

func alter(m *dns.Msg, change func(*dns.Msg)) *dns.Msg {
	change(m)
	return m
}

func inClass(m *dns.Msg, class uint16) *dns.Msg {
	return alter(m, func(m *dns.Msg) { m.Question[0].Qclass = class })
}

func TestAnswers(t *testing.T) {
	soa, err := dns.NewRR("a.example. SOA b. c. 1 2 3 4 5")
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name  string
		query *dns.Msg
		rcode int
		host  string
		qtype string
	}{
		{"A", question("api.example.com.", dns.TypeA), dns.RcodeNameError, "api.example.com", "A"},
		{"AAAA", question("api.example.com.", dns.TypeAAAA), dns.RcodeNameError, "api.example.com", "AAAA"},
		{"TXT", question("x.example.", dns.TypeTXT), dns.RcodeNameError, "x.example", "TXT"},
		{"NULL", question("x.example.", dns.TypeNULL), dns.RcodeNameError, "x.example", "NULL"},
		{"ANY", question("x.example.", dns.TypeANY), dns.RcodeNameError, "x.example", "ANY"},
		{"no such type", question("x.example.", 65280), dns.RcodeNameError, "x.example", "TYPE65280"},
		{"root", question(".", dns.TypeNS), dns.RcodeNameError, ".", "NS"},
		{"PTR", question("10.113.0.203.in-addr.arpa.", dns.TypePTR), dns.RcodeNameError, "10.113.0.203.in-addr.arpa", "PTR"},
		{"local names too", question("gateway.", dns.TypeA), dns.RcodeNameError, "gateway", "A"},
		{"case is kept", question("aPi.eXample.", dns.TypeA), dns.RcodeNameError, "aPi.eXample", "A"},
		{"HTTPS", question("x.example.", dns.TypeHTTPS), dns.RcodeSuccess, "x.example", "HTTPS"},
		{"SVCB", question("_dns.x.example.", dns.TypeSVCB), dns.RcodeSuccess, "_dns.x.example", "SVCB"},
		{"AXFR", question("x.example.", dns.TypeAXFR), dns.RcodeRefused, "x.example", "AXFR"},
		{"IXFR", alter(question("x.example.", dns.TypeIXFR), func(m *dns.Msg) { m.Ns = []dns.RR{soa} }), dns.RcodeRefused, "x.example", "IXFR"},
		{"CHAOS", inClass(question("version.bind.", dns.TypeTXT), dns.ClassCHAOS), dns.RcodeRefused, "version.bind", "TXT"},
		{"class ANY", inClass(question("x.example.", dns.TypeA), dns.ClassANY), dns.RcodeRefused, "x.example", "A"},
		{"HTTPS of another class", inClass(question("x.example.", dns.TypeHTTPS), dns.ClassHESIOD), dns.RcodeRefused, "x.example", "HTTPS"},
		{"NOTIFY", new(dns.Msg).SetNotify("x.example."), dns.RcodeNotImplemented, "x.example", "SOA"},
		{"UPDATE", new(dns.Msg).SetUpdate("x.example."), dns.RcodeNotImplemented, "x.example", "SOA"},
		{"two questions", alter(question("x.example.", dns.TypeA), func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }), dns.RcodeFormatError, "x.example", "A"},
		{"no question", new(dns.Msg), dns.RcodeFormatError, "", ""},
		{"many answers", alter(question("x.example.", dns.TypeA), func(m *dns.Msg) { m.Answer = []dns.RR{soa, soa} }), dns.RcodeFormatError, "x.example", "A"},
	}
	for _, tt := range tests {
		for _, edns := range []bool{false, true} {
			query := tt.query.Copy()
			if edns {
				withEDNS(query)
			}
			s, b := newServer()
			answer := unpack(t, s.handle(pack(t, query), testPeer))
			if answer.Rcode != tt.rcode || !answer.Response || answer.Id != query.Id || answer.Opcode != query.Opcode {
				t.Errorf("%s: header %v, want %s", tt.name, answer.MsgHdr, dns.RcodeToString[tt.rcode])
			}
			if len(answer.Answer)+len(answer.Ns) > 0 || !answer.RecursionAvailable {
				t.Errorf("%s: answer\n%v", tt.name, answer)
			}
			if tt.host != "" && (len(answer.Question) != 1 || answer.Question[0] != query.Question[0]) {
				t.Errorf("%s: question %v", tt.name, answer.Question)
			}
			if !edns && len(answer.Extra) > 0 {
				t.Errorf("%s: EDNS in the answer to a query without", tt.name)
			}
			events := b.all()
			if len(events) != 1 {
				t.Fatalf("%s: %d events", tt.name, len(events))
			}
			e := events[0]
			if e.Host != tt.host || e.Method != tt.qtype || e.Verdict != "denied" || e.Reason == "" || e.Layer != "dns" || e.Sandbox != "s1" ||
				e.Src != "10.213.0.1:40000" || e.Dst != "203.0.113.53:53" || e.Port != 53 || e.Proto != "udp" || e.BytesIn == 0 || e.BytesOut == 0 {
				t.Errorf("%s: event %+v", tt.name, e)
			}
		}
	}
}

func TestExtendedError(t *testing.T) {
	for _, qtype := range []uint16{dns.TypeA, dns.TypeHTTPS, dns.TypeAXFR} {
		s, _ := newServer()
		answer := unpack(t, s.handle(pack(t, withEDNS(question("x.example.", qtype))), testPeer))
		e := extended(answer)
		if e == nil || e.InfoCode != 15 || !strings.Contains(e.ExtraText, "proxy") {
			t.Errorf("%s: extended error %v", dns.Type(qtype), e)
		}
		if opt := answer.IsEdns0(); opt.UDPSize() != udpSize || !opt.Do() {
			t.Errorf("OPT %v", opt)
		}
	}
}

func TestEDNSErrors(t *testing.T) {
	s, _ := newServer()
	query := withEDNS(question("x.example.", dns.TypeA))
	query.IsEdns0().SetVersion(1)
	if answer := unpack(t, s.handle(pack(t, query), testPeer)); answer.Rcode != dns.RcodeBadVers {
		t.Errorf("version 1: %v", answer)
	}
	query = withEDNS(withEDNS(question("x.example.", dns.TypeA)))
	if answer := unpack(t, s.handle(pack(t, query), testPeer)); answer.Rcode != dns.RcodeFormatError {
		t.Errorf("two OPT records: %v", answer)
	}
}

// wire makes a query with the labels given, whatever bytes are in them.
func wire(labels ...string) []byte {
	b := []byte{0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}
	for _, l := range labels {
		b = append(append(b, byte(len(l))), l...)
	}
	return append(b, 0, 0, 1, 0, 1)
}

// A name goes whole into the record, and byte for byte into the answer.
func TestNamesWhole(t *testing.T) {
	var every strings.Builder
	for c := range 256 {
		every.WriteByte(byte(c))
	}
	all := every.String()
	for _, labels := range [][]string{
		{all[:63], all[63:126], all[126:189]},
		{all[189:252], all[252:]},
		{strings.Repeat("a", 63), strings.Repeat("b", 63), strings.Repeat("c", 63), strings.Repeat("d", 61)},
		{strings.Repeat("\xff", 63), strings.Repeat("\x00", 63), strings.Repeat("\x1b", 63), strings.Repeat(".", 61)},
		{"a.b", "\\", "c."},
	} {
		s, b := newServer()
		query := wire(labels...)
		answer := s.handle(query, testPeer)
		if !bytes.Equal(answer[headerSize:], query[headerSize:]) {
			t.Errorf("question %x\nanswered %x", query[headerSize:], answer[headerSize:])
		}
		name := b.all()[0].Host
		again := new(dns.Msg).SetQuestion(dns.Fqdn(name+"."), dns.TypeA)
		if back := pack(t, again); !bytes.Equal(back[headerSize:], query[headerSize:]) {
			t.Errorf("name %q means %x, asked was %x", name, back[headerSize:], query[headerSize:])
		}
	}
}

func TestUnanswered(t *testing.T) {
	response := question("x.example.", dns.TypeA)
	response.Response = true
	for name, message := range map[string][]byte{
		"empty":    {},
		"short":    {1, 2, 3},
		"response": pack(t, response),
	} {
		s, b := newServer()
		if answer := s.handle(message, testPeer); answer != nil {
			t.Errorf("%s: answered %x", name, answer)
		}
		if e := b.all(); len(e) != 1 || e[0].Reason == "" || e[0].BytesIn != int64(len(message)) {
			t.Errorf("%s: events %+v", name, e)
		}
	}
}

func TestMalformed(t *testing.T) {
	whole := wire("x", "example")
	for name, message := range map[string][]byte{
		"header only":     whole[:headerSize],
		"cut name":        whole[:headerSize+4],
		"cut question":    whole[:len(whole)-1],
		"pointer to self": append(append([]byte(nil), whole[:headerSize]...), 0xc0, headerSize, 0, 1, 0, 1),
		"name too long":   wire(strings.Repeat("a", 63), strings.Repeat("a", 63), strings.Repeat("a", 63), strings.Repeat("a", 63)),
		"record missing":  append(append([]byte(nil), whole[:11]...), append([]byte{1}, whole[headerSize:]...)...),
	} {
		s, b := newServer()
		answer := unpack(t, s.handle(message, testPeer))
		if answer.Rcode != dns.RcodeFormatError || answer.Id != 0x1234 {
			t.Errorf("%s: %v", name, answer)
		}
		if len(b.all()) != 1 {
			t.Errorf("%s: %d events", name, len(b.all()))
		}
	}
}

// One message cannot make us unpack thousands of names.
func TestLyingCounts(t *testing.T) {
	message := wire(strings.Repeat("a", 63), strings.Repeat("b", 63), strings.Repeat("c", 63))
	for len(message) < 60000 {
		message = append(message, 0xc0, headerSize, 0, 1, 0, 1)
	}
	message[4], message[5] = 0xff, 0xff
	s, _ := newServer()
	if n := testing.AllocsPerRun(10, func() { s.handle(message, testPeer) }); n > 200 {
		t.Errorf("%.0f allocations for one message", n)
	}
}

func TestRecordFails(t *testing.T) {
	s, b := newServer()
	var log bytes.Buffer
	s.Log = slog.New(slog.NewTextHandler(&log, nil))
	b.broken = true
	for _, qtype := range []uint16{dns.TypeA, dns.TypeHTTPS, dns.TypeAXFR} {
		answer := unpack(t, s.handle(pack(t, withEDNS(question("x.example.", qtype))), testPeer))
		if e := extended(answer); answer.Rcode != dns.RcodeServerFailure || e == nil || e.ExtraText != notRecorded {
			t.Errorf("%s: %v", dns.Type(qtype), answer)
		}
	}
	if answer := s.handle([]byte{1}, testPeer); answer != nil {
		t.Errorf("answered %x", answer)
	}
	b.broken = false
	if answer := unpack(t, s.handle(pack(t, question("x.example.", dns.TypeA)), testPeer)); answer.Rcode != dns.RcodeNameError {
		t.Errorf("after the failure: %v", answer)
	}
	if n := strings.Count(log.String(), "\n"); n != 2 {
		t.Errorf("%d lines in the log:\n%s", n, log.String())
	}
}
