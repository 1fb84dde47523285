package audit

import (
	"fmt"
	"time"

	"github.com/sallyport/sallyport/policy"
)

// Failure says what happens to an attempt when its event cannot be stored.
type Failure int

// FailDeny, the zero value: Append returns an error, and who called it refuses.
// FailContinue: Append returns none, and the event is counted as not kept.
const (
	FailDeny Failure = iota
	FailContinue
)

// RuleNotKept is the rule of the event that tells, once the store can be written
// again, how many attempts have no event of their own. RuleSetAside is that of a
// store's first event if it was begun since the one before was damaged or gone.
// RuleCut is that of an event that tells that the ones before it are missing.
const (
	RuleNotKept  = "not-kept"
	RuleSetAside = "set-aside"
	RuleCut      = "cut"
)

// retryAfter is how long a store that cannot be written waits before it tries
// again by itself; each Append tries too.
const retryAfter = time.Second

// unkept counts attempts that could not be stored.
type unkept struct {
	refused     int64 // by FailDeny
	denied      int64 // by policy, under FailContinue
	allowed     int64 // under FailContinue
	first, last time.Time
	why         string // the first error
}

func (u unkept) total() int64 { return sum(sum(u.refused, u.denied), u.allowed) }

func (u *unkept) add(e Event, continued bool, why error) {
	count := sum(e.Count, e.Lost)
	switch {
	case !continued:
		u.refused = sum(u.refused, count)
	case e.Denied():
		u.denied = sum(u.denied, count)
	default:
		u.allowed = sum(u.allowed, count)
	}
	if u.first.IsZero() {
		u.first, u.why = e.Time, why.Error()
	}
	u.last = e.Time
}

// event is what there is to tell of them.
func (u unkept) event(now time.Time) Event {
	return Event{
		Time: now.UTC().Round(0), Subject: Subject{Sandbox: "unknown"}, Layer: LayerControl,
		Verdict: policy.Deny.String(), Rule: RuleNotKept, Lost: u.total(), First: u.first, Last: u.last,
		Reason: field(fmt.Sprintf("could not be stored, and was not: %d refused for that, %d refused by policy, %d allowed; %s",
			u.refused, u.denied, u.allowed, u.why)),
	}
}

// countUnkept counts what batch loses by err.
func (w *writer) countUnkept(batch []*request, err error) {
	continued := w.s.opts.OnFailure == FailContinue
	before := w.unkept.total()
	for _, r := range batch {
		for _, e := range r.events {
			if continued || r.counted {
				w.unkept.add(e, continued, err)
			}
		}
	}
	lost := w.unkept.total() - before
	s := w.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if continued {
		s.health.NotKept = sum(s.health.NotKept, lost)
	} else {
		s.health.Refused = sum(s.health.Refused, lost)
	}
}

// note is an event of the store about itself. It is no attempt, so it counts
// none.
func note(rule, reason string, now time.Time) Event {
	return Event{
		Time: now.UTC().Round(0), Subject: Subject{Sandbox: "unknown"}, Layer: LayerControl,
		Verdict: policy.Deny.String(), Rule: rule, Reason: field(reason),
	}
}

// say has the next transaction store a note. One that waits already is not
// repeated.
func (w *writer) say(rule, reason string) {
	e := note(rule, reason, w.s.opts.Now())
	for _, n := range w.notes {
		if n.Rule == e.Rule && n.Reason == e.Reason {
			return
		}
	}
	w.notes = append(w.notes, e)
}
