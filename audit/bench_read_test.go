package audit

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// million makes a store of a million events: four sessions a day for a month,
// each of some thousand attempts by a few processes at a few dozen of hosts, and
// one in thirty at a host that occurs once.
func million(b *testing.B) *filler {
	f := newFiller(b, b.TempDir()+"/audit.db")
	f.exec("PRAGMA synchronous=OFF")
	tx, err := f.db.Begin()
	if err != nil {
		b.Fatal(err)
	}
	stmt, err := tx.Prepare(`INSERT INTO events(seq, id, body, hash, time, denied, layer, sandbox, agent, project, host, target, process, count, lost)
		VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)`)
	if err != nil {
		b.Fatal(err)
	}
	const events, sessions = 1_000_000, 120
	r := rand.New(rand.NewPCG(1, 2))
	for i := range events {
		session := i / (events / sessions)
		e := sessionEvent(r, session)
		e.Time = noon.Add(-30*day + time.Duration(session)*6*time.Hour + time.Duration(i%(events/sessions))*3*time.Hour/(events/sessions))
		f.load(stmt, e)
	}
	if err := tx.Commit(); err != nil {
		b.Fatal(err)
	}
	f.sumAll()
	f.exec("PRAGMA wal_checkpoint(TRUNCATE)")
	return f
}

func sessionEvent(r *rand.Rand, session int) Event {
	e := Event{
		Subject: Subject{Sandbox: fmt.Sprintf("3fa85f64%04d", session), Agent: "claude", Model: "gpt-oss", Project: fmt.Sprintf("/home/u/src/project%d", session%12)},
		Proto:   "tcp", Src: "10.213.0.9:53412", Dst: "203.0.113.9:443", Port: 443, Verdict: "denied", Rule: "deny", Status: 403, Count: 1, Duration: 0.0012,
	}
	at := min(int(r.ExpFloat64()*8), 40)
	e.Layer = []Layer{LayerDNS, LayerProxy, LayerIntercept}[at%3]
	e.Host = fmt.Sprintf("host%d.example", (session*7+at)%500)
	if r.IntN(30) == 0 {
		e.Host = fmt.Sprintf("%x.data.example", r.Uint64())
	}
	e.Reason = e.Host + " is not on the allow list"
	name := []string{"node", "curl", "git", "pip", "python3"}[at%5]
	e.Process = &Process{PID: 100 + at, UID: 1000, Exe: "/usr/bin/" + name, Command: name + " https://" + e.Host + "/", Parents: []Parent{{12, "bash"}, {1, "claude"}}}
	if r.IntN(10) == 0 {
		e.Layer, e.Host, e.Method, e.Path, e.Verdict, e.Rule, e.Reason = LayerModel, "10.213.0.1", "POST", "/v1/messages", "allowed", "model", ""
		e.TokensIn, e.TokensOut = 1000, 100
	}
	return e
}

// load stores one event with a prepared statement.
func (f *filler) load(stmt *sql.Stmt, e Event) {
	id, err := f.ids.next(e.Time)
	if err != nil {
		f.t.Fatal(err)
	}
	e.ID = id
	line, err := Encode(e)
	if err != nil {
		f.t.Fatal(err)
	}
	f.head = f.head.next(line[:len(line)-1])
	c := columnsOf(e)
	if _, err := stmt.Exec(f.head.Seq, e.ID, string(line[:len(line)-1]), f.head.Hash[:], c.time, c.denied, c.layer, c.sandbox, c.agent, c.project, c.host, c.target, c.process, c.count, c.lost); err != nil {
		f.t.Fatal(err)
	}
}

// BenchmarkMillion is how long questions take over a million events.
func BenchmarkMillion(b *testing.B) {
	f := million(b)
	r := f.reader()
	lastDay := Filter{Since: noon.Add(-day), NotAgents: []string{"verify"}}
	b.Run("GroupByHost", func(b *testing.B) {
		for b.Loop() {
			groups(b, r, Filter{}, ByHost, 0)
		}
	})
	b.Run("FirstPage", func(b *testing.B) {
		for b.Loop() {
			firstPage(b, r, lastDay)
		}
	})
	b.Run("FirstPageOfAll", func(b *testing.B) {
		for b.Loop() {
			firstPage(b, r, Filter{NotAgents: []string{"verify"}})
		}
	})
	b.Run("SearchText", func(b *testing.B) {
		for b.Loop() {
			groups(b, r, Filter{Text: "not there"}, ByHost, 10)
		}
	})
	b.Run("Novel", func(b *testing.B) {
		for b.Loop() {
			if found, err := r.Novel(b.Context(), Filter{}); err != nil || len(found) == 0 {
				b.Fatal(len(found), err)
			}
		}
	})
}

// firstPage asks what the page asks for when it is opened.
func firstPage(b *testing.B, r *Reader, f Filter) {
	newest := 0
	err := r.Events(b.Context(), f, Page{Limit: 100, Newest: true}, func(Event) error { newest++; return nil })
	if err != nil || newest != 100 {
		b.Fatal(newest, err)
	}
	if t, err := r.Totals(b.Context(), f); err != nil || t.Events == 0 {
		b.Fatal(t, err)
	}
	if h, err := r.Histogram(b.Context(), f, time.Hour, time.UTC); err != nil || len(h) == 0 {
		b.Fatal(len(h), err)
	}
	groups(b, r, f, ByHost, 10)
	groups(b, r, f, ByProcess, 10)
}

func groups(b *testing.B, r *Reader, f Filter, by By, limit int) {
	if _, err := r.Group(context.Background(), f, by, limit, nil); err != nil {
		b.Fatal(err)
	}
}
