package policy_test

import (
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/sallyport/sallyport/policy"
)

// What Canonical accepts is a name in every reader's eyes, and stays as it is.
func FuzzCanonical(f *testing.F) {
	for _, s := range []string{"a.example.com", "A.Example.COM.", "bücher.example", "１２７.0.0.1", "0x7f.1", "a..b", "xn--bcher-kva.example", "[::1]", "fe80::1%eth0", "a\x00b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, host string) {
		name, err := policy.Canonical(host)
		if err != nil {
			if name != "" {
				t.Fatalf("%q: error %v with name %q", host, err, name)
			}
			return
		}
		if again, err := policy.Canonical(name); err != nil || again != name {
			t.Fatalf("%q -> %q -> %q, %v", host, name, again, err)
		}
		if len(name) == 0 || len(name) > 253 || strings.ToLower(name) != name || strings.HasSuffix(name, ".") || strings.Contains(name, "..") {
			t.Fatalf("%q -> %q", host, name)
		}
		if strings.ContainsFunc(name, func(r rune) bool { return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789-.", r) }) {
			t.Fatalf("%q -> %q", host, name)
		}
		if _, err := netip.ParseAddr(name); err == nil {
			t.Fatalf("%q -> the address %q", host, name)
		}
	})
}

// What is shown of a client's host is bounded and holds nothing that moves a cursor.
func FuzzShown(f *testing.F) {
	f.Add("a.example.com")
	f.Add("\x1b[2J\u202e")
	f.Fuzz(func(t *testing.T, host string) {
		for _, s := range []string{policy.Shown(host), policy.Hint(host, 443), policy.Decision{}.Explain(host, 1)} {
			if len(s) > 1024 || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Fatalf("%q is shown as %q", host, s)
			}
		}
	})
}

// A rule that is accepted allows exactly its own names.
func FuzzRule(f *testing.F) {
	f.Add("*.example.org", "a.example.org")
	f.Add("api.example.com", "API.example.com.")
	f.Add("*.com", "a.com")
	f.Fuzz(func(t *testing.T, rule, host string) {
		p, err := policy.New([]policy.Rule{{Host: rule, Ports: []uint16{443}}})
		if err != nil {
			if p != nil {
				t.Fatal("an error with a policy")
			}
			return
		}
		if d := p.Decide(host, 80); d.Verdict != policy.Deny {
			t.Fatalf("rule %q allows %q at a port that it does not name", rule, host)
		}
		if p.Decide(host, 443).Verdict != policy.Allow {
			return
		}
		name, err := policy.Canonical(host)
		base, below := strings.CutPrefix(rule, "*.")
		want, _ := policy.Canonical(base)
		if err != nil || below && !strings.HasSuffix(name, "."+want) || !below && name != want {
			t.Fatalf("rule %q allows %q", rule, host)
		}
	})
}

func FuzzMatchEndpoint(f *testing.F) {
	f.Add("/v1/messages?beta=true")
	f.Add("/v1/%6dessages")
	f.Add("//v1/messages")
	f.Add("http://a.example/v1/messages")
	f.Add("/v1/messages;x/..")
	endpoints := []policy.Endpoint{{Method: "POST", Path: "/v1/messages"}}
	f.Fuzz(func(t *testing.T, target string) {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			return
		}
		e, ok := policy.MatchEndpoint(endpoints, "POST", u)
		if ok && (u.EscapedPath() != "/v1/messages" || e != endpoints[0]) {
			t.Fatalf("%q matched %+v", target, e)
		}
		// What is sent is the line's path, whatever is before or behind it.
		path, _, _ := strings.Cut(target, "?")
		if ok != (u.EscapedPath() == "/v1/messages" && strings.HasSuffix(path, "/v1/messages") && u.User == nil) {
			t.Errorf("%q matched: %v", target, ok)
		}
		if _, ok := policy.MatchEndpoint(endpoints, "post", u); ok {
			t.Errorf("%q matched another method", target)
		}
	})
}

// Of any rules, those decide that a reader finds who knows nothing but what the
// documentation says: a host's one spelling, its ports, and every name below.
func FuzzDecide(f *testing.F) {
	f.Add("a.example.com", "*.b.example", "x.b.example", uint16(443))
	f.Add("a.example.com", "*.b.example", "b.example", uint16(443))
	f.Add("*.a.example.com", "a.example.com", "A.Example.Com.", uint16(80))
	f.Add("bücher.example", "*.xn--bcher-kva.example", "BÜCHER.example", uint16(443))
	f.Add("a.example", "*.example.org", "a.example\x00.example.org", uint16(443))
	f.Add("１２７.example", "*.example.org", "127.1.example.org", uint16(0))
	f.Fuzz(func(t *testing.T, exact, below, host string, port uint16) {
		rules := []policy.Rule{{Host: exact, Ports: []uint16{443}}, {Host: below, Ports: []uint16{443, 80}, Why: "second"}}
		p, err := policy.New(rules)
		if err != nil {
			return
		}
		d := p.Decide(host, port)
		name, err := policy.Canonical(host)
		want := ""
		for _, r := range rules {
			base, star := strings.CutPrefix(r.Host, "*.")
			rule, ruleErr := policy.Canonical(base)
			if ruleErr != nil {
				t.Fatalf("the rule %q was taken", r.Host)
			}
			fits := name == rule
			if star {
				fits = strings.HasSuffix(name, "."+rule)
			}
			nearer := want == "" || !star || star && strings.HasPrefix(want, "*.") && len(rule) > len(baseOf(t, want))
			if err == nil && fits && slices.Contains(r.Ports, port) && nearer {
				want = r.Host
			}
		}
		if (d.Verdict == policy.Allow) != (want != "") || d.Verdict == policy.Allow && d.Rule != want && baseOf(t, d.Rule) != baseOf(t, want) {
			t.Errorf("%q:%d with %q and %q: %+v, want %q", host, port, exact, below, d, want)
		}
		if d.Verdict == policy.Deny && d.Rule != "" {
			t.Errorf("%q is denied by the rule %q", host, d.Rule)
		}
		// Another spelling of the same name is decided the same.
		if err == nil && (p.Decide(name, port) != d || p.Decide(strings.ToUpper(name)+".", port) != d) {
			t.Errorf("%q and %q are not decided the same", host, name)
		}
		for _, none := range []*policy.Policy{nil, {}} {
			if none.Decide(host, port).Verdict != policy.Deny {
				t.Errorf("no rules allow %q", host)
			}
		}
	})
}

func baseOf(t *testing.T, rule string) string {
	t.Helper()
	name, err := policy.Canonical(strings.TrimPrefix(rule, "*."))
	if err != nil {
		t.Fatal(err)
	}
	return name
}
