package policy_test

import (
	"net/netip"
	"net/url"
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
	endpoints := []policy.Endpoint{{Method: "POST", Path: "/v1/messages"}}
	f.Fuzz(func(t *testing.T, target string) {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			return
		}
		if _, ok := policy.MatchEndpoint(endpoints, "POST", u); ok && u.EscapedPath() != "/v1/messages" {
			t.Fatalf("%q matched", target)
		}
	})
}
