package view

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/config"
	"github.com/sallyport/sallyport/policy"
)

func refused(layer audit.Layer, rule, reason string) audit.Event {
	return audit.Event{Layer: layer, Verdict: "denied", Rule: rule, Reason: reason, Count: 1}
}

func aimed(e audit.Event, host string, port uint16) audit.Event {
	e.Host, e.Port = host, port
	return e
}

const direct = "no direct connection leaves the sandbox"

// What the configuration can allow: the lines that are shown are valid, and once
// they are in force the host is allowed at that port, and nothing else is.
func TestConfigAllows(t *testing.T) {
	sni := aimed(refused(audit.LayerIntercept, "", direct), "", 443)
	sni.SNI, sni.Dst = "api.example.com", "203.0.113.10:443"
	plain := aimed(refused(audit.LayerIntercept, "", direct+" (too many connections at once from this sandbox)"), "API.Example.com.", 8080)
	query := aimed(refused(audit.LayerDNS, "", "names are not looked up"), "api.example.com", 53)
	query.Method = "AAAA"
	for _, c := range []struct {
		e    audit.Event
		host string
		port uint16
	}{
		{aimed(refused(audit.LayerProxy, "", "not on the allow list"), "api.example.com", 443), "api.example.com", 443},
		{aimed(refused(audit.LayerProxy, "", "not on the allow list"), "bücher.example", 80), "xn--bcher-kva.example", 80},
		{sni, "api.example.com", 443},
		{plain, "api.example.com", 8080},
		{query, "api.example.com", 443},
	} {
		x := Explain(c.e)
		if len(x.Config) == 0 || x.Never != "" {
			t.Errorf("%+v: %+v", c.e, x)
			continue
		}
		p := loaded(t, x.Config)
		if d := p.Decide(c.host, c.port); d.Verdict != policy.Allow {
			t.Errorf("%q does not allow %s:%d: %s", x.Config, c.host, c.port, d.Reason)
		}
		if p.Decide("a."+c.host, c.port).Verdict == policy.Allow || p.Decide(c.host, c.port+1).Verdict == policy.Allow {
			t.Errorf("%q allows more than was asked", x.Config)
		}
	}
}

// loaded compiles the policy of a configuration of these lines.
func loaded(t *testing.T, lines []string) *policy.Policy {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(config.Options{Path: file, Home: t.TempDir()})
	if err != nil {
		t.Fatalf("%q: %v", lines, err)
	}
	p, err := policy.New(cfg.Policy.Allow)
	if err != nil {
		t.Fatalf("%q: %v", lines, err)
	}
	return p
}

func TestConfigAllowsAPull(t *testing.T) {
	e := aimed(refused(audit.LayerProxy, "", "not on the allow list"), "mirror.example", 443)
	e.Agent = pullAgent
	x := Explain(e)
	loaded(t, x.Config)
	if x.Config[0] != "hub:" || !strings.Contains(x.Config[1], "mirror.example") {
		t.Errorf("%+v", x)
	}
	for _, e := range []audit.Event{aimed(e, "mirror.example", 80), aimed(e, "203.0.113.9", 443)} {
		if x := Explain(e); len(x.Config) > 0 || x.Never == "" {
			t.Errorf("%+v: %+v", e, x)
		}
	}
}

// What nothing can allow says why.
func TestNothingAllows(t *testing.T) {
	mx := aimed(refused(audit.LayerDNS, "", "names are not looked up"), "example.com", 53)
	mx.Method = "MX"
	model := refused(audit.LayerModel, "", `"POST" "/v1/load_lora_adapter" is refused: only what the agent needs of its model is forwarded`)
	for _, c := range []struct {
		e    audit.Event
		want string
	}{
		{refused(audit.LayerPacket, "other", "udp is not let out: only TCP and DNS are answered"), "No rule lets UDP, ICMP"},
		{refused(audit.LayerPacket, "spoof", ""), "forged"},
		{model, "administrative|No configuration opens"},
		{aimed(refused(audit.LayerIntercept, "", direct), "", 22), "HTTP_PROXY"},
		{aimed(refused(audit.LayerIntercept, "", direct), "203.0.113.9", 80), "not addresses"},
		{aimed(refused(audit.LayerProxy, "", `"203.0.113.9:443" is an address; only names can be allowed`), "203.0.113.9", 443), "by its name"},
		{aimed(refused(audit.LayerProxy, "", "not on the allow list"), "a_b.example", 443), "letters, digits"},
		{aimed(refused(audit.LayerProxy, "*.example", `not connected: "x.example" points to 10.0.0.1, which is a private address: refused`), "x.example", 443), "your own network"},
		{aimed(refused(audit.LayerProxy, "*.example", `not connected: resolve "x.example": no such host`), "x.example", 443), "allowed already"},
		{mx, "answer MX"},
		{aimed(refused(audit.LayerDNS, "", "names are not looked up"), "evil\x1b[2J.example", 53), "letters, digits"},
		{aimed(refused(audit.LayerDNS, "", "names are not looked up"), "com\\.x.example", 53), "letters, digits"},
		{refused(audit.LayerControl, "foreign-interface", ""), "way around"},
		{refused("", "", "words of the future"), "does not know"},
	} {
		x := Explain(c.e)
		found := false
		for want := range strings.SplitSeq(c.want, "|") {
			found = found || strings.Contains(x.Never, want)
		}
		if len(x.Config) > 0 || !found {
			t.Errorf("%+v: %+v, want %q", c.e, x, c.want)
		}
		if audit.Printable(x.Rule+x.Text+x.Never) != x.Rule+x.Text+x.Never {
			t.Errorf("%+v is not printable: %+v", c.e, x)
		}
	}
}

func TestExplainAllowed(t *testing.T) {
	e := aimed(audit.Event{Layer: audit.LayerProxy, Verdict: "allowed", Rule: "*.example.org", Reason: "docs"}, "a.example.org", 443)
	if x := Explain(e); x.Rule != "the rule for *.example.org in policy.allow" || x.Config != nil || x.Never != "" {
		t.Errorf("%+v", x)
	}
	for _, rule := range []string{"--unsafe-mount", "model-place"} {
		if _, known := clauseOf(audit.Event{Layer: audit.LayerControl, Verdict: "allowed", Rule: rule}); !known {
			t.Errorf("%s is not explained", rule)
		}
	}
}
