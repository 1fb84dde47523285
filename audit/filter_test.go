package audit

import (
	"strings"
	"testing"
	"time"
)

func TestFilterMatch(t *testing.T) {
	e := Event{
		Time: noon, Subject: Subject{Sandbox: "s1", Agent: "claude", Project: "/home/u/shop"}, Layer: LayerProxy, Verdict: "denied",
		Host: "API.example.com", Port: 443, Reason: "not on the list", Process: &Process{PID: 42, Exe: "/usr/bin/curl", Command: "curl -s"},
	}
	allowed := e
	allowed.Verdict = "allowed"
	tests := []struct {
		name string
		f    Filter
		e    Event
		want bool
	}{
		{"zero", Filter{}, e, true},
		{"since, the same instant", Filter{Since: noon}, e, true},
		{"since, later", Filter{Since: noon.Add(1)}, e, false},
		{"until, the same instant", Filter{Until: noon}, e, false},
		{"until, later", Filter{Until: noon.Add(time.Second)}, e, true},
		{"until beyond all time", Filter{Until: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)}, e, true},
		{"sandbox", Filter{Sandbox: "s1"}, e, true},
		{"other sandbox", Filter{Sandbox: "s"}, e, false},
		{"project", Filter{Project: "/home/u/shop"}, e, true},
		{"project's last name", Filter{Project: "shop"}, e, true},
		{"part of a name", Filter{Project: "hop"}, e, false},
		{"part of a path", Filter{Project: "u/shop"}, e, false},
		{"layer", Filter{Layer: LayerProxy}, e, true},
		{"other layer", Filter{Layer: LayerModel}, e, false},
		{"layers", Filter{Layers: []Layer{LayerDNS, LayerProxy}}, e, true},
		{"denied", Filter{Denied: true}, e, true},
		{"denied, allowed event", Filter{Denied: true}, allowed, false},
		{"denied, no verdict", Filter{Denied: true}, Event{}, true},
		{"allowed", Filter{Allowed: true}, allowed, true},
		{"allowed, denied event", Filter{Allowed: true}, e, false},
		{"both", Filter{Denied: true, Allowed: true}, e, true},
		{"other agents out", Filter{NotAgents: []string{"verify"}}, e, true},
		{"this agent out", Filter{NotAgents: []string{"verify", "claude"}}, e, false},
		{"this agent", Filter{Agents: []string{"claude"}}, e, true},
		{"other agents", Filter{Agents: []string{"verify"}}, e, false},
		{"host", Filter{Host: "api.EXAMPLE.com"}, e, true},
		{"host, the port is no part", Filter{Host: "*.com:443"}, e, false},
		{"host, across dots", Filter{Host: "*.com"}, e, true},
		{"host, whole", Filter{Host: "example.com"}, e, false},
		{"process", Filter{Process: "cur?"}, e, true},
		{"process, case", Filter{Process: "Curl"}, e, false},
		{"process, path", Filter{Process: "/usr/*/curl"}, e, true},
		{"process, pid", Filter{Process: "42"}, e, true},
		{"process, other pid", Filter{Process: "4"}, e, false},
		{"process, unknown", Filter{Process: "*"}, Event{Process: &Process{Unknown: "gone"}}, false},
		{"text", Filter{Text: "ON THE"}, e, true},
		{"text of target", Filter{Text: "com:443"}, e, true},
		{"text of command", Filter{Text: "curl -S"}, e, true},
		{"text not shown", Filter{Text: "claude"}, e, false},
	}
	for _, tt := range tests {
		if got := tt.f.Match(tt.e); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

func TestGlob(t *testing.T) {
	tests := []struct {
		pattern, s string
		want       bool
	}{
		{"", "", true}, {"", "a", false}, {"*", "", true}, {"**", "abc", true}, {"a", "a", true}, {"a", "ab", false},
		{"?", "é", true}, {"?", "", false}, {"*?", "", false}, {"*b", "ab", true}, {"*b", "aba", false}, {"*b*", "aba", true},
		{"a*b*c", "a1b2b3c", true}, {"a*b*c", "a1c", false}, {"[a]", "a", false}, {"[a]", "[a]", true}, {`\*`, "*", false}, {`\*`, `\x`, true},
		{strings.Repeat("*a", 200) + "b", strings.Repeat("a", 2000), false}, // no exponential time
	}
	for _, tt := range tests {
		if got := glob(tt.pattern, tt.s); got != tt.want {
			t.Errorf("%.20q, %.20q: %v", tt.pattern, tt.s, got)
		}
	}
}

func TestHostAndTarget(t *testing.T) {
	tests := []struct {
		e            Event
		host, target string
	}{
		{Event{Layer: LayerModel, Method: "POST", Path: "/v1/Messages", Host: "10.213.0.1", Dst: "10.213.0.1:8000"}, "10.213.0.1", "POST /v1/Messages"},
		{Event{Layer: LayerModel, Dst: "10.213.0.1:8000"}, "10.213.0.1", "10.213.0.1:8000"},
		{Event{Layer: LayerDNS, Host: "API.example.com", Port: 53}, "api.example.com", "api.example.com"},
		{Event{Layer: LayerProxy, Host: "API.example.com", Port: 443}, "api.example.com", "api.example.com:443"},
		{Event{Layer: LayerProxy, Host: "2001:DB8::9", Port: 443}, "2001:db8::9", "[2001:db8::9]:443"},
		{Event{Layer: LayerProxy, Host: "[2001:DB8::9]", Port: 443}, "2001:db8::9", "[2001:db8::9]:443"},
		{Event{Layer: LayerIntercept, Dst: "203.0.113.9:443"}, "203.0.113.9", "203.0.113.9:443"},
		{Event{Layer: LayerPacket, Dst: "[2001:db8::9]:443"}, "2001:db8::9", "[2001:db8::9]:443"},
		{Event{Layer: LayerPacket, Dst: "203.0.113.9"}, "203.0.113.9", "203.0.113.9"},
		{Event{Layer: LayerControl, Reason: "an unknown token"}, "", "an unknown token"},
		{Event{Layer: LayerDNS, Host: "a\x1b[2J\x00.example"}, `a\x1b[2j\x00.example`, `a\x1b[2j\x00.example`},
	}
	for _, tt := range tests {
		if host, target := Host(tt.e), Target(tt.e); host != tt.host || target != tt.target {
			t.Errorf("%+v: %q, %q", tt.e, host, target)
		}
	}
	long := Event{Layer: LayerDNS, Host: strings.Repeat("é\x00", 5000)}
	if c := columnsOf(long); len(c.host) > maxColumn || len(c.target) > maxColumn || !strings.HasSuffix(c.host, "…") || Printable(c.host) != c.host {
		t.Errorf("%d and %d bytes: %q", len(c.host), len(c.target), c.host)
	}
	name := strings.Repeat(`\000`, 255)
	if got := Host(Event{Layer: LayerDNS, Host: name}); got != name {
		t.Errorf("a name of DNS was cut: %q", got)
	}
}
