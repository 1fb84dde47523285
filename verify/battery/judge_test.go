package battery

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/verify"
	"github.com/sallyport/sallyport/verify/probe"
)

const name = "way-out"

var one = []probe.Probe{{Name: name, Group: probe.Addresses, Why: "it gets out", Source: "RFC 793"}}

// answered is one probe's answer in one setting.
func answered(f probe.Finding) map[string]Answer {
	return map[string]Answer{name: {Probe: name, Finding: f}}
}

func denied(layer audit.Layer, proto, dst, host string) audit.Event {
	return audit.Event{Layer: layer, Proto: proto, Dst: dst, Host: host, Verdict: "denied"}
}

func TestJudge(t *testing.T) {
	reached := map[probe.Setting]map[string]Answer{probe.OwnListener: answered(probe.Reached("an answer"))}
	stopped := map[probe.Setting]map[string]Answer{
		probe.Ordinary:    answered(probe.Finding{Outcome: verify.StoppedInside, Errno: "EPROTONOSUPPORT", Detail: "no such protocol"}),
		probe.OwnListener: answered(probe.Finding{Outcome: verify.StoppedInside, Errno: "EPROTONOSUPPORT", Detail: "no such protocol"}),
	}
	want := probe.Event{Layer: audit.LayerIntercept, Proto: "tcp", Dst: "203.0.113.10:443"}
	there := []audit.Event{denied(audit.LayerIntercept, "tcp", "203.0.113.10:443", "")}
	allowed := []audit.Event{{Layer: audit.LayerIntercept, Proto: "tcp", Dst: "203.0.113.10:443", Verdict: "allowed"}}
	inside := probe.Finding{Outcome: verify.StoppedInside, Errno: "EPERM"}
	for _, c := range []struct {
		what     string
		sandbox  map[string]Answer
		controls map[probe.Setting]map[string]Answer
		events   []audit.Event
		want     Verdict
		says     string
	}{
		{"got out", answered(probe.Reached("a greeting")), reached, there, Failed, "a greeting"},
		{"blocked and recorded", answered(probe.Blocked("refused", want)), reached, there, Recorded, "refused"},
		{"blocked, no event", answered(probe.Blocked("refused", want)), reached, nil, Failed, "not in the record: intercept tcp 203.0.113.10:443"},
		{"the event was let through", answered(probe.Blocked("refused", want)), reached, allowed, Failed, "not in the record"},
		{"what was let through is wanted", answered(probe.Blocked("cut", probe.Event{Allowed: true})), reached, allowed, Recorded, "cut"},
		{"what was let through is wanted, and was refused", answered(probe.Blocked("cut", probe.Event{Allowed: true})), reached, there, Failed, "not in the record"},
		{"one of two events", answered(probe.Blocked("refused", want, probe.Event{Dst: "203.0.113.11"})), reached, there, Failed, "203.0.113.11"},
		{"it names no event", answered(probe.Blocked("refused")), reached, there, NotProven, "does not say"},
		{"no control", answered(probe.Blocked("refused", want)), nil, there, NotProven, "none was run"},
		{"the control fails", answered(probe.Blocked("refused", want)), stopped, there, NotProven, "no such protocol"},
		{"stopped inside", answered(inside), reached, nil, StoppedInside, ""},
		{"works nowhere", answered(inside), stopped, nil, NotApplicable, "works nowhere"},
		{"nothing to aim at", answered(probe.Missing("second network")), nil, nil, NotApplicable, "no second network"},
		{"unproven", answered(probe.Unproven("silence")), reached, there, NotProven, "silence"},
		{"no answer", nil, reached, there, NotProven, "no answer"},
	} {
		results := Judge(one, Evidence{Sandbox: c.sandbox, Controls: c.controls, Events: c.events})
		if len(results) != 1 || results[0].Verdict != c.want || !strings.Contains(results[0].How, c.says) {
			t.Errorf("%s: %+v; want %s with %q", c.what, results, c.want, c.says)
		}
	}
}

func TestComplete(t *testing.T) {
	want := probe.Event{Proto: "icmp", Dst: "203.0.113.10"}
	there := denied(audit.LayerPacket, "icmp", "203.0.113.10", "")
	blocked, other := answered(probe.Blocked("refused", want)), answered(probe.Blocked("refused", want, probe.Event{Dst: "203.0.113.11"}))
	for _, c := range []struct {
		what string
		e    Evidence
		want bool
	}{
		{"nothing was tried", Evidence{}, true},
		{"no event yet", Evidence{Sandbox: blocked}, false},
		{"its event", Evidence{Sandbox: blocked, Events: []audit.Event{there}}, true},
		{"one of two events", Evidence{Sandbox: other, Events: []audit.Event{there}}, false},
		{"what was stopped inside has none", Evidence{Sandbox: answered(probe.Finding{Outcome: verify.StoppedInside, Events: []probe.Event{want}})}, true},
	} {
		if got := c.e.Complete(); got != c.want {
			t.Errorf("%s: %v", c.what, got)
		}
	}
}

