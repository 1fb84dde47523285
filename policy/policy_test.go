package policy_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/policy"
)

func mustNew(t testing.TB, rules ...policy.Rule) *policy.Policy {
	t.Helper()
	p, err := policy.New(rules)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// The policy of a person who allowed two hosts, as a table of who gets where.
func TestDecide(t *testing.T) {
	p := mustNew(t,
		policy.Rule{Host: "api.example.com", Ports: []uint16{443, 8443}, Why: "the API"},
		policy.Rule{Host: "*.example.org", Ports: []uint16{443}, Why: "docs mirror"},
		policy.Rule{Host: "*.deep.example.org", Ports: []uint16{80}, Why: "deeper"},
		policy.Rule{Host: "bücher.example.net", Ports: []uint16{443}},
	)
	const deny, allow = policy.Deny, policy.Allow
	for _, c := range []struct {
		host    string
		port    uint16
		verdict policy.Verdict
		reason  string
	}{
		{"api.example.com", 443, allow, "the API"},
		{"api.example.com", 8443, allow, "the API"},
		{"api.example.com", 80, deny, "not on the allow list"},
		{"api.example.com", 0, deny, "not on the allow list"},
		{"example.com", 443, deny, "not on the allow list"},
		{"x.api.example.com", 443, deny, "not on the allow list"},
		{"xapi.example.com", 443, deny, "not on the allow list"},
		{"api.example.com.evil.test", 443, deny, "not on the allow list"},
		{"docs.example.org", 443, allow, "docs mirror"},
		{"a.b.c.example.org", 443, allow, "docs mirror"},
		{"example.org", 443, deny, "not on the allow list"},
		{"notexample.org", 443, deny, "not on the allow list"},
		{"a.deep.example.org", 80, allow, "deeper"},
		{"a.deep.example.org", 443, allow, "docs mirror"},
		{"deep.example.org", 80, deny, "not on the allow list"},
		{"bücher.example.net", 443, allow, "allowed by the rule for bücher.example.net"},
		{"xn--bcher-kva.example.net", 443, allow, "allowed by the rule for bücher.example.net"},

		// Other spellings of an allowed name are the allowed name.
		{"API.Example.COM", 443, allow, "the API"},
		{"api.example.com.", 443, allow, "the API"},
		{"api。example．com", 443, allow, "the API"},
		{"ａｐｉ.example.com", 443, allow, "the API"},
		{"BÜCHER.example.net", 443, allow, "allowed by the rule for bücher.example.net"},

		// Spellings that some parser reads as another host are no host.
		{"", 443, deny, "not a valid host name"},
		{".", 443, deny, "not a valid host name"},
		{"*.example.org", 443, deny, "not a valid host name"},
		{".example.org", 443, deny, "not a valid host name"},
		{"a..example.org", 443, deny, "not a valid host name"},
		{"api.example.com..", 443, deny, "not a valid host name"},
		{"a_b.example.org", 443, deny, "not a valid host name"},
		{"-a.example.org", 443, deny, "not a valid host name"},
		{"a-.example.org", 443, deny, "not a valid host name"},
		{"ab--c.example.org", 443, deny, "not a valid host name"},
		{"xn--a.example.org", 443, deny, "not a valid host name"},
		{"xn--api-.example.org", 443, deny, "not a valid host name"},
		{"user@api.example.com", 443, deny, "not a valid host name"},
		{"api.example.com@evil.test", 443, deny, "not a valid host name"},
		{"api.example.com:443", 443, deny, "not a valid host name"},
		{"api.example.com%2eevil.test", 443, deny, "not a valid host name"},
		{"api.example.com/", 443, deny, "not a valid host name"},
		{"api.example.com\x00.example.org", 443, deny, "not a valid host name"},
		{"evil.test#.example.org", 443, deny, "not a valid host name"},
		{"evil.test?.example.org", 443, deny, "not a valid host name"},
		{"evil.test\\.example.org", 443, deny, "not a valid host name"},
		{"a b.example.org", 443, deny, "not a valid host name"},
		{"\x1b[2J.example.org", 443, deny, "not a valid host name"},
		{"\xff.example.org", 443, deny, "not a valid host name"},
		{strings.Repeat("a", 63) + ".example.org", 443, allow, "docs mirror"},
		{strings.Repeat("a", 64) + ".example.org", 443, deny, "not a valid host name"},
		{strings.Repeat("a.", 120) + "example.org", 443, allow, "docs mirror"},             // 251 bytes
		{strings.Repeat("a.", 120) + "aa.example.org", 443, deny, "not a valid host name"}, // 254 bytes
		{strings.Repeat("a.", 1<<20) + "example.org", 443, deny, "not a valid host name"},

		{"a.example.org" + strings.Repeat("\u00ad", 100), 443, allow, "docs mirror"}, // soft hyphens map to nothing
		{"a.example.org" + strings.Repeat("\u00ad", 1000), 443, deny, "not a valid host name"},

		// Addresses, however they are spelled.
		{"203.0.113.7", 443, deny, "an address, and rules name hosts"},
		{"203.0.113.7.", 443, deny, "an address, and rules name hosts"},
		{"１２７.0.0.1", 443, deny, "an address, and rules name hosts"},
		{"127。0。0。1", 443, deny, "an address, and rules name hosts"},
		{"①②⑦.0.0.1", 443, deny, "an address, and rules name hosts"},
		{"127.1", 443, deny, "an address, and rules name hosts"},
		{"2130706433", 443, deny, "an address, and rules name hosts"},
		{"0177.0.0.1", 443, deny, "an address, and rules name hosts"},
		{"0x7f.0.0.1", 443, deny, "an address, and rules name hosts"},
		{"0x7f000001", 443, deny, "an address, and rules name hosts"},
		{"0X7F.1", 443, deny, "an address, and rules name hosts"},
		{"127.0x1", 443, deny, "an address, and rules name hosts"},
		{"a.example.org.0x", 443, deny, "an address, and rules name hosts"},
		{"999.example.org.999", 443, deny, "an address, and rules name hosts"},
		{"169.254.169.254", 80, deny, "an address, and rules name hosts"},
		{"::1", 443, deny, "an address, and rules name hosts"},
		{"[::1]", 443, deny, "an address, and rules name hosts"},
		{"::ffff:127.0.0.1", 443, deny, "an address, and rules name hosts"},
		{"fe80::1%eth0", 443, deny, "an address, and rules name hosts"},
		{"[fe80::1%25eth0]", 443, deny, "an address, and rules name hosts"},
		{"1.example.org", 443, allow, "docs mirror"}, // a number is fine further left
		{"0x1.example.org", 443, allow, "docs mirror"},
	} {
		d := p.Decide(c.host, c.port)
		if d.Verdict != c.verdict || d.Reason != c.reason {
			t.Errorf("Decide(%.80q, %d) = %v, %q; want %v, %q", c.host, c.port, d.Verdict, d.Reason, c.verdict, c.reason)
		}
		if (d.Rule != "") != (c.verdict == allow) {
			t.Errorf("Decide(%.80q, %d) names rule %q with verdict %v", c.host, c.port, d.Rule, d.Verdict)
		}
	}
}

func TestZeroAndNilPolicyDeny(t *testing.T) {
	var zero policy.Policy
	var none *policy.Policy
	var verdict policy.Verdict
	for _, d := range []policy.Decision{zero.Decide("a.example.com", 443), none.Decide("a.example.com", 443), {Verdict: verdict}} {
		if d.Verdict != policy.Deny {
			t.Errorf("verdict %v, want denied", d.Verdict)
		}
	}
	if s := policy.Verdict(7).String(); s != "denied" {
		t.Errorf("an unknown verdict reads %q, want denied", s)
	}
}

func TestFirstRuleCounts(t *testing.T) {
	p := mustNew(t,
		policy.Rule{Host: "A.example.com", Ports: []uint16{443}, Why: "first"},
		policy.Rule{Host: "a.example.com", Ports: []uint16{443, 80}, Why: "second"})
	if d := p.Decide("a.example.com", 443); d.Reason != "first" || d.Rule != "A.example.com" {
		t.Errorf("443: %+v, want the first rule, as written", d)
	}
	if d := p.Decide("a.example.com", 80); d.Reason != "second" {
		t.Errorf("80: %+v, want the second rule", d)
	}
}

func TestNewRefuses(t *testing.T) {
	web := []uint16{443}
	for _, c := range []struct {
		rule policy.Rule
		want string
	}{
		{policy.Rule{Host: "a.example.com"}, "no ports"},
		{policy.Rule{Host: "a.example.com", Ports: []uint16{443, 0}}, "port 0"},
		{policy.Rule{Host: "a.example.com", Ports: web, Why: "two\nlines"}, "one line"},
		{policy.Rule{Ports: web}, "no host"},
		{policy.Rule{Host: "*", Ports: web}, `"*" stands alone`},
		{policy.Rule{Host: "*.*", Ports: web}, `"*" stands alone`},
		{policy.Rule{Host: "a*.example.com", Ports: web}, `"*" stands alone`},
		{policy.Rule{Host: "*.", Ports: web}, "no host"},
		{policy.Rule{Host: "*.com", Ports: web}, "anybody can have a name below com"},
		{policy.Rule{Host: "*.COM.", Ports: web}, "anybody can have a name below com"},
		{policy.Rule{Host: "*.co.uk", Ports: web}, "anybody can have a name below co.uk"},
		{policy.Rule{Host: "*.github.io", Ports: web}, "anybody can have a name below github.io"},
		{policy.Rule{Host: "*.test", Ports: web}, "anybody can have a name below test"},
		{policy.Rule{Host: ".example.com", Ports: web}, "starts with a dot"},
		{policy.Rule{Host: "203.0.113.7", Ports: web}, "write the host's name"},
		{policy.Rule{Host: "*.203.0.113.7", Ports: web}, "write the host's name"},
		{policy.Rule{Host: "[2001:db8::1]", Ports: web}, "write the host's name"},
		{policy.Rule{Host: "0x7f.1", Ports: web}, "write the host's name"},
		{policy.Rule{Host: "a.example.com:443", Ports: web}, "a port in the host"},
		{policy.Rule{Host: "https://a.example.com", Ports: web}, "a URL"},
		{policy.Rule{Host: "a.example.com/x", Ports: web}, "a URL"},
		{policy.Rule{Host: "a_b.example.com", Ports: web}, "not a valid host name"},
	} {
		p, err := policy.New([]policy.Rule{c.rule})
		var re *policy.RuleError
		if p != nil || !errors.As(err, &re) || !strings.Contains(re.Err.Error(), c.want) {
			t.Errorf("New(%+v) = %v, %v; want no policy and an error with %q", c.rule, p, err, c.want)
		}
	}
	for _, host := range []string{"localhost", "*.example.com", "*.a.github.io", "github.io", "com"} {
		mustNew(t, policy.Rule{Host: host, Ports: web})
	}
}

func TestNewReportsAllAtOnce(t *testing.T) {
	_, err := policy.New([]policy.Rule{{Host: "*"}, {Host: "ok.example.com", Ports: []uint16{1, 65535}}, {Host: "127.1", Ports: []uint16{1}}})
	if err == nil || !strings.Contains(err.Error(), `rule 1 (host "*")`) || !strings.Contains(err.Error(), `rule 3 (host "127.1")`) {
		t.Errorf("got %v, want both bad rules named", err)
	}
}

func TestExplainAndHint(t *testing.T) {
	p := mustNew(t, policy.Rule{Host: "ok.example.com", Ports: []uint16{443}, Why: "why not"})
	for _, c := range []struct {
		host          string
		port          uint16
		explain, hint string
	}{
		{"ok.example.com", 443, "ok.example.com:443: why not", `to allow it, add to policy.allow in Sallyport's config.yaml: - {host: "ok.example.com", ports: [443], why: "…"}`},
		{"api.example.com", 443, "api.example.com:443 is not on the allow list", `to allow it, add to policy.allow in Sallyport's config.yaml: - {host: "api.example.com", ports: [443], why: "…"}`},
		{"API.example.com.", 80, "API.example.com.:80 is not on the allow list", `to allow it, add to policy.allow in Sallyport's config.yaml: - {host: "api.example.com", ports: [80], why: "…"}`},
		{"api.example.com", 0, "api.example.com:0 is not on the allow list", "no rule can allow this"},
		{"203.0.113.7", 22, "203.0.113.7:22 is an address, and rules name hosts", "rules name hosts, not addresses: ask for the host by its name"},
		{"[2001:db8::1]", 22, "[2001:db8::1]:22 is an address, and rules name hosts", "rules name hosts, not addresses: ask for the host by its name"},
		{"a\x1b]52;c;eA\a\nb", 80, `"a\x1b]52;c;eA\a\nb":80 is not a valid host name`, "no rule can allow this"},
		{"", 80, `"":80 is not a valid host name`, "no rule can allow this"},
	} {
		if got := p.Decide(c.host, c.port).Explain(c.host, c.port); got != c.explain {
			t.Errorf("Explain(%q) = %q, want %q", c.host, got, c.explain)
		}
		if got := policy.Hint(c.host, c.port); got != c.hint {
			t.Errorf("Hint(%q) = %q, want %q", c.host, got, c.hint)
		}
	}
	for _, host := range []string{strings.Repeat("é", 1<<20), strings.Repeat("a", 1<<20)} {
		if got := policy.Shown(host); len(got) > 400 {
			t.Errorf("a host of 1 MiB or more is shown with %d bytes", len(got))
		}
	}
}

func TestDecideAllocatesNothing(t *testing.T) {
	p := mustNew(t, policy.Rule{Host: "*.example.org", Ports: []uint16{443}})
	for _, host := range []string{"a.b.example.org", "evil.test", "evil.test.", "203.0.113.7", "a..b"} {
		if n := testing.AllocsPerRun(100, func() { p.Decide(host, 443) }); n != 0 {
			t.Errorf("Decide(%q) allocates %v times", host, n)
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	for _, n := range []int{10, 1000, 100_000} {
		p := mustNew(b, benchRules(n)...)
		allowed := fmt.Sprintf("a.b.host%d.example.org", n/2)
		for _, c := range []struct{ name, host string }{{"allowed", allowed}, {"denied", "a.b.other.example.net"}} {
			b.Run(fmt.Sprintf("rules=%d/%s", n, c.name), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					p.Decide(c.host, 443)
				}
			})
		}
	}
}
