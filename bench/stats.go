package bench

import (
	"math"
	"slices"
)

// Value is what stands for a side's runs: the median, or of a metric of which the
// worst is judged, that. NaN without a run.
func (s SideResult) Value(m Metric) float64 {
	v := s.values(m.Name)
	switch {
	case len(v) == 0:
		return math.NaN()
	case m.Worst && m.Less:
		return v[len(v)-1]
	case m.Worst:
		return v[0]
	}
	return median(v)
}

// Spread is the distance of a side's extremes, as a share of the median. Zero where
// that is zero.
func (s SideResult) Spread(m Metric) float64 {
	v := s.values(m.Name)
	if len(v) == 0 || median(v) == 0 {
		return 0
	}
	return (v[len(v)-1] - v[0]) / math.Abs(median(v))
}

// values are those of all runs, sorted.
func (s SideResult) values(metric string) []float64 {
	var v []float64
	for _, sample := range s.Samples {
		v = append(v, sample[metric])
	}
	slices.Sort(v)
	return v
}

// median is that of sorted values, of which there is one at least.
func median(v []float64) float64 {
	n := len(v)
	return (v[(n-1)/2] + v[n/2]) / 2
}

// slope is the exponent b of the curve y = a·x^b that fits best: 0 where y does not
// grow, 1 where it grows like x. NaN without two points, or with one at or below zero.
func slope(x, y []float64) float64 {
	var n, sx, sy, sxx, sxy float64
	for i := range x {
		if !(x[i] > 0 && y[i] > 0) {
			return math.NaN()
		}
		lx, ly := math.Log(x[i]), math.Log(y[i])
		n, sx, sy, sxx, sxy = n+1, sx+lx, sy+ly, sxx+lx*lx, sxy+lx*ly
	}
	return (n*sxy - sx*sy) / (n*sxx - sx*sx)
}