func TestTheWeakestControlIsNamed(t *testing.T) {
	e := Evidence{Sandbox: answered(probe.Finding{Outcome: verify.StoppedInside, Errno: "EPERM"}), Controls: map[probe.Setting]map[string]Answer{
		probe.OwnListener: answered(probe.Reached("")), probe.Unconfined: answered(probe.Reached("")), probe.Ordinary: answered(probe.Unproven("")),
	}}
	if r := Judge(one, e); r[0].Control != probe.Unconfined {
		t.Errorf("%+v", r)
	}
}

func TestMatches(t *testing.T) {
	event := denied(audit.LayerDNS, "udp", "[2001:db8::53]:53", "a.example")
	event.Rule, event.Method, event.Path, event.Status, event.Reason = "sinkhole", "TXT", "/p", 403, "names are not looked up"
	for _, c := range []struct {
		want probe.Event
		ok   bool
	}{
		{probe.Event{}, true},
		{probe.Event{Layer: audit.LayerDNS, Proto: "udp", Dst: "[2001:db8:0::53]:53", Host: "A.example.", Rule: "sinkhole"}, true},
		{probe.Event{Dst: "2001:db8::53"}, true},
		{probe.Event{Dst: "2001:db8::54"}, false},
		{probe.Event{Dst: "[2001:db8::53]:54"}, false},
		{probe.Event{Dst: "nonsense"}, false},
		{probe.Event{Layer: audit.LayerProxy}, false},
		{probe.Event{Proto: "tcp"}, false},
		{probe.Event{Host: "b.example"}, false},
		{probe.Event{Rule: "spoof"}, false},
		{probe.Event{Method: "TXT", Path: "/p", Status: 403, Reason: "not looked"}, true},
		{probe.Event{Method: "A"}, false},
		{probe.Event{Path: "/q"}, false},
		{probe.Event{Status: 502}, false},
		{probe.Event{Reason: "looked at"}, false},
	} {
		if got := matches(c.want, event); got != c.ok {
			t.Errorf("%+v: %t", c.want, got)
		}
	}
}

func TestCounts(t *testing.T) {
	results := []Result{{Verdict: Recorded}, {Verdict: Recorded}, {Verdict: StoppedInside}, {Verdict: NotApplicable}}
	c := Count(results)
	if c.String() != "4 probes: 2 blocked and recorded, 1 stopped inside the container, 1 not applicable, 0 failed, 0 not proven" || !c.OK() {
		t.Errorf("%s %t", c, c.OK())
	}
	for _, bad := range []Verdict{Failed, NotProven} {
		if Count(append(results, Result{Verdict: bad})).OK() {
			t.Errorf("%s is taken for success", bad)
		}
	}
	if Count(nil).OK() {
		t.Error("no probe at all is taken for success")
	}
	run := UserRun{Counts: c}
	for _, r := range []Report{{}, {Runs: []UserRun{run}, Touched: []string{"the model server: x"}}, {Runs: []UserRun{run, {}}}} {
		if r.OK() {
			t.Errorf("%+v is taken for success", r)
		}
	}
	if !(Report{Runs: []UserRun{run}}).OK() {
		t.Error("success is taken for a failure")
	}
}

func TestReportFitsAndSaysWhy(t *testing.T) {
	var b strings.Builder
	r := Report{Touched: []string{"this host: knock"}, Runs: []UserRun{{User: "agent", Sandbox: "0123456789ab", Results: []Result{
		{Name: name, Group: probe.Addresses, Verdict: Failed, How: strings.Repeat("é", 300), Why: "it gets out", Source: "RFC 793"},
		{Name: "other", Group: probe.DNS, Verdict: Recorded, How: "refused", Why: "unsaid"},
	}}}}
	mark := func(_ Verdict, word string) string { return "\x1b[31m" + word + "\x1b[0m" }
	if err := r.Write(&b, 60, mark); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	for _, want := range []string{"addresses\n", "FAILED", "why it matters: it gets out (RFC 793)", "dns\n", "REACHED  this host: knock", "as agent: 0 probes"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in:\n%s", want, text)
		}
	}
	if strings.Contains(text, "unsaid") {
		t.Errorf("it explains what is in order:\n%s", text)
	}
	plain := strings.NewReplacer("\x1b[31m", "", "\x1b[0m", "").Replace(text)
	for line := range strings.Lines(plain) {
		if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > 60 && !strings.HasPrefix(line, "as ") {
			t.Errorf("%d columns: %q", n, line)
		}
	}
	if err := r.Write(failing{}, 0, nil); err == nil {
		t.Error("a failing writer is no error")
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, fmt.Errorf("no") }
