package view

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/policy"
)

// Explanation says why an attempt was decided as it was. All of it is printable.
type Explanation struct {
	Rule string `json:"rule"` // what decided
	Text string `json:"text"` // why, in a sentence or two
	// Config is YAML, a line each, that would allow it once it is in the user's
	// configuration; empty: nothing would.
	Config []string `json:"config,omitempty"`
	// Never is why nothing in the configuration would allow it.
	Never string `json:"never,omitempty"`
}

// clause is the explanation of one kind of decision.
type clause struct {
	layer audit.Layer // empty: any
	rule  string      // what Event.Rule is; empty: any
	begin string      // what Event.Reason begins with; empty: any
	in    string      // what Event.Reason holds; empty: any

	decided, text string
	then          string                               // said of what would allow it
	never         string                               // why nothing would allow it
	config        func(audit.Event) ([]string, string) // what would allow it, or why nothing would; nil: never
}

func (c clause) is(e audit.Event) bool {
	return (c.layer == "" || c.layer == e.Layer) && (c.rule == "" || c.rule == e.Rule) &&
		strings.HasPrefix(e.Reason, c.begin) && strings.Contains(e.Reason, c.in)
}

// Explain says which rule decided about e and why, and what would allow it.
func Explain(e audit.Event) Explanation {
	c, _ := clauseOf(e)
	x := Explanation{Rule: c.decided, Text: c.text, Never: c.never}
	if c.config != nil {
		if x.Config, x.Never = c.config(e); len(x.Config) > 0 && c.then != "" {
			x.Text += " " + c.then
		}
	}
	if !e.Denied() {
		x.Config, x.Never = nil, ""
		if e.Rule != "" && e.Layer == audit.LayerProxy {
			x.Rule = fmt.Sprintf("the rule for %s in policy.allow", e.Rule)
		}
	}
	if e.Agent == pullAgent && e.Layer == audit.LayerProxy {
		x = pulled(e, x)
	}
	x.Rule, x.Text, x.Never = audit.Printable(x.Rule), audit.Printable(x.Text), audit.Printable(x.Never)
	return x
}

// clauseOf finds the first clause that is about e. known is false where only the
// last, which says so, is.
func clauseOf(e audit.Event) (c clause, known bool) {
	lists := [][]clause{everywhere, clausesOf[e.Layer]}
	if !e.Denied() {
		lists = [][]clause{allowed}
	}
	for _, list := range lists {
		for _, c := range list {
			if c.is(e) {
				return c, true
			}
		}
	}
	return clause{decided: cmp.Or(e.Rule, "a rule that this version does not know"),
		text:  cmp.Or(e.Reason, "The record holds no reason.") + " (Recorded by another version of Sallyport?)",
		never: "This version does not know that reason, so it cannot say what would allow it."}, false
}

// pullAgent is the agent's name in the events of a download of weights.
const pullAgent = "pull"

// pulled explains what was refused to a download: its rules are those of hub.
func pulled(e audit.Event, x Explanation) Explanation {
	if !e.Denied() {
		x.Rule = "the hosts of the pull: hub.endpoint and hub.hosts"
		return x
	}
	if len(x.Config) == 0 {
		return x
	}
	x.Rule = "the hosts of the pull: hub.endpoint and hub.hosts"
	x.Text = "A download of weights reaches the hub's own hosts alone; what sandboxes may reach has no part in it."
	x.Config = nil
	name, err := policy.Canonical(e.Host)
	switch {
	case err != nil:
		x.Never = "hub.hosts takes host names, and this is none."
	case e.Port != 443:
		x.Never = "A download reaches port 443 of hub.hosts and no other."
	default:
		x.Config = []string{"hub:", fmt.Sprintf("  hosts: [%q]", name)}
	}
	return x
}

// allowRule is the configuration that allows a host at a port, or why none does.
func allowRule(host string, port uint16) ([]string, string) {
	if host == "" {
		return nil, "Rules name hosts, and of this attempt no host's name is known."
	}
	if _, err := policy.New([]policy.Rule{{Host: host, Ports: []uint16{port}}}); err != nil {
		if _, is := netip.ParseAddr(strings.Trim(host, "[]")); is == nil || port == 0 {
			return nil, "Rules name hosts and ports, not addresses: the program must ask for the host by its name."
		}
		return nil, "No rule can name this: rules take host names of letters, digits, hyphens and dots, and ports from 1 to 65535."
	}
	name, err := policy.Canonical(host)
	if err != nil {
		return nil, "No rule can name this: it is not a valid host name."
	}
	return []string{"policy:", "  allow:", fmt.Sprintf(`    - {host: %q, ports: [%d], why: "say why"}`, name, port)}, ""
}

func byHost(e audit.Event) ([]string, string) { return allowRule(e.Host, e.Port) }

// byName is for a connection that went around the proxy: what it said that it
// wants is a claim, and all that is known.
func byName(e audit.Event) ([]string, string) {
	name, port := cmp.Or(e.SNI, e.Host), e.Port
	if name == "" {
		return nil, "A direct connection never leaves the sandbox, whatever the rules. Rules name hosts, and this one named none: have the program use HTTP_PROXY or HTTPS_PROXY, where it names its host, and allow that."
	}
	return allowRule(name, port)
}

// byQuery is for a name that was asked for.
func byQuery(e audit.Event) ([]string, string) {
	switch e.Method {
	case "A", "AAAA", "HTTPS", "SVCB", "CNAME", "ANY", "":
		return allowRule(e.Host, 443)
	}
	return nil, fmt.Sprintf("No name is looked up in a sandbox, and of an allowed host the gateway itself looks up nothing but addresses: no rule makes it answer %s.", e.Method)
}
