package audit

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"fmt"
	"slices"
)

// verifyPage is how many events are read at once. A reader that stays in one
// view of the database for long would keep the writer's log from ending.
const verifyPage = 1000

// link is how far the chain was followed.
type link struct {
	prev  Head // of the last event, as it is stored
	known bool // prev is; else the next event's hash says nothing
	// other is the hash that the last event should have, if it is not the stored
	// one; the next event tells which of the two was changed.
	other    *Head
	suspects []suspect
}

// suspect is an event whose hash does not fit.
type suspect struct {
	at      Head // as stored
	prev    Head
	id      string
	body    []byte
	problem int // its place in the report; -1: it has none
}

// chain follows the chain through all events.
func (v *verifier) chain(ctx context.Context) error {
	for {
		n, err := v.page(ctx)
		if err != nil {
			return err
		}
		if n == 0 {
			v.settle()
			v.report.Problems = slices.DeleteFunc(v.report.Problems, func(p Problem) bool { return p.What == "" })
			return nil
		}
	}
}

// page reads the next events and returns how many there were.
func (v *verifier) page(ctx context.Context) (n int, err error) {
	rows, err := v.db.QueryContext(ctx, "SELECT id, "+columnNames+", seq, hash, body FROM events WHERE seq > ? ORDER BY seq LIMIT ?", v.link.prev.Seq, verifyPage)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for ; rows.Next(); n++ {
		var at Head
		var hash, body []byte
		got := newValues()
		if err := rows.Scan(append(got.pointers(), &at.Seq, &hash, &body)...); err != nil {
			return n, err
		}
		if n == 0 && at.Seq != v.link.prev.Seq+1 {
			if err := v.pruned(ctx); err != nil {
				return n, err
			}
			if v.link.prev.Seq >= at.Seq { // it is deleted as well by now
				return v.again(ctx, rows)
			}
		}
		e, what := got.compare(body)
		if what != "" {
			v.problem(at.Seq, e.ID, "changed: %s", what)
		}
		if len(hash) != sha256.Size {
			v.problem(at.Seq, e.ID, "changed: it has no hash")
		}
		copy(at.Hash[:], hash)
		v.event(at, e.ID, body)
	}
	return n, rows.Err()
}

// pruned goes on after a checkpoint that was written meanwhile.
func (v *verifier) pruned(ctx context.Context) error {
	at, err := v.checkpoint(ctx, v.db)
	if err == nil && at.Seq > v.link.prev.Seq {
		v.link.prev, v.link.known, v.link.other = at, true, nil
	}
	return err
}

// again ends the reading of rows and reads the next events as they are now, those
// after a checkpoint.
func (v *verifier) again(ctx context.Context, rows *sql.Rows) (n int, err error) {
	if err := rows.Close(); err != nil {
		return 0, err
	}
	if err := v.before(ctx, v.db, v.link.prev); err != nil {
		return 0, err
	}
	return v.page(ctx)
}

// before looks for events that begin, the last one that was deleted, leaves no
// place for.
func (v *verifier) before(ctx context.Context, q queryer, begin Head) error {
	var n int64
	if err := q.QueryRowContext(ctx, "SELECT count(*) FROM events WHERE seq <= ?", begin.Seq).Scan(&n); err != nil {
		return err
	}
	if n > 0 {
		v.problem(0, "", "reordered: %d events stand before the first number, %d", n, begin.Seq+1)
	}
	return nil
}

// event checks that the event at is the one after the last.
func (v *verifier) event(at Head, id string, body []byte) {
	l := &v.link
	if at.Seq > l.prev.Seq+1 {
		v.settle()
		if missing := at.Seq - l.prev.Seq - 1; missing == 1 {
			v.problem(at.Seq-1, "", "missing: event %d", at.Seq-1)
		} else {
			v.problem(l.prev.Seq+1, "", "missing: events %d to %d", l.prev.Seq+1, at.Seq-1)
		}
		l.prev, l.known = Head{Seq: at.Seq - 1}, false
	}
	should := l.prev.next(body)
	switch {
	case !l.known || should == at:
		v.settle()
	case l.other != nil && l.other.next(body) == at:
		v.blame("changed: its hash is another than it was")
		l.other = nil
	case v.follows(at, body):
		v.settle() // what stands before it was moved there, and has been named
	default:
		v.settle()
		v.suspect(suspect{at: at, prev: l.prev, id: id, body: body}, should)
	}
	if v.report.Events == 0 {
		v.report.First = at
	}
	v.report.Events++
	v.report.Head = at
	v.compare(at)
	l.prev, l.known = at, true
}

// follows says whether the event at follows, by its hash, on one of the suspects,
// wherever that stands now.
func (v *verifier) follows(at Head, body []byte) bool {
	return slices.ContainsFunc(v.link.suspects, func(s suspect) bool { return s.precedes(at, body) })
}

// precedes says whether s stood before the event at when that was chained.
func (s suspect) precedes(at Head, body []byte) bool {
	return Head{Seq: at.Seq - 1, Hash: s.at.Hash}.next(body) == at
}

// suspect notes that the event s does not fit; should is the hash that would.
func (v *verifier) suspect(s suspect, should Head) {
	s.problem = len(v.report.Problems)
	v.problem(s.at.Seq, s.id, "changed: its content does not fit its hash")
	if len(v.report.Problems) == s.problem {
		s.problem = -1
	}
	v.link.other = &should
	if len(v.link.suspects) < maxProblems {
		v.link.suspects = append(v.link.suspects, s)
		v.reordered(len(v.link.suspects) - 1)
	}
}

// blame says more of the last suspect.
func (v *verifier) blame(what string) {
	if n := len(v.link.suspects); n > 0 {
		if p := v.link.suspects[n-1].problem; p >= 0 && p < maxProblems-1 {
			v.report.Problems[p].What = what
		}
	}
}

// settle leaves the last suspect as it is.
func (v *verifier) settle() { v.link.other = nil }

// reordered looks whether the newest suspect stands where another one belongs, and
// clears those that only followed on it.
func (v *verifier) reordered(newest int) {
	all := v.link.suspects
	for i := range newest {
		a, b := all[i], all[newest]
		if b.precedes(a.at, a.body) && a.problem >= 0 && a.problem < maxProblems-1 {
			v.report.Problems[a.problem].What = ""
			continue
		}
		if !belongs(a, b) && !belongs(b, a) {
			continue
		}
		for _, pair := range [][2]suspect{{a, b}, {b, a}} {
			if p := pair[0].problem; p >= 0 && p < maxProblems-1 {
				v.report.Problems[p].What = fmt.Sprintf("reordered: events %d and %d changed places", a.at.Seq, b.at.Seq)
			}
		}
	}
}

// belongs says whether b's content belongs where a is.
func belongs(a, b suspect) bool {
	hash := a.prev.next(b.body).Hash
	return hash == a.at.Hash || hash == b.at.Hash
}
