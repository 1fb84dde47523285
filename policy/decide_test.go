package policy_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/policy"
)

// decideByList is what Decide has to give: it goes through the rules one by one.
func decideByList(rules []policy.Rule, host string, port uint16) policy.Decision {
	name, err := policy.Canonical(host)
	if err != nil {
		return policy.Decision{Reason: err.Error()}
	}
	var best *policy.Rule
	length := -1 // of the best rule's name
	for i, r := range rules {
		base, below := strings.CutPrefix(r.Host, "*.")
		base, err := policy.Canonical(base)
		fits := err == nil && (!below && name == base || below && strings.HasSuffix(name, "."+base))
		if !fits || !hasPort(r, port) || len(base) <= length {
			continue
		}
		best, length = &rules[i], len(base)
	}
	switch {
	case best == nil:
		return policy.Decision{Reason: "not on the allow list"}
	case best.Why == "":
		return policy.Decision{Verdict: policy.Allow, Rule: best.Host, Reason: "allowed by the rule for " + best.Host}
	}
	return policy.Decision{Verdict: policy.Allow, Rule: best.Host, Reason: best.Why}
}

func hasPort(r policy.Rule, port uint16) bool {
	for _, p := range r.Ports {
		if p == port {
			return true
		}
	}
	return false
}

// Whatever the rules are, what is decided, by which rule and why is as if they
// were read one by one.
func TestDecideAsByList(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	name := func(most int) string {
		labels := []string{"example"}
		for range r.IntN(most) {
			labels = append([]string{[]string{"a", "b", "Cc", "ü", "x-1"}[r.IntN(5)]}, labels...)
		}
		return strings.Join(labels, ".")
	}
	allowed := 0
	for range 200 {
		var rules []policy.Rule
		for i := range r.IntN(40) {
			rule := policy.Rule{Host: "r." + name(5), Ports: []uint16{uint16(1 + r.IntN(6))}}
			for range r.IntN(4) {
				rule.Ports = append(rule.Ports, uint16(1+r.IntN(6)))
			}
			if r.IntN(2) == 0 {
				rule.Host = "*." + rule.Host
			}
			if r.IntN(2) == 0 {
				rule.Why = fmt.Sprintf("reason %d", i)
			}
			rules = append(rules, rule)
		}
		p := mustNew(t, rules...)
		for range 200 {
			host, port := name(3)+".r."+name(5), uint16(r.IntN(8))
			switch r.IntN(4) {
			case 0:
				host = "r." + name(5)
			case 1:
				host = "q." + strings.Repeat("deep.", r.IntN(50)) + "r." + name(4)
			}
			got, want := p.Decide(host, port), decideByList(rules, host, port)
			if got != want {
				t.Fatalf("%s:%d: %+v, want %+v; rules %+v", host, port, got, want, rules)
			}
			if got.Verdict == policy.Allow {
				allowed++
			}
		}
	}
	if allowed < 1000 {
		t.Errorf("only %d were allowed", allowed)
	}
}

// benchRules are n rules, each for the names below one of its own.
func benchRules(n int) []policy.Rule {
	rules := make([]policy.Rule, n)
	for i := range rules {
		rules[i] = policy.Rule{Host: fmt.Sprintf("*.host%d.example.org", i), Ports: []uint16{80, 443}}
	}
	return rules
}

// BenchmarkDecideMany decides on hosts that change, as one host's rule would stay
// in the processor's cache.
func BenchmarkDecideMany(b *testing.B) {
	for _, n := range []int{10, 100_000} {
		p := mustNew(b, benchRules(n)...)
		hosts := make([]string, 4096)
		for i := range hosts {
			hosts[i] = fmt.Sprintf("a.b.host%d.example.org", i*(n/2+1)%n)
		}
		b.Run(fmt.Sprintf("rules=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				p.Decide(hosts[i%len(hosts)], 443)
			}
		})
	}
}

// BenchmarkNew is what a reload of the configuration takes.
func BenchmarkNew(b *testing.B) {
	rules := benchRules(100_000)
	b.ReportAllocs()
	for b.Loop() {
		mustNew(b, rules...)
	}
}
