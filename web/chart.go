package web

import (
	"fmt"
	"time"

	"github.com/sallyport/sallyport/audit"
)

// The timeline's measures, in units of its viewBox: refused attempts stand on the
// line, allowed ones hang from it.
const (
	slotWidth  = 10
	slotGap    = 2
	aboveLine  = 84 // the line's y
	belowLine  = 44
	lineGap    = 2
	chartTicks = 5
	maxSlots   = 72
)

// steps are the lengths of time that one slot may stand for.
var steps = []time.Duration{time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute, 20 * time.Minute, 30 * time.Minute,
	time.Hour, 2 * time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour, 24 * time.Hour, 7 * 24 * time.Hour, 28 * 24 * time.Hour, 364 * 24 * time.Hour}

// stepFor is the shortest step with which a span has at most maxSlots slots.
func stepFor(length time.Duration) time.Duration {
	for _, step := range steps {
		if length <= maxSlots*step {
			return step
		}
	}
	return steps[len(steps)-1]
}

// chart is the timeline: what was allowed and refused, in slots of equal time.
type chart struct {
	Slots         []slot
	Ticks         []string
	Step          string
	Width, Height int
	Line          int // y of the line
	MostDenied    int64
	MostAllowed   int64
	Text          string // all of it in one sentence, for who cannot see it
}

type slot struct {
	When                  string
	Denied, Allowed, Lost int64
	Link                  string // the events of this slot
	X, HitX               int
	DeniedY, DeniedHeight int
	AllowedHeight         int
	AllowedY, LostY       int
	Bar                   int // width of the bars
}

// newChart draws buckets of a span. The slots begin where the record's do: at
// multiples of the step since midnight of loc.
func newChart(buckets []audit.Bucket, since, until time.Time, step time.Duration, q query, loc *time.Location) chart {
	first := alignTo(since, step, loc)
	n := min(int(until.Sub(first)/step)+1, maxSlots+1)
	c := chart{Slots: make([]slot, n), Step: span(step), Width: n * slotWidth, Height: aboveLine + lineGap + belowLine, Line: aboveLine}
	for _, b := range buckets {
		i := int(b.Start.Sub(first) / step)
		if b.Start.Before(first) {
			i = 0
		}
		i = min(i, n-1)
		c.Slots[i].Denied += b.Denied
		c.Slots[i].Allowed += b.Allowed
		c.Slots[i].Lost += b.Lost
	}
	var denied, allowed int64
	for _, s := range c.Slots {
		c.MostDenied, c.MostAllowed = max(c.MostDenied, s.Denied), max(c.MostAllowed, s.Allowed)
		denied, allowed = denied+s.Denied, allowed+s.Allowed
	}
	for i := range c.Slots {
		start := first.Add(time.Duration(i) * step)
		c.Slots[i].place(i, c.MostDenied, c.MostAllowed)
		c.Slots[i].When = spanText(start, start.Add(step), loc)
		c.Slots[i].Link = "/events" + q.with(func(q *query) {
			q.Since, q.Until = start.UTC().Format(time.RFC3339), start.Add(step).UTC().Format(time.RFC3339)
		})
	}
	for i := range chartTicks {
		at := first.Add(time.Duration(n) * step * time.Duration(i) / (chartTicks - 1))
		c.Ticks = append(c.Ticks, tick(at, time.Duration(n)*step, loc))
	}
	c.Text = fmt.Sprintf("%s refused and %s allowed from %s to %s; at most %s refused and %s allowed within %s.", number(denied), number(allowed),
		c.Ticks[0], c.Ticks[chartTicks-1], number(c.MostDenied), number(c.MostAllowed), c.Step)
	return c
}

// place computes where the i-th slot is drawn. What happened at all can be seen.
func (s *slot) place(i int, mostDenied, mostAllowed int64) {
	s.HitX, s.X, s.Bar = i*slotWidth, i*slotWidth+slotGap/2, slotWidth-slotGap
	s.DeniedHeight = scaled(s.Denied, mostDenied, aboveLine-8)
	s.DeniedY = aboveLine - s.DeniedHeight
	s.AllowedY = aboveLine + lineGap
	s.AllowedHeight = scaled(s.Allowed, mostAllowed, belowLine)
	s.LostY = s.DeniedY - 6
}

func scaled(n, most int64, height int) int {
	if n <= 0 || most <= 0 {
		return 0
	}
	return max(3, int(float64(n)/float64(most)*float64(height)))
}

// alignTo is the last multiple of a step since midnight, at or before t; of steps
// of days, that midnight.
func alignTo(t time.Time, step time.Duration, loc *time.Location) time.Time {
	t = t.In(loc)
	midnight := time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, loc)
	if step >= 24*time.Hour {
		return midnight
	}
	return midnight.Add(t.Sub(midnight).Truncate(step))
}

func tick(t time.Time, length time.Duration, loc *time.Location) string {
	switch {
	case length <= 36*time.Hour:
		return t.In(loc).Format("15:04")
	case length <= 300*24*time.Hour:
		return t.In(loc).Format("2 Jan")
	}
	return t.In(loc).Format("Jan 2006")
}

func spanText(from, to time.Time, loc *time.Location) string {
	from, to = from.In(loc), to.In(loc)
	if to.Sub(from) < 24*time.Hour {
		return from.Format("2 Jan 15:04") + " to " + to.Format("15:04")
	}
	return from.Format("2 Jan 2006") + " to " + to.Format("2 Jan 2006")
}
