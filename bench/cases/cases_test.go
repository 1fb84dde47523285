package cases

import (
	"regexp"
	"slices"
	"testing"

	"github.com/sallyport/sallyport/bench"
)

var (
	names   = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	metrics = regexp.MustCompile(`^[a-z0-9]+( [a-z0-9]+)*$`)
)

// Every case is well-formed: what a bar names is there, and no name stands twice.
func TestAll(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range All() {
		if !names.MatchString(c.Name) || seen[c.Name] {
			t.Errorf("case %q: the name is used twice, or is none", c.Name)
		}
		seen[c.Name] = true
		if c.Title == "" || len(c.Metrics) == 0 || len(c.Sides) == 0 {
			t.Errorf("%s: without a title, a metric or a side", c.Name)
		}
		for _, m := range c.Metrics {
			if !metrics.MatchString(m.Name) {
				t.Errorf("%s: metric %q", c.Name, m.Name)
			}
		}
		checkSides(t, c)
		for _, b := range c.Bars {
			checkBar(t, c, b)
		}
	}
}

func checkSides(t *testing.T, c bench.Case) {
	t.Helper()
	sides := map[string]bool{}
	for i, s := range c.Sides {
		switch {
		case s.Name == "" || s.Start == nil || sides[s.Name]:
			t.Errorf("%s: side %q: without a name or a start, or there twice", c.Name, s.Name)
		case s.Name == bench.Direct && i != 0:
			t.Errorf("%s: direct is not the first side", c.Name)
		case (c.Grows != "") != (s.X > 0):
			t.Errorf("%s: side %q is at %g of %q", c.Name, s.Name, s.X, c.Grows)
		}
		sides[s.Name] = true
	}
}

func checkBar(t *testing.T, c bench.Case, b bench.Bar) {
	t.Helper()
	if !slices.ContainsFunc(c.Metrics, func(m bench.Metric) bool { return m.Name == b.Metric }) {
		t.Errorf("%s: a bar of %q, which is no metric", c.Name, b.Metric)
	}
	if b.Side == "" {
		b.Side = bench.Ours
	}
	for _, name := range []string{b.Side, b.Of, b.Base, b.AimOf} {
		if name != "" && !slices.ContainsFunc(c.Sides, func(s bench.Side) bool { return s.Name == name }) {
			t.Errorf("%s: a bar of %q, which is no side", c.Name, name)
		}
	}
}
