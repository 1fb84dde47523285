package audit

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"path/filepath"
	"testing"
)

// filler writes events into a database as they are, without a Store.
type filler struct {
	t    testing.TB
	path string
	db   *sql.DB
	head Head
	ids  ids

	summed int64
}

func newFiller(t testing.TB, path string) *filler {
	t.Helper()
	db, err := sql.Open("sqlite", writerDSN(path))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	db.SetMaxOpenConns(1)
	c, err := db.Conn(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if err := create(context.Background(), c); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	return &filler{t: t, path: path, db: db}
}

func fill(t testing.TB, events ...Event) *filler {
	t.Helper()
	f := newFiller(t, filepath.Join(t.TempDir(), "audit.db"))
	f.add(events...)
	return f
}

// add stores events in one transaction: those with Open as open rows. An empty
// id is made.
func (f *filler) add(events ...Event) {
	f.t.Helper()
	tx, err := f.db.Begin()
	if err != nil {
		f.t.Fatal(err)
	}
	for _, e := range events {
		f.insert(tx, e)
	}
	f.sum(tx, f.head.Seq-f.head.Seq%7) // so that some are not
	if err := tx.Commit(); err != nil {
		f.t.Fatal(err)
	}
}

// sum sums up events by the hour, up to number to.
func (f *filler) sum(tx *sql.Tx, to int64) {
	f.t.Helper()
	if to <= f.summed {
		return
	}
	if _, err := tx.Exec(sumUp, f.summed, to); err != nil {
		f.t.Fatal(err)
	}
	if _, err := tx.Exec("UPDATE summed SET seq = ?", to); err != nil {
		f.t.Fatal(err)
	}
	f.summed = to
}

func (f *filler) sumAll() {
	f.t.Helper()
	tx, err := f.db.Begin()
	if err != nil {
		f.t.Fatal(err)
	}
	f.sum(tx, f.head.Seq)
	if err := tx.Commit(); err != nil {
		f.t.Fatal(err)
	}
}

func (f *filler) insert(tx *sql.Tx, e Event) {
	f.t.Helper()
	if e.ID == "" {
		id, err := f.ids.next(e.Time)
		if err != nil {
			f.t.Fatal(err)
		}
		e.ID = id
	}
	stored := e
	stored.Open = false
	line, err := Encode(stored)
	if err != nil {
		f.t.Fatal(err)
	}
	body := line[:len(line)-1]
	c := columnsOf(e)
	if e.Open {
		key := sha256.Sum256([]byte(e.ID))
		_, err = tx.Exec(`INSERT OR REPLACE INTO open(key, id, repeat_of, body, count, first, last, time, denied, layer, sandbox, agent, project, host, target, process, lost)
			VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)`,
			key[:], e.ID, e.RepeatOf, string(body), c.count, nanos(e.First), nanos(e.Last), c.time, c.denied, c.layer, c.sandbox, c.agent, c.project, c.host, c.target, c.process, c.lost)
	} else {
		f.head = f.head.next(body)
		_, err = tx.Exec(`INSERT INTO events(seq, id, body, hash, time, denied, layer, sandbox, agent, project, host, target, process, count, lost)
			VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)`,
			f.head.Seq, e.ID, string(body), f.head.Hash[:], c.time, c.denied, c.layer, c.sandbox, c.agent, c.project, c.host, c.target, c.process, c.count, c.lost)
	}
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *filler) exec(query string, args ...any) {
	f.t.Helper()
	if _, err := f.db.Exec(query, args...); err != nil {
		f.t.Fatal(err)
	}
}

func (f *filler) reader() *Reader {
	f.t.Helper()
	r, err := OpenReader(f.path)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { r.Close() })
	return r
}

// all returns what Events gives.
func all(t testing.TB, r *Reader, f Filter, p Page) []Event {
	t.Helper()
	var events []Event
	if err := r.Events(context.Background(), f, p, func(e Event) error {
		events = append(events, e)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return events
}
