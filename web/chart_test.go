package web

import (
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
)

// Every attempt is in one slot, whatever the step and the zone.
func TestChart(t *testing.T) {
	kathmandu := time.FixedZone("+0545", 5*3600+45*60)
	for _, length := range []time.Duration{time.Hour, 5 * time.Hour, 24 * time.Hour, 7 * 24 * time.Hour, 90 * 24 * time.Hour, 4000 * 24 * time.Hour} {
		step := stepFor(length)
		since := noon.Add(-length)
		buckets := []audit.Bucket{{Start: since, Denied: 1, Allowed: 2, Lost: 3}, {Start: noon.Add(-step / 2), Denied: 10, Allowed: 20}, {Start: noon, Denied: 100}}
		c := newChart(buckets, since, noon, step, query{}, kathmandu)
		var denied, allowed, lost int64
		for _, s := range c.Slots {
			denied, allowed, lost = denied+s.Denied, allowed+s.Allowed, lost+s.Lost
			if s.DeniedHeight < 0 || s.DeniedY < 0 || s.AllowedY+s.AllowedHeight > c.Height || s.Denied > 0 && s.DeniedHeight < 3 {
				t.Errorf("%s: a bar is out of the picture: %+v", length, s)
			}
		}
		if denied != 111 || allowed != 22 || lost != 3 || len(c.Slots) > maxSlots+1 || len(c.Ticks) != chartTicks {
			t.Errorf("%s: %d slots of %s with %d, %d, %d", length, len(c.Slots), step, denied, allowed, lost)
		}
	}
}
