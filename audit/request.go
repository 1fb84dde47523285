package audit

import (
	"cmp"
	"fmt"
	"math"
	"time"

	"github.com/sallyport/sallyport/policy"
)

// entry is where one event goes on its way into the store.
type entry struct {
	key  joinKey // if join
	join bool
	in   *window // where it was counted; nil: it is an event of its own
}

// request is what one call of Append or AppendAll waits for.
type request struct {
	events  []Event   // as they are stored, once done is closed
	entries []entry   // one for each event
	counted bool      // when they are not kept: by us
	asked   time.Time // with the monotonic clock
	err     error     // set before done is closed
	done    chan struct{}
}

// complete makes e fit to be stored, but for its id.
func complete(e Event, now time.Time) (Event, error) {
	if e.Time.IsZero() {
		e.Time = now
	}
	e.Time = e.Time.UTC().Round(0)
	if year := e.Time.Year(); year < 1970 || year > 2200 {
		return e, fmt.Errorf("the time %s is out of range\nhint: set the clock", e.Time)
	}
	e.ID, e.Open, e.RepeatOf, e.First, e.Last = "", false, "", time.Time{}, time.Time{}
	e.Lost = max(e.Lost, 0)
	if e.Count <= 0 && e.Lost == 0 {
		e.Count = 1
	}
	e.Count = max(e.Count, 0)
	e.Sandbox = cmp.Or(e.Sandbox, "unknown")
	e.Verdict = cmp.Or(e.Verdict, policy.Deny.String())
	if e.Verdict != policy.Deny.String() && e.Verdict != policy.Allow.String() {
		return e, fmt.Errorf("verdict %.20q is neither %q nor %q", e.Verdict, policy.Deny, policy.Allow)
	}
	for _, f := range []*float64{&e.Duration, &e.FirstToken, &e.TokensPerSecond} {
		if math.IsNaN(*f) || math.IsInf(*f, 0) {
			*f = 0 // JSON has none of them
		}
	}
	return bound(e), nil
}

// settle sets each event to what was stored of it; without an id if it was not.
func (r *request) settle(stored bool) {
	for i := range r.events {
		switch in := r.entries[i].in; {
		case !stored:
			r.events[i].ID = ""
		case in != nil:
			r.events[i] = *in.repeats
			r.events[i].Open = !in.ended
		}
	}
}
