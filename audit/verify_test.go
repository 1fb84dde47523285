package audit

import (
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"
)

// fiveEvents makes a store of five events, the fourth of which are repeats that
// a crash left open, and returns its path and head.
func fiveEvents(t testing.TB) (path string, head Head) {
	t.Helper()
	path = storePath(t)
	s := openStore(t, path)
	for i := range 3 {
		mustAppend(t, s, Event{Host: fmt.Sprintf("h%d.example", i), Verdict: "allowed"})
	}
	mustAppend(t, s, refused)
	mustAppend(t, s, refused)
	closeStore(t, s)
	return path, s.Head()
}

func TestVerify(t *testing.T) {
	path, head := fiveEvents(t)
	for _, asked := range []string{"", head.String(), strings.SplitN(head.String(), ":", 2)[1]} {
		r, err := Verify(t.Context(), path, asked)
		if err != nil || !r.OK || r.Events != 5 || r.First.Seq != 1 || r.Head != head || r.Open != 0 || r.Problems != nil {
			t.Errorf("%+v, %v", r, err)
		}
	}
	for _, asked := range []string{"x", "5:12", "-1:" + strings.Repeat("0", 64), strings.Repeat("0", 63)} {
		if _, err := Verify(t.Context(), path, asked); err == nil || !strings.Contains(err.Error(), "hint:") {
			t.Errorf("head %q: %v", asked, err)
		}
	}
	if _, err := Verify(t.Context(), storePath(t), ""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no store: %v", err)
	}
}

// What is done to a store past its writer is found, and at which event.
func TestVerifyFinds(t *testing.T) {
	swap := func(columns string) string {
		return `UPDATE events SET seq=seq+10 WHERE seq IN (2, 4); ` + columns
	}
	tests := []struct {
		name, do string
		seq      int64
		want     string
	}{
		{"body", `UPDATE events SET body=replace(body, 'h1.ex', 'h9.ex') WHERE seq=2`, 2, "content does not fit its hash"},
		{"body of the last", `UPDATE events SET body=replace(body, '"count":1', '"count":2') WHERE seq=5`, 5, "content does not fit its hash"},
		{"body that is no JSON", `UPDATE events SET body='{' WHERE seq=2`, 2, "cannot be read"},
		{"hash", `UPDATE events SET hash=zeroblob(32) WHERE seq=3`, 3, "its hash is another"},
		{"short hash", `UPDATE events SET hash=x'00' WHERE seq=3`, 3, "no hash"},
		{"column", `UPDATE events SET sandbox='x' WHERE seq=3`, 3, "column sandbox"},
		{"time column", `UPDATE events SET time=time+1 WHERE seq=1`, 1, "column time"},
		{"count column", `UPDATE events SET count=9 WHERE seq=1`, 1, "column count"},
		{"id column", `UPDATE events SET id='x' WHERE seq=1`, 1, "column id"},
		{"missing", `DELETE FROM events WHERE seq=3`, 3, "missing: event 3"},
		{"several missing", `DELETE FROM events WHERE seq IN (2,3)`, 2, "missing: events 2 to 3"},
		{"missing first", `DELETE FROM events WHERE seq=1`, 1, "missing: event 1"},
		{"tail", `DELETE FROM events WHERE seq>=4`, 4, "cut"},
		{"all", `DELETE FROM events`, 1, "cut"},
		{"bodies swapped", `CREATE TEMP TABLE was AS SELECT seq, body FROM events; UPDATE events SET body=(SELECT body FROM was WHERE was.seq=6-events.seq) WHERE seq IN (2, 4)`, 2, "reordered: events 2 and 4"},
		{"events swapped", swap(`UPDATE events SET seq=16-seq WHERE seq IN (12, 14)`), 2, "reordered: events 2 and 4"},
		{"neighbours swapped", `UPDATE events SET seq=seq+10 WHERE seq IN (2, 3); UPDATE events SET seq=15-seq WHERE seq IN (12, 13)`, 2, "reordered: events 2 and 3"},
		{"moved to the front", `UPDATE events SET seq=-1 WHERE seq=3`, 0, "before the first"},
		{"note of the end", `UPDATE meta SET value='5:' || printf('%064d', 0)`, 5, "it was noted"},
		{"note of the end unreadable", `UPDATE meta SET value='x'`, 0, "damaged"},
		{"checkpoint made up", `INSERT INTO checkpoints VALUES(0, zeroblob(3), 0, 0, '')`, 0, "damaged"},
		{"index", `PRAGMA writable_schema=ON; UPDATE sqlite_schema SET rootpage=(SELECT rootpage FROM sqlite_schema WHERE name='open') WHERE name='events_time'`, 0, "damaged"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path, _ := fiveEvents(t)
			db := openSQL(t, path)
			mustExec(t, db, tt.do)
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			r, err := Verify(t.Context(), path, "")
			if err != nil || r.OK {
				t.Fatalf("%+v, %v", r, err)
			}
			for _, p := range r.Problems {
				if p.Seq == tt.seq && strings.Contains(p.What, tt.want) {
					return
				}
			}
			t.Errorf("problems %+v, want one at %d with %q", r.Problems, tt.seq, tt.want)
		})
	}
}

