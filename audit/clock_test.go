package audit

import (
	"sync/atomic"
	"testing"
	"time"
)

// The clock jumps about while refusals come in: each is kept, identical ones are
// still joined within their window, which is of the time that passes, and neither
// the chain nor the order in which it was stored suffers.
func TestClockJumps(t *testing.T) {
	const year = 365 * 24 * time.Hour
	var jump atomic.Int64
	path := storePath(t)
	s := openWith(t, path, Options{Keep: 24 * time.Hour, Now: func() time.Time { return noon.Add(time.Duration(jump.Load())) }})
	jumps := []time.Duration{0, year, -2 * year, -time.Second, time.Hour, 2 * time.Hour}
	ids := map[string]bool{}
	for _, by := range jumps {
		jump.Store(int64(by))
		same := mustAppend(t, s, Event{Host: "same.example", Verdict: "denied"})
		ids[same.ID] = true
		ids[mustAppend(t, s, Event{Host: by.String() + ".example", Verdict: "denied"}).ID] = true
	}
	if len(ids) != len(jumps)+2 { // the first refusal, its repeats, and one of its own for each jump
		t.Errorf("%d ids", len(ids))
	}
	closeStore(t, s)
	var same, others int
	for _, e := range chained(t, path) {
		switch {
		case e.Host != "same.example":
			others++
		case e.RepeatOf == "" && e.Count == 1:
			same++
		case e.Count != int64(len(jumps)-1) || e.Last.Before(e.First):
			t.Errorf("repeats: %+v", e)
		default:
			same += int(e.Count)
		}
	}
	if same != len(jumps) || others != len(jumps) {
		t.Errorf("%d and %d of %d attempts are kept", same, others, len(jumps))
	}
	if r, err := Verify(t.Context(), path, ""); err != nil || !r.OK {
		t.Errorf("%+v, %v", r, err)
	}
}
