package dnsblock

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// sameAsJudge fails if quick takes a message and says anything else than judge, which
// uses the library.
func sameAsJudge(t *testing.T, message []byte) (taken bool) {
	t.Helper()
	before := bytes.Clone(message)
	got, answer, ok := quick(message, make([]byte, 0, maxAnswer))
	if !bytes.Equal(message, before) {
		t.Errorf("the message %x was changed", before)
	}
	if !ok {
		return false
	}
	want := judge(message)
	if got.name != want.name || got.qtype != want.qtype || got.reason != want.reason || got.silent != want.silent {
		t.Errorf("query %x: %q %q %q, judge says %q %q %q", message, got.name, got.qtype, got.reason, want.name, want.qtype, want.reason)
	}
	if packed := want.pack(); !bytes.Equal(answer, packed) || len(answer) > maxAnswer {
		t.Errorf("query %x:\n%x\njudge answers\n%x", message, answer, packed)
	}
	return true
}

func FuzzQuick(f *testing.F) {
	for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeHTTPS, dns.TypeAXFR, dns.TypeOPT, 65280} {
		f.Add(pack(f, question("api.example.", qtype)))
		f.Add(pack(f, withEDNS(question("a-b._c.0example.", qtype))))
	}
	f.Add(pack(f, inClass(question("x.example.", dns.TypeA), dns.ClassCHAOS)))
	f.Add(append(wire("x"), 0, 0, 41, 0, 0, 0, 0, 0x80, 0, 0, 0))
	f.Fuzz(func(t *testing.T, message []byte) { sameAsJudge(t, message) })
}

// Whatever byte of a common query is another one, quick says what judge does or
// leaves it.
func TestQuickIsJudge(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	longest := wire(strings.Repeat("a", 63), strings.Repeat("b", 63), strings.Repeat("c", 63), strings.Repeat("d", 61))
	seeds := [][]byte{
		pack(t, question("x.example.", dns.TypeA)), pack(t, withEDNS(question("x.example.", dns.TypeA))), longest,
		wire(strings.Repeat("a", 63), strings.Repeat("b", 63), strings.Repeat("c", 63), strings.Repeat("d", 62)), wire("a", strings.Repeat("b", 64)),
	}
	taken := 0
	for _, seed := range seeds {
		for at := range seed {
			for value := 0; value < 256; value += 1 + len(seed)/64 {
				message := bytes.Clone(seed)
				message[at] = byte(value)
				if value%16 == 5 { // and another one
					message[random.IntN(len(message))] = byte(random.Uint32())
				}
				if sameAsJudge(t, message) {
					taken++
				}
			}
			sameAsJudge(t, seed[:at])
		}
		sameAsJudge(t, append(bytes.Clone(seed), 0))
	}
	if taken < 5_000 {
		t.Errorf("quick took %d of them", taken)
	}
	if !sameAsJudge(t, longest) {
		t.Error("quick does not take the longest name")
	}
}

// What resolvers ask is what quick is for.
func TestQuickTakes(t *testing.T) {
	plain := question("x.example.", dns.TypeA)
	signed := question("x.example.", dns.TypeA)
	signed.CheckingDisabled, signed.AuthenticatedData = true, true
	cookie := withEDNS(question("x.example.", dns.TypeA))
	cookie.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0102030405060708"}}
	newer := withEDNS(question("x.example.", dns.TypeA))
	newer.IsEdns0().SetVersion(1)
	for _, tt := range []struct {
		name  string
		query []byte
		taken bool
	}{
		{"without EDNS", pack(t, plain), true},
		{"with EDNS", pack(t, withEDNS(plain.Copy())), true},
		{"HTTPS", pack(t, question("x.example.", dns.TypeHTTPS)), true},
		{"PTR", pack(t, question("10.113.0.203.in-addr.arpa.", dns.TypePTR)), true},
		{"with CD and AD", pack(t, signed), true},
		{"upper case, digits, underscores", wire("_dmarc", "X-1", "eXample"), true},
		{"root", pack(t, question(".", dns.TypeNS)), false},
		{"a byte that is escaped", wire("a.b", "example"), false},
		{"an EDNS option", pack(t, cookie), false},
		{"another EDNS version", pack(t, newer), false},
		{"something after it", append(wire("x"), 0), false},
		{"NOTIFY", pack(t, new(dns.Msg).SetNotify("x.example.")), false},
	} {
		if taken := sameAsJudge(t, tt.query); taken != tt.taken {
			t.Errorf("%s: taken %v", tt.name, taken)
		}
	}
}

func TestQuickAllocates(t *testing.T) {
	query, buf := pack(t, withEDNS(question("api.example.com.", dns.TypeA))), make([]byte, 0, maxAnswer)
	n := testing.AllocsPerRun(100, func() {
		if _, _, ok := quick(query, buf); !ok {
			t.Fatal("not taken")
		}
	})
	if n != 1 { // the name, which goes into the record
		t.Errorf("%.0f allocations", n)
	}
}

func BenchmarkQuick(b *testing.B) {
	query, buf := pack(b, withEDNS(question("api.example.com.", dns.TypeA))), make([]byte, 0, maxAnswer)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, ok := quick(query, buf); !ok {
			b.Fatal("not taken")
		}
	}
}