// One change makes one problem, not one for every event after it.
func TestVerifyNamesTheOne(t *testing.T) {
	for _, do := range []string{
		`UPDATE events SET body=replace(body, '"count":1', '"count": 1') WHERE seq=2`, `UPDATE events SET hash=zeroblob(32) WHERE seq=2`,
	} {
		path, _ := fiveEvents(t)
		db := openSQL(t, path)
		mustExec(t, db, do)
		if r, err := Verify(t.Context(), path, ""); err != nil || len(r.Problems) != 1 || r.Problems[0].Seq != 2 {
			t.Errorf("%s: %+v, %v", do, r, err)
		}
	}
}

// Of events that changed places, those between and after them are not blamed.
func TestVerifyNamesTheMoved(t *testing.T) {
	for _, moved := range [][2]int64{{2, 3}, {2, 4}, {1, 4}, {1, 5}} {
		path, _ := fiveEvents(t)
		db := openSQL(t, path)
		mustExec(t, db, fmt.Sprintf(`UPDATE events SET seq=seq+10 WHERE seq IN (%[1]d, %[2]d); UPDATE events SET seq=%[1]d+%[2]d+10-seq WHERE seq>10`, moved[0], moved[1]))
		r, err := Verify(t.Context(), path, "")
		named := map[int64]bool{}
		for _, p := range r.Problems {
			named[p.Seq] = true
		}
		if err != nil || len(named) != 2 || !named[moved[0]] || !named[moved[1]] {
			t.Errorf("%v: %+v, %v", moved, r, err)
		}
	}
}

func TestVerifyHead(t *testing.T) {
	path, head := fiveEvents(t)
	db := openSQL(t, path)
	// Who cuts the tail with care leaves no other trace than the head.
	var third string
	if err := db.QueryRow(`SELECT '3:' || lower(hex(hash)) FROM events WHERE seq=3`).Scan(&third); err != nil {
		t.Fatal(err)
	}
	mustExec(t, db, `DELETE FROM events WHERE seq>3; UPDATE meta SET value=?`, third)
	if r, err := Verify(t.Context(), path, ""); err != nil || !r.OK {
		t.Fatalf("cut with care: %+v, %v", r, err)
	}
	for asked, want := range map[string]string{
		head.String(): "cut: the head is event 5, and the last one is 3", head.String()[2:]: "not in the chain",
		"2:" + head.String()[2:]: "the chain at event 2 is not the head's",
	} {
		r, err := Verify(t.Context(), path, asked)
		if err != nil || r.OK || len(r.Problems) != 1 || !strings.Contains(r.Problems[0].What, want) {
			t.Errorf("%s: %+v, %v", asked, r, err)
		}
	}
	if r, err := Verify(t.Context(), path, third); err != nil || !r.OK {
		t.Errorf("the head that is there: %+v, %v", r, err)
	}
}

func TestVerifyOpenRows(t *testing.T) {
	for _, do := range []string{
		`UPDATE open SET count=count+1`, `UPDATE open SET body='{'`, `UPDATE open SET target='x'`,
	} {
		path := storePath(t)
		s := openStore(t, path)
		mustAppend(t, s, refused)
		mustAppend(t, s, refused)
		db := openSQL(t, path)
		mustExec(t, db, do)
		if r, err := Verify(t.Context(), path, ""); err != nil || r.OK || r.Open != 1 || !strings.Contains(r.Problems[0].What, "being counted") {
			t.Errorf("%s: %+v, %v", do, r, err)
		}
	}
}

