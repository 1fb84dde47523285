package audit

import (
	"fmt"
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
		f.sumAll()
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
	f.sumAll()
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

// A Store sums up whole runs of events; of the others, and while none is summed up
// after an upgrade, queries give the same.
func TestSumsFollowTheStore(t *testing.T) {
	path := storePath(t)
	s := openStore(t, path)
	var total int64
	for _, n := range []int{runOf + runOf/2, runOf/2 - 1, 1, 1} {
		var events []Event
		for i := range n {
			events = append(events, Event{Host: fmt.Sprintf("h%d.example", i%10), Verdict: "allowed"})
		}
		store(t, s, events)
		total += int64(n)
		whole := total / runOf * runOf
		wait(t, func() bool { return sumOf(t, path, "SELECT seq FROM summed") == whole })
		if all := sumOf(t, path, "SELECT sum(events) FROM rollup"); all != whole {
			t.Errorf("%d events are summed up, of %d", all, total)
		}
		sameCounts(t, path, total)
	}
	closeStore(t, s)
	if r, err := Verify(t.Context(), path, ""); err != nil || !r.OK {
		t.Errorf("%+v, %v", r, err)
	}
}

// A record of form 1 is read as it is, and a Store gives it the newest form.
func TestUpgradeFromForm1(t *testing.T) {
	path := storePath(t)
	s := openStore(t, path)
	store(t, s, old(2*runOf+100, 1))
	closeStore(t, s)
	db := openSQL(t, path)
	mustExec(t, db, formOne)
	db.Close()
	sameCounts(t, path, 2*runOf+100)
	if r, err := Verify(t.Context(), path, ""); err != nil || !r.OK {
		t.Errorf("form 1: %+v, %v", r, err)
	}
	s = openStore(t, path)
	mustAppend(t, s, Event{Host: "new.example"})
	sameCounts(t, path, 2*runOf+101)
	wait(t, func() bool { return sumOf(t, path, "SELECT seq FROM summed") == 2*runOf })
	sameCounts(t, path, 2*runOf+101)
	closeStore(t, s)
	if r, err := Verify(t.Context(), path, ""); err != nil || !r.OK || r.Events != 2*runOf+101 {
		t.Errorf("%+v, %v", r, err)
	}
}

// formOne makes a database one as version 1 wrote it.
const formOne = `
DROP TRIGGER rollup_delete;
DROP TABLE rollup;
DROP TABLE summed;
CREATE TABLE rollup(
	hour INTEGER NOT NULL, denied INTEGER NOT NULL, layer TEXT NOT NULL, sandbox TEXT NOT NULL, agent TEXT NOT NULL,
	project TEXT NOT NULL, host TEXT NOT NULL, target TEXT NOT NULL, process TEXT NOT NULL, events INTEGER NOT NULL,
	count INTEGER NOT NULL, lost INTEGER NOT NULL, tokens_in INTEGER NOT NULL, tokens_out INTEGER NOT NULL,
	first INTEGER NOT NULL, last INTEGER NOT NULL,
	PRIMARY KEY(hour, denied, layer, sandbox, agent, project, host, target, process)
) STRICT, WITHOUT ROWID;
INSERT INTO rollup SELECT time - (time % 3600000000000 + 3600000000000) % 3600000000000 AS h, denied, layer, sandbox, agent, project,
	host, target, process, count(*), sum(count), sum(lost), 0, 0, min(time), max(time)
	FROM events GROUP BY h, denied, layer, sandbox, agent, project, host, target, process;
CREATE TRIGGER rollup_insert AFTER INSERT ON events BEGIN SELECT RAISE(ABORT, 'written as form 1'); END;
CREATE TRIGGER rollup_delete AFTER DELETE ON events BEGIN SELECT 1; END;
PRAGMA user_version=1;
`

// sameCounts says whether all ways to count give so many events.
func sameCounts(t *testing.T, path string, want int64) {
	t.Helper()
	r, err := OpenReader(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	totals, err := r.Totals(t.Context(), Filter{})
	if err != nil || totals.Events != want {
		t.Errorf("%d events in sum, want %d, %v", totals.Events, want, err)
	}
	groups, err := r.Group(t.Context(), Filter{}, ByHost, 0, nil)
	var sum int64
	for _, g := range groups {
		sum += g.Events
	}
	if err != nil || sum != want {
		t.Errorf("%d events in groups, want %d, %v", sum, want, err)
	}
}

func sumOf(t *testing.T, path, query string) (n int64) {
	t.Helper()
	db := openSQL(t, path)
	defer db.Close()
	if err := db.QueryRow(query).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}
