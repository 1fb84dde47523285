package audit

import (
	"errors"
	"fmt"
	"os"
	"testing"
)

func TestAppendEach(t *testing.T) {
	s := openStore(t, storePath(t))
	events := make([]Event, 20)
	for i := range events {
		events[i] = Event{Layer: LayerDNS, Host: fmt.Sprintf("name%d.example", i), Verdict: "denied"}
	}
	if err := s.AppendEach(events); err != nil {
		t.Fatal(err)
	}
	if h := s.Health(); h.Appended != int64(len(events)) || events[3] != (Event{Layer: LayerDNS, Host: "name3.example", Verdict: "denied"}) {
		t.Errorf("%+v, %+v", h, events[3])
	}
	if err := s.AppendEach(nil); err != nil {
		t.Error(err)
	}
	closeStore(t, s)
	if err := s.AppendEach(events); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a closed store: %v", err)
	}
}

// Events that cannot be stored together are counted one by one, and told of once one
// can be.
func TestAppendEachFails(t *testing.T) {
	path := storePath(t)
	s := openStore(t, path)
	broken := errors.New("the disk is broken")
	s.sync.mu.Lock()
	s.sync.sync = func(*os.File) error { return broken }
	s.sync.mu.Unlock()
	mustAppend(t, s, Event{})
	wait(t, func() bool { return s.sync.failing() != nil })
	tx, err := openSQL(t, path).Begin() // keeps the checkpoint from reaching the end
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if err := tx.QueryRow("SELECT count(*) FROM events").Scan(&n); err != nil {
		t.Fatal(err)
	}
	mustExec(t, openSQL(t, path), "CREATE TABLE later(x)")
	if err := s.AppendEach([]Event{{Host: "a.example"}, {Host: "b.example"}, {Lost: 5}}); !errors.Is(err, broken) {
		t.Errorf("append: %v", err)
	}
	if h := s.Health(); h.Refused != 7 || h.Appended != 1 {
		t.Errorf("health %+v", h)
	}
	s.sync.mu.Lock()
	s.sync.sync = func(*os.File) error { return nil }
	s.sync.mu.Unlock()
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, s, Event{Host: "c.example"})
	closeStore(t, s)
	lost := int64(0)
	for _, e := range chained(t, path) {
		lost += e.Lost
		if e.Host == "a.example" || e.Host == "b.example" {
			t.Errorf("stored %+v", e)
		}
	}
	if lost != 7 {
		t.Errorf("%d are told of", lost)
	}
}
