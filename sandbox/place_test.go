package sandbox

import (
	"strings"
	"testing"

	"github.com/sallyport/sallyport/audit"
)

func places(hosts ...string) Upstream {
	u := Upstream{Name: "m", Host: hosts[0], Network: "unix", Address: "/s", Token: "t"}
	for _, h := range hosts[1:] {
		u.Spare = append(u.Spare, Place{h, "unix", "/s"})
	}
	return u
}

func order(u Upstream) string {
	var hosts []string
	for _, p := range u.Places() {
		hosts = append(hosts, p.Host)
	}
	return strings.Join(hosts, " ")
}

func TestPrefer(t *testing.T) {
	u := places("a", "b", "c")
	for i, want := range map[int]string{0: "a b c", 1: "b a c", 2: "c a b", 3: "a b c", -1: "a b c"} {
		got := u.Prefer(i)
		if order(got) != want || got.Token != "t" || got.Name != "m" {
			t.Errorf("Prefer(%d): %s, want %s", i, order(got), want)
		}
	}
	if order(u) != "a b c" {
		t.Errorf("Prefer changed its receiver: %s", order(u))
	}
	if one := places("a").Prefer(0); one.Spare != nil {
		t.Errorf("%+v", one)
	}
	if got := u.Prefer(1).String(); got != "b (unix:///s)" {
		t.Error(got)
	}
}

func TestCheckPlaces(t *testing.T) {
	many := places("a")
	for i := range maxSpare + 1 {
		many.Spare = append(many.Spare, Place{"h", "unix", "/" + strings.Repeat("x", i+1)})
	}
	for want, u := range map[string]Upstream{
		"":                                 places("a", "b"),
		"has a place twice: a (unix:///s)": places("a", "a"),
		"has a place twice: b (unix:///s)": places("a", "b", "b"),
		"16 places at most, not 17":        many,
		`"udp" "x:1" is neither`:           {Network: "unix", Address: "/s", Spare: []Place{{"", "udp", "x:1"}}},
		`"unix" "" is neither`:             {Network: "unix", Address: "/s", Spare: []Place{{"", "unix", ""}}},
	} {
		err := u.CheckPlaces()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	bad := Registration{Subject: audit.Subject{Sandbox: "0123456789ab"}, Token: strings.Repeat("x", 32), Upstream: places("a", "a")}
	if err := bad.check(); err == nil {
		t.Error("a registration with a place twice was taken")
	}
}

func TestMoveIsKept(t *testing.T) {
	h := newWorld(t, func(*Hub) {}).hub
	reg := Registration{Subject: audit.Subject{Sandbox: "0123456789ab"}, Token: strings.Repeat("x", 32), Upstream: places("a", "b", "c")}
	if _, err := h.Register(reg); err != nil {
		t.Fatal(err)
	}
	if err := h.Move("0123456789ab", Place{"c", "unix", "/s"}); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{"an unknown place": h.Move("0123456789ab", Place{"d", "unix", "/s"}), "an unknown sandbox": h.Move("000000000000", Place{"a", "unix", "/s"})} {
		if err == nil {
			t.Errorf("moved to %s", name)
		}
	}
	if got := order(h.List()[0].Upstream); got != "c a b" {
		t.Errorf("the state says %s", got)
	}
	r, err := loadRegistry(h.StateFile, h.Pool4, h.Pool6)
	if err != nil || order(r.Sandboxes["0123456789ab"].Upstream) != "c a b" {
		t.Errorf("kept %v, %v", r, err)
	}
}

func TestMeter(t *testing.T) {
	var m Meter
	if m.Usage() != (Usage{}) {
		t.Error("used before it was")
	}
	e := audit.Event{Layer: audit.LayerModel, Verdict: "allowed", Method: "POST", TokensIn: 10, TokensOut: 5, FirstToken: 2, TokensPerSecond: 20}
	m.Add(e)
	m.Add(audit.Event{Layer: audit.LayerModel, Verdict: "allowed", Method: "POST", TokensIn: 1}) // no stream
	for _, change := range []func(*audit.Event){
		func(e *audit.Event) { e.Layer = audit.LayerProxy },
		func(e *audit.Event) { e.Verdict = "denied" },
		func(e *audit.Event) { e.Method = "GET" },
	} {
		other := e
		change(&other)
		m.Add(other)
	}
	if got, want := m.Usage(), (Usage{Requests: 2, TokensIn: 11, TokensOut: 5, TokensPerSecond: 20, FirstToken: 2}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}
