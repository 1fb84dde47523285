package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestOpenReaderErrors(t *testing.T) {
	dir := t.TempDir()
	missing, empty, other, newer := filepath.Join(dir, "missing"), filepath.Join(dir, "empty"), filepath.Join(dir, "other"), filepath.Join(dir, "a?b#c%20d")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	mustExec(t, openSQL(t, other), "CREATE TABLE t(x)")
	newFiller(t, newer).exec("PRAGMA user_version = 99")
	tests := []struct {
		path, want string
		is         error
	}{
		{missing, "no such file", fs.ErrNotExist},
		{empty, "is empty", fs.ErrNotExist},
		{other, "another program's database", nil},
		{newer, "newer version", nil},
		{dir, "not a regular file", nil},
	}
	for _, tt := range tests {
		r, err := OpenReader(tt.path)
		if err == nil {
			r.Close()
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) || tt.is != nil && !errors.Is(err, tt.is) {
			t.Errorf("%s: %v, want %q", tt.path, err, tt.want)
		}
	}
	if left, err := filepath.Glob(missing + "*"); err != nil || left != nil {
		t.Errorf("it made %q", left)
	}
}

// A store whose folder cannot be written to, after its writer has ended.
func TestReaderImmutable(t *testing.T) {
	s := fill(t, timed(0, 0)...)
	if noLog(s.path) {
		t.Error("a writer, and no log")
	}
	if err := s.db.Close(); err != nil {
		t.Fatal(err)
	}
	if !noLog(s.path) {
		t.Error("the writer left a log")
	}
	r, err := connect(s.path, true)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got := all(t, r, Filter{}, Page{}); len(got) != 1 {
		t.Errorf("%+v", got)
	}
}

// Nothing that a Reader does can write.
func TestReaderOnlyReads(t *testing.T) {
	r := fill(t, timed(0, 3)...).reader()
	if _, err := r.db.Exec("DELETE FROM events"); err == nil || !strings.Contains(err.Error(), "readonly") {
		t.Errorf("deleted: %v", err)
	}
}

func TestEventsErrors(t *testing.T) {
	f := fill(t, timed(0, 2*batch)...)
	r := f.reader()
	enough := errors.New("enough")
	if err := r.Events(t.Context(), Filter{}, Page{}, func(Event) error { return enough }); err != enough {
		t.Errorf("error of each: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err := r.Events(ctx, Filter{}, Page{}, func(Event) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if err := r.Events(t.Context(), Filter{}, Page{After: "none"}, nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("after an unknown event: %v", err)
	}
}

// Whatever stands in a body, the other events are given, also by a search.
func TestEventsDamaged(t *testing.T) {
	events := timed(0, 9)
	events[2].Layer = LayerModel
	f := fill(t, events...)
	f.exec(`UPDATE events SET body = CASE seq WHEN 3 THEN '{' WHEN 5 THEN '{}' ELSE '[1]' END WHERE seq IN (3, 5, 7)`)
	r := f.reader()
	for filter, want := range map[*Filter][2]int{{}: {7, 3}, {Text: "EXAMPLE"}: {7, 3}, {Process: "/x*"}: {0, 0}} {
		given := 0
		err := r.Events(t.Context(), *filter, Page{}, func(Event) error { given++; return nil })
		damaged, _ := errors.AsType[*DamagedError](err)
		if given != want[0] || want[1] == 0 && err != nil || want[1] > 0 && (damaged == nil || damaged.Events != want[1] || damaged.First != 3) {
			t.Errorf("%+v: %d events, %v", filter, given, err)
		}
	}
	if _, err := r.Group(t.Context(), Filter{Text: "n"}, ByReason, 0, nil); err != nil {
		t.Error(err)
	}
	var b bytes.Buffer
	err := Export(t.Context(), r, &b, Filter{})
	if _, ok := errors.AsType[*DamagedError](err); !ok || strings.Count(b.String(), "\n") != 7 {
		t.Errorf("exported %d lines, %v", strings.Count(b.String(), "\n"), err)
	}
	f.exec("DELETE FROM events WHERE seq <= 8") // pruning does not stop at them
}

// What is read is the state at the beginning, also if much happens meanwhile:
// more is stored, and repeats that were open become part of the chain.
func TestEventsSnapshot(t *testing.T) {
	events := timed(0, 3*batch)
	open := events[5]
	open.ID, open.Open, open.RepeatOf, open.Time, open.Count = "01KZZZZZZZ0000000000000000", true, "X", noon.Add(time.Hour), 7
	f := fill(t, append(events, open)...)
	given, counts := map[string]int{}, int64(0)
	err := f.reader().Events(t.Context(), Filter{}, Page{}, func(e Event) error {
		if given[e.ID]++; len(given) == 1 {
			later := timed(1000, 1001)
			later[0].Time, later[1].Time = noon.Add(time.Minute), noon.Add(2*time.Hour)
			chained := open
			chained.Open, chained.Count = false, 9
			f.exec("DELETE FROM open")
			f.add(append(later, chained)...)
		}
		counts += e.Count
		return nil
	})
	if err != nil || len(given) != len(events)+1 || counts != int64(len(events))+7 {
		t.Errorf("%d events, %d attempts, %v", len(given), counts, err)
	}
}

func TestHead(t *testing.T) {
	f := fill(t)
	r := f.reader()
	if h, err := r.Head(t.Context()); err != nil || h != (Head{}) {
		t.Errorf("of nothing: %v, %v", h, err)
	}
	f.add(timed(0, 4)...)
	if h, err := r.Head(t.Context()); err != nil || h != f.head {
		t.Errorf("%v, want %v; %v", h, f.head, err)
	}
	f.exec("INSERT INTO checkpoints SELECT seq, hash, time, 5, 'age' FROM events WHERE seq = 5")
	f.exec("DELETE FROM events")
	if h, err := r.Head(t.Context()); err != nil || h != f.head {
		t.Errorf("of what was deleted: %v, want %v; %v", h, f.head, err)
	}
}

func TestExportIsWhatIsStored(t *testing.T) {
	events := timed(0, 3)
	events[1].Host = "\x1b[2J\u202e.example"
	f := fill(t, events...)
	var b bytes.Buffer
	if err := Export(t.Context(), f.reader(), &b, Filter{}); err != nil {
		t.Fatal(err)
	}
	rows, err := f.db.Query("SELECT body FROM events ORDER BY seq")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	want := ""
	for rows.Next() {
		var body string
		if err := rows.Scan(&body); err != nil {
			t.Fatal(err)
		}
		want += body + "\n"
	}
	if b.String() != want || strings.ContainsAny(want, "\x1b\u202e") {
		t.Errorf("%q, want %q", b.String(), want)
	}
	if err := Export(t.Context(), f.reader(), fullWriter{}, Filter{}); err == nil || !strings.Contains(err.Error(), "full") {
		t.Errorf("a full disk: %v", err)
	}
}

type fullWriter struct{}

func (fullWriter) Write([]byte) (int, error) { return 0, fmt.Errorf("full") }
