package bench

import (
	"math"
	"testing"
)

func TestMedianAndSpread(t *testing.T) {
	m := Metric{Name: "v"}
	for _, c := range []struct {
		v              []float64
		median, spread float64
	}{
		{[]float64{4}, 4, 0},
		{[]float64{3, 1, 2}, 2, 1},
		{[]float64{4, 1, 2, 3}, 2.5, 1.2},
		{[]float64{0, 0, 0}, 0, 0},
		{[]float64{-1, -2, -3}, -2, 1},
	} {
		s := values("s", c.v...)
		if got := s.Value(m); got != c.median {
			t.Errorf("%v: median %v", c.v, got)
		}
		if got := s.Spread(m); got != c.spread {
			t.Errorf("%v: spread %v", c.v, got)
		}
	}
	if got := values("s").Value(m); !math.IsNaN(got) {
		t.Errorf("no runs: %v", got)
	}
	if got := values("s", 0, 5, 1).Value(Metric{Name: "v", Less: true, Worst: true}); got != 5 {
		t.Errorf("worst of what should be less: %v", got)
	}
	if got := values("s", 2, 5, 1).Value(Metric{Name: "v", Worst: true}); got != 1 {
		t.Errorf("worst of what should be more: %v", got)
	}
}

func TestSlope(t *testing.T) {
	for _, c := range []struct {
		x, y []float64
		want float64
	}{
		{[]float64{10, 100, 1000}, []float64{5, 5, 5}, 0},
		{[]float64{10, 100, 1000}, []float64{1, 10, 100}, 1},
		{[]float64{1, 2, 4}, []float64{1, 4, 16}, 2},
	} {
		if got := slope(c.x, c.y); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%v: %v, want %v", c.y, got, c.want)
		}
	}
	for _, y := range [][]float64{{1}, {0, 1}, {1, math.NaN()}} {
		if got := slope([]float64{1, 2}[:len(y)], y); !math.IsNaN(got) {
			t.Errorf("%v: %v", y, got)
		}
	}
}

func TestJudge(t *testing.T) {
	less, more := Metric{Name: "v", Unit: "µs", Less: true}, Metric{Name: "v", Unit: "/s"}
	lost := Metric{Name: "v", Less: true, Worst: true}
	direct, ours, peer, best := values(Direct, 100), values(Ours, 150, 160, 140), values("peer", 150), values("best", 125)
	failed := values("peer", 150)
	failed.Error = "cut short"
	for _, c := range []struct {
		what  string
		m     Metric
		bar   Bar
		sides []SideResult
		want  Verdict
	}{
		{"less, just reached", less, Bar{Of: "peer", Bar: 1}, []SideResult{ours, peer}, Verdict{Ratio: 1, Reached: true}},
		{"less, missed", less, Bar{Of: "best", Bar: 1.1}, []SideResult{ours, best}, Verdict{Ratio: 1.2}},
		{"more, reached", more, Bar{Of: "best", Bar: 1.1}, []SideResult{ours, best}, Verdict{Ratio: 1.2, Reached: true}},
		{"more, missed", more, Bar{Of: "best", Bar: 1.3}, []SideResult{ours, best}, Verdict{Ratio: 1.2}},
		{"over direct", less, Bar{Of: "peer", Base: Direct, Bar: 1.1}, []SideResult{direct, ours, peer}, Verdict{Ratio: 1, Reached: true}},
		{"aim of another", less, Bar{Of: "peer", Base: Direct, Bar: 1.1, Aim: 1, AimOf: "best"}, []SideResult{direct, ours, peer, best},
			Verdict{Ratio: 1, Reached: true, ToAim: 2}},
		{"aim", more, Bar{Of: "peer", Bar: 0.8, Aim: 1}, []SideResult{ours, peer}, Verdict{Ratio: 1, Reached: true, ToAim: 1, Aimed: true}},
		{"another side", less, Bar{Side: "best", Of: "peer", Bar: 1}, []SideResult{best, peer}, Verdict{Ratio: 125.0 / 150, Reached: true}},
		{"a value", less, Bar{Bar: 128}, []SideResult{ours}, Verdict{Ratio: 150}},
		{"a value that is reported", less, Bar{Reported: true, Aim: 140}, []SideResult{ours}, Verdict{Ratio: 150, Reached: true, ToAim: 150}},
		{"we have none to report", more, Bar{Reported: true}, []SideResult{values(Ours)}, Verdict{Ratio: math.NaN(), Why: Ours + " was not measured"}},
		{"none lost", lost, Bar{Bar: 0}, []SideResult{values(Ours, 0, 0, 0)}, Verdict{Ratio: 0, Reached: true}},
		{"one lost in one run", lost, Bar{Bar: 0}, []SideResult{values(Ours, 0, 1, 0)}, Verdict{Ratio: 1}},
		{"peer adds nothing", less, Bar{Of: "peer", Base: Direct, Bar: 1.1}, []SideResult{direct, ours, values("peer", 99)},
			Verdict{Ratio: math.NaN(), Why: "peer adds nothing to direct in this run"}},
		{"peer failed", less, Bar{Of: "peer", Bar: 9}, []SideResult{ours, failed}, Verdict{Ratio: math.NaN(), Why: "peer failed"}},
		{"peer is absent", less, Bar{Of: "peer", Bar: 9}, []SideResult{ours}, Verdict{Ratio: math.NaN(), Why: "peer was not measured"}},
		{"we have no run", less, Bar{Of: "peer", Bar: 9}, []SideResult{values(Ours), peer}, Verdict{Ratio: math.NaN(), Why: Ours + " was not measured"}},
		{"we have no run, a value", more, Bar{Bar: 0}, []SideResult{values(Ours)}, Verdict{Ratio: math.NaN(), Why: Ours + " was not measured"}},
		{"peer has none", more, Bar{Of: "peer", Bar: 1}, []SideResult{ours, values("peer", 0)}, Verdict{Ratio: math.NaN(), Why: "peer has 0"}},
		{"no such metric", less, Bar{Metric: "w", Of: "peer", Bar: 9}, []SideResult{ours, peer}, Verdict{Ratio: math.NaN(), Why: `the case has no metric "w"`}},
	} {
		if c.bar.Metric == "" {
			c.bar.Metric = "v"
		}
		got := sided(c.m, []Bar{c.bar}, c.sides...).Judge()[0]
		if c.bar.Aim == 0 {
			c.want.ToAim = math.NaN()
		}
		same := func(a, b float64) bool { return a == b || math.IsNaN(a) && math.IsNaN(b) }
		if !same(got.Ratio, c.want.Ratio) || !same(got.ToAim, c.want.ToAim) || got.Reached != c.want.Reached || got.Aimed != c.want.Aimed || got.Why != c.want.Why {
			t.Errorf("%s: %+v", c.what, got)
		}
	}
}

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 1: "1", 1.5: "1.50", 74.26: "74.3", 0.0123: "0.0123", 0.00001234: "0.0000", 163: "163", 1234.5: "1,234",
		48911: "48,911", 1234567: "1,234,567", -1500: "-1,500", -0.5: "-0.500", 999.9: "1,000", math.Inf(1): "–"} {
		if got := number(v); got != want {
			t.Errorf("%v: %q, want %q", v, got, want)
		}
	}
	if got := number(math.NaN()); got != "–" {
		t.Errorf("NaN: %q", got)
	}
}
