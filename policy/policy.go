// Package policy turns the rules that a user wrote into decisions: may this
// sandbox reach that host and port, and may it ask that method and path of its
// model. It is pure: no I/O, no clock, no logger. It knows names and numbers
// only; resolving a name and checking the addresses behind it is package dial's.
package policy

import (
	"errors"
	"fmt"
	"strings"
)

// Verdict is the outcome of a decision. Its zero value denies.
type Verdict uint8

// The two verdicts.
const (
	Deny Verdict = iota
	Allow
)

// String returns "denied" or "allowed", the words that the audit record uses.
func (v Verdict) String() string {
	if v == Allow {
		return "allowed"
	}
	return "denied"
}

// Rule is one entry of policy.allow as the user writes it.
type Rule struct {
	Host  string   // exact name, or "*.label…" for every name below it (not the label itself)
	Ports []uint16 // at least one
	Why   string   // shown in the audit record; may be empty
}

// Decision says what was decided and why.
type Decision struct {
	Verdict Verdict // zero: Deny
	Rule    string  // the rule that decided, as written; empty for the default
	Reason  string  // one line for the user, without the host: see Explain
}

// Policy is a compiled, immutable set of rules. The zero Policy denies all, and
// so does a nil one.
type Policy struct {
	names, below names
	decisions    []Decision // one for each rule
}

// reasonDefault is the reason of the default decision.
const reasonDefault = "not on the allow list"

// New compiles rules. It reports every bad rule at once (errors.Join), each as a
// *RuleError. Of several rules for the same host and port the first one counts.
func New(rules []Rule) (*Policy, error) {
	p := &Policy{decisions: make([]Decision, len(rules))}
	var errs []error
	for i, r := range rules {
		name, below, err := compile(r)
		if err != nil {
			errs = append(errs, &RuleError{Index: i, Host: r.Host, Err: err})
			continue
		}
		d := Decision{Verdict: Allow, Rule: r.Host, Reason: r.Why}
		if d.Reason == "" {
			d.Reason = "allowed by the rule for " + r.Host
		}
		p.decisions[i] = d
		if below {
			p.below.add(name, r.Ports, i)
		} else {
			p.names.add(name, r.Ports, i)
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return p, nil
}

// Decide says whether host (a name or an address literal, as the client wrote
// it) may be reached at port. The name itself is looked for first, then the
// nearest rule above it. It allocates nothing when host is a lower-case ASCII
// name.
func (p *Policy) Decide(host string, port uint16) Decision {
	name, err := Canonical(host)
	if err != nil {
		return Decision{Reason: err.Error()}
	}
	if p == nil {
		return Decision{Reason: reasonDefault}
	}
	depth := labels(name)
	if rule, ok := p.names.find(name, depth, port); ok {
		return p.decisions[rule]
	}
	for above := name; ; {
		_, rest, ok := strings.Cut(above, ".")
		if !ok {
			return Decision{Reason: reasonDefault}
		}
		depth--
		if rule, ok := p.below.find(rest, depth, port); ok {
			return p.decisions[rule]
		}
		above = rest
	}
}

// Explain is the decision as a sentence of one line, for example
// "api.example.com:443 is not on the allow list". What the client wrote is
// quoted where it is no host name, and cut where it is long.
func (d Decision) Explain(host string, port uint16) string {
	if d.Verdict == Allow {
		return fmt.Sprintf("%s:%d: %s", Shown(host), port, d.Reason)
	}
	return fmt.Sprintf("%s:%d is %s", Shown(host), port, d.Reason)
}
