package bench

import (
	"fmt"
	"math"
	"slices"
)

// Verdict is how a bar was judged.
type Verdict struct {
	Bar     Bar
	Ratio   float64 // of the medians, or the value where Bar.Of is empty; NaN: see Why
	ToAim   float64 // the same beside Bar.AimOf; NaN: there is no aim, or see Why
	Reached bool    // the bar; where there is none, that it was measured
	Aimed   bool    // the aim; false without one
	Why     string  // why there is no ratio; empty: there is one
}

// Judge judges all bars of a case.
func (r Result) Judge() []Verdict {
	verdicts := make([]Verdict, 0, len(r.Case.Bars))
	for _, b := range r.Case.Bars {
		verdicts = append(verdicts, r.judge(b))
	}
	return verdicts
}

func (r Result) judge(b Bar) Verdict {
	v := Verdict{Bar: b, Ratio: math.NaN(), ToAim: math.NaN()}
	i := slices.IndexFunc(r.Case.Metrics, func(m Metric) bool { return m.Name == b.Metric })
	if i < 0 {
		v.Why = fmt.Sprintf("the case has no metric %q", b.Metric)
		return v
	}
	m := r.Case.Metrics[i]
	v.Ratio, v.Why = r.ratio(m, b.side(), b.Of, b.Base)
	v.Reached = b.Reported && v.Why == "" || !b.Reported && reached(m, v.Ratio, b.Bar)
	if b.Aim != 0 {
		var why string
		v.ToAim, why = r.ratio(m, b.side(), b.aimOf(), b.Base)
		v.Aimed = reached(m, v.ToAim, b.Aim)
		if v.Why == "" {
			v.Why = why
		}
	}
	return v
}

func (b Bar) side() string {
	if b.Side == "" {
		return Ours
	}
	return b.Side
}

func (b Bar) aimOf() string {
	if b.AimOf == "" {
		return b.Of
	}
	return b.AimOf
}

// reached compares with a limit; what is not known has not reached it.
func reached(m Metric, ratio, limit float64) bool {
	if m.Less {
		return ratio <= limit
	}
	return ratio >= limit
}

// ratio is a side's value as a share of another's; base's is taken off both. Without
// of it is the side's value.
func (r Result) ratio(m Metric, side, of, base string) (ratio float64, why string) {
	value, why := r.above(m, side, base)
	if of == "" || why != "" {
		return value, why
	}
	other, why := r.above(m, of, base)
	switch {
	case why != "":
		return math.NaN(), why
	case other <= 0 && base != "":
		return math.NaN(), fmt.Sprintf("%s adds nothing to %s in this run", of, base)
	case other == 0:
		return math.NaN(), fmt.Sprintf("%s has 0", of)
	}
	return value / other, ""
}

// above is a side's value, less base's if there is one.
func (r Result) above(m Metric, side, base string) (value float64, why string) {
	for _, name := range []string{side, base} {
		if name == "" {
			continue
		}
		i := slices.IndexFunc(r.Sides, func(s SideResult) bool { return s.Name == name })
		if i < 0 || len(r.Sides[i].Samples) == 0 {
			return math.NaN(), fmt.Sprintf("%s was not measured", name)
		}
		if r.Sides[i].Error != "" {
			return math.NaN(), fmt.Sprintf("%s failed", name)
		}
		v := r.Sides[i].Value(m)
		if name == base {
			v = -v
		}
		value += v
	}
	return value, ""
}
