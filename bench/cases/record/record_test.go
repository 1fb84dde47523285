package record

import (
	"testing"

	"github.com/sallyport/sallyport/bench"
	"github.com/sallyport/sallyport/bench/field"
)

// Each case works, with few of everything, and measures all that it says.
func TestCases(t *testing.T) {
	f := &field.Field{Scale: field.Scale{Smoke: true}, Disk: t.TempDir()}
	for _, c := range Cases() {
		r, err := bench.Run(t.Context(), f, c, bench.Options{Smoke: true})
		if err != nil || r.Err() != nil {
			t.Fatalf("%s: %v, %v", c.Name, err, r.Err())
		}
		for _, side := range r.Sides {
			for _, m := range c.Metrics {
				if v, ok := side.Samples[0][m.Name]; !ok || v < 0 {
					t.Errorf("%s: %s: %s is %v", c.Name, side.Name, m.Name, v)
				}
			}
		}
	}
}