// The next start tells of a tail that was cut, for ever.
func TestCutTailIsRecorded(t *testing.T) {
	path, _ := fiveEvents(t)
	db := openSQL(t, path)
	mustExec(t, db, `DELETE FROM events WHERE seq>3`)
	s := openStore(t, path)
	closeStore(t, s)
	all := chained(t, path)
	if len(all) != 4 || all[3].Rule != RuleCut || !strings.Contains(all[3].Reason, "ended with event 3:") || all[3].Count != 0 {
		t.Errorf("%+v", all)
	}
}

func TestVerifyWhileItIsWritten(t *testing.T) {
	path := storePath(t)
	s := openStore(t, path)
	stop, stopped := make(chan struct{}), make(chan struct{})
	mustAppend(t, s, Event{Verdict: "allowed"})
	go func() {
		defer close(stopped)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				if _, err := s.Append(Event{Verdict: []string{"allowed", "denied"}[i%2]}); err != nil {
					t.Error(err)
				}
			}
		}
	}()
	for range 10 {
		if r, err := Verify(t.Context(), path, ""); err != nil || !r.OK {
			t.Errorf("%+v, %v", r, err)
		}
	}
	close(stop)
	<-stopped
}

// A byte that is flipped in what was chained is found; one that is flipped
// anywhere in the file is found too, or changes nothing; and nothing panics.
func FuzzVerify(f *testing.F) {
	path, head := fiveEvents(f)
	whole, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	db := openSQL(f, path)
	before := everything(f, db)
	db.Close()
	columns := []string{"body", "hash", "id", "time", "denied", "layer", "sandbox", "agent", "project", "host", "target", "process", "count", "lost"}
	for i := range columns {
		f.Add(uint32(i*137), byte(1), uint8(i))
	}
	f.Add(uint32(100), byte(0xff), uint8(200))
	f.Fuzz(func(t *testing.T, offset uint32, flip byte, where uint8) {
		if flip == 0 {
			return
		}
		path := storePath(t)
		data := append([]byte(nil), whole...)
		anywhere := int(where) >= len(columns)
		if anywhere {
			data[int(offset)%len(data)] ^= flip
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if !anywhere && !flipCell(t, path, columns[where], offset, flip) {
			return
		}
		r, err := Verify(t.Context(), path, head.String())
		if !anywhere && (err != nil || r.OK) {
			t.Errorf("a byte of column %s was flipped: %+v, %v", columns[where], r, err)
		}
		if err == nil && r.OK {
			db := openSQL(t, path)
			if after := everything(t, db); after != before {
				t.Errorf("OK, and it is\n%s\nbefore\n%s", after, before)
			}
		}
	})
}

func everything(t testing.TB, db *sql.DB) string {
	t.Helper()
	var all sql.NullString
	if err := db.QueryRow(`SELECT group_concat(seq||id||body||hex(hash)||time||denied||layer||sandbox||agent||project||host||target||process||count||lost, x'0a') FROM (SELECT * FROM events ORDER BY seq)`).Scan(&all); err != nil {
		t.Fatal(err)
	}
	return all.String
}

// flipCell flips bits of one byte of one event's column, or of a number. It says
// whether the database takes that: not if two events had one id.
func flipCell(t *testing.T, path, column string, offset uint32, flip byte) bool {
	t.Helper()
	db := openSQL(t, path)
	defer db.Close()
	seq := int64(offset%5) + 1
	var value any
	if err := db.QueryRow(`SELECT `+column+` FROM events WHERE seq=?`, seq).Scan(&value); err != nil {
		t.Fatal(err)
	}
	change := func(b []byte) []byte {
		if len(b) == 0 {
			return []byte{flip}
		}
		b[int(offset/5)%len(b)] ^= flip
		return b
	}
	switch v := value.(type) {
	case int64:
		value = v ^ int64(flip)<<(offset%48)
	case string:
		value = string(change([]byte(v)))
	case []byte:
		value = change(v)
	case time.Time:
		t.Fatal("a time")
	}
	_, err := db.Exec(`UPDATE events SET `+column+`=? WHERE seq=?`, value, seq)
	if err != nil && !strings.Contains(err.Error(), "UNIQUE constraint failed: events.id") {
		t.Fatal(err)
	}
	return err == nil
}
