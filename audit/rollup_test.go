package audit

import (
	"math/rand/v2"
	"testing"
)

// The hourly sums stay those of the events while they are added and deleted, and
// a change by hand is found.
func TestRollup(t *testing.T) {
	r := random{rand.New(rand.NewPCG(1, 2))}
	f := fill(t)
	for range 20 {
		var events []Event
		for range 20 {
			events = append(events, r.event())
		}
		lost := Event{Time: noon, Layer: LayerDNS, Verdict: "denied", Rule: "lost", Lost: 3}
		f.add(append(events, lost, lost)...)
		f.exec("DELETE FROM events WHERE seq <= (SELECT min(seq) + 4 FROM events)")
		if err := checkRollup(t.Context(), f.db); err != nil {
			t.Fatal(err)
		}
		var tokens, want int64
		err := f.db.QueryRow("SELECT (SELECT sum(tokens_in + tokens_out) FROM rollup), (SELECT sum((body ->> '$.tokens_in') + (body ->> '$.tokens_out')) FROM events)").Scan(&tokens, &want)
		if err != nil || tokens < want || tokens == 0 {
			t.Errorf("%d tokens, want %d, %v", tokens, want, err)
		}
	}
	for _, harm := range []string{
		"UPDATE rollup SET count = count + 1 WHERE hour = (SELECT max(hour) FROM rollup)",
		"DELETE FROM rollup WHERE hour = (SELECT max(hour) FROM rollup)",
		"UPDATE events SET host = 'x' WHERE seq = (SELECT max(seq) FROM events)",
	} {
		tx, err := f.db.Begin()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(harm); err != nil {
			t.Fatal(err)
		}
		if err := checkRollup(t.Context(), tx); err == nil {
			t.Errorf("not found: %s", harm)
		}
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
	}
	f.exec("DELETE FROM events")
	var rows int
	if err := f.db.QueryRow("SELECT count(*) FROM rollup").Scan(&rows); err != nil || rows != 0 {
		t.Errorf("%d sums of nothing, %v", rows, err)
	}
}
