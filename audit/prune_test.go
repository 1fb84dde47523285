package audit

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// old makes events that are so many hours old, so many of each age.
func old(each int, hours ...int) []Event {
	var es []Event
	for _, h := range hours {
		for i := range each {
			es = append(es, Event{Time: noon.Add(-time.Duration(h) * time.Hour), Host: fmt.Sprintf("h%d-%d.example", h, i), Verdict: "allowed"})
		}
	}
	return es
}

func store(t *testing.T, s *Store, es []Event) {
	t.Helper()
	if _, err := s.AppendAll(es); err != nil {
		t.Fatal(err)
	}
}

func TestPruneByAge(t *testing.T) {
	path := storePath(t)
	s := openStore(t, path)
	store(t, s, old(700, 48, 36, 30))
	store(t, s, old(300, 2, 1))
	reader, err := OpenReader(path) // what it reads is not touched
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	tx, err := reader.db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	count := func() (n int) {
		if err := tx.QueryRow("SELECT count(*) FROM events").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := count(); n != 2700 {
		t.Errorf("%d events", n)
	}
	head := s.Head()
	closeStore(t, s)
	s = openWith(t, path, Options{Now: func() time.Time { return noon }, Keep: 24 * time.Hour})
	wait(t, func() bool { return s.Health().Pruned == 2100 })
	if n := count(); n != 2700 {
		t.Errorf("the reader sees %d events", n)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, s, Event{Host: "new.example"})
	r, err := Verify(t.Context(), path, head.String())
	if err != nil || !r.OK || r.First.Seq != 2101 || r.Events != 601 || r.Checkpoints != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err := Verify(t.Context(), path, "7:"+strings.Repeat("0", 64)); err != nil || r.OK || !strings.Contains(r.Problems[0].What, "cannot be compared") {
		t.Errorf("%+v, %v", r, err)
	}
	db := openSQL(t, path)
	var seq, events int64
	var why string
	if err := db.QueryRow("SELECT seq, events, why FROM checkpoints").Scan(&seq, &events, &why); err != nil || seq != 2100 || events != 2100 || why != "age" {
		t.Errorf("checkpoint %d, %d, %s, %v", seq, events, why, err)
	}
	closeStore(t, s)
	mustExec(t, db, "UPDATE checkpoints SET hash=zeroblob(32)")
	if r, err := Verify(t.Context(), path, ""); err != nil || r.OK || r.Problems[0].Seq != 2101 {
		t.Errorf("a changed checkpoint: %+v, %v", r, err)
	}
}

// All events may go: the chain goes on from the checkpoint.
func TestPruneAll(t *testing.T) {
	path := storePath(t)
	s := openWith(t, path, Options{Now: func() time.Time { return noon }})
	store(t, s, old(10, 48))
	head := s.Head()
	closeStore(t, s)
	s = openWith(t, path, Options{Now: func() time.Time { return noon }, Keep: time.Hour})
	wait(t, func() bool { return s.Health().Pruned == 10 })
	if s.Head() != head {
		t.Errorf("head %v, want %v", s.Head(), head)
	}
	closeStore(t, s)
	if r, err := Verify(t.Context(), path, head.String()); err != nil || !r.OK || r.Head != head || r.Events != 0 {
		t.Errorf("%+v, %v", r, err)
	}
	for asked, want := range map[string]string{"7:": "cannot be compared", "10:": "changed", "11:": "cut"} {
		r, err := Verify(t.Context(), path, asked+strings.Repeat("0", 64))
		if err != nil || len(r.Problems) != 1 || !strings.Contains(r.Problems[0].What, want) {
			t.Errorf("head %s: %+v, %v", asked, r, err)
		}
	}
	s = openStore(t, path)
	mustAppend(t, s, Event{})
	closeStore(t, s)
	if r, err := Verify(t.Context(), path, ""); err != nil || !r.OK || r.First.Seq != 11 {
		t.Errorf("%+v, %v", r, err)
	}
}

// A clock that was wrong for a while deletes nothing that is new, and an event of
// the far future keeps no old ones.
func TestPruneWithAWrongClock(t *testing.T) {
	path := storePath(t)
	s := openStore(t, path)
	future, past := old(1, -24*365), old(1, 24*365)
	store(t, s, future)
	store(t, s, old(2, 48, 1))
	store(t, s, past)
	closeStore(t, s)
	s = openWith(t, path, Options{Now: func() time.Time { return noon }, Keep: 24 * time.Hour})
	wait(t, func() bool { return s.Health().Pruned > 0 })
	closeStore(t, s)
	if all := chained(t, path); len(all) != 3 || all[0].Host != "h1-0.example" || all[2].Host != past[0].Host {
		t.Errorf("left %+v", all)
	}
}

// A clock that is behind makes all events future ones. None goes for that, but
// many of them keep no older ones.
func TestPruneWithAClockThatIsBehind(t *testing.T) {
	path := storePath(t)
	s := openStore(t, path)
	store(t, s, old(2*pruneBatch, 1))
	closeStore(t, s)
	for _, behind := range []time.Duration{25 * time.Hour, 365 * 24 * time.Hour} {
		s = openWith(t, path, Options{Now: func() time.Time { return noon.Add(-behind) }, Keep: time.Hour})
		closeStore(t, s) // Open and Close look
		if n := len(chained(t, path)); n != 2*pruneBatch || s.Health().Pruned != 0 {
			t.Errorf("%v behind: %d events, %d deleted", behind, n, s.Health().Pruned)
		}
	}

	path = storePath(t)
	s = openStore(t, path)
	store(t, s, old(2*pruneBatch+1, -24*365))
	store(t, s, old(2, 48))
	store(t, s, old(3, -24*365, 1))
	closeStore(t, s)
	s = openWith(t, path, Options{Now: func() time.Time { return noon }, Keep: 24 * time.Hour})
	for range 5 { // each one deletes a batch
		mustAppend(t, s, Event{Verdict: "allowed"})
	}
	if h := s.Health(); h.Pruned != 2*pruneBatch+3 {
		t.Errorf("%d events were deleted", h.Pruned)
	}
}

// A store that is written all the time stays within its size.
func TestPruneBySize(t *testing.T) {
	const most = 2 << 20
	path := storePath(t)
	var n atomic.Int64
	s := openWith(t, path, Options{Max: most, Now: func() time.Time { return noon.Add(time.Duration(n.Add(1)) * time.Second) }})
	for i := range 50 {
		store(t, s, old(100, i))
		if size := fileSize(path); size > most {
			t.Fatalf("the database has %d bytes after %d events", size, (i+1)*100)
		}
	}
	h := s.Health()
	if h.Pruned == 0 || h.Appended != 5000 {
		t.Errorf("health %+v", h)
	}
	head := s.Head()
	closeStore(t, s)
	r, err := Verify(t.Context(), path, head.String())
	if err != nil || !r.OK || r.First.Seq != h.Pruned+1 || r.Events < 500 {
		t.Errorf("%+v, %v", r, err)
	}
}

// The write-ahead log is begun anew again and again, with a reader that comes and
// goes.
func TestLogIsBounded(t *testing.T) {
	path := storePath(t)
	s := openStore(t, path)
	r, err := OpenReader(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for i := range 4000 {
		mustAppend(t, s, refused)
		if i%100 == 0 {
			if _, err := r.Head(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if size := fileSize(path + "-wal"); size == 0 || size > walKept {
		t.Errorf("the log has %d bytes", size)
	}
}
