package audit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// followed runs Follow until the test ends; what it gives comes by the channel.
func followed(t *testing.T, path string, f Filter, after string) <-chan Event {
	t.Helper()
	r, err := OpenReader(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	events, ended := make(chan Event), make(chan error, 1)
	go func() {
		defer close(events)
		ended <- r.Follow(ctx, f, after, func(e Event) error {
			select {
			case events <- e:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Follow ended with %v", err)
		}
		r.Close()
	})
	return events
}

// distinct is a refusal that joins no other.
func distinct(i int) Event {
	return Event{Layer: LayerDNS, Host: fmt.Sprintf("n%d.example", i)}
}

// expect takes the events distinct(from) to distinct(to) in their order.
func expect(t *testing.T, events <-chan Event, from, to int) {
	t.Helper()
	for i := from; i <= to; i++ {
		if e, ok := <-events; e.Host != distinct(i).Host {
			t.Fatalf("%q, want event %d; it goes on: %v", e.Host, i, ok)
		}
	}
}

func appendAll(t *testing.T, s *Store, from, to int) {
	t.Helper()
	var many []Event
	for i := from; i <= to; i++ {
		many = append(many, distinct(i))
	}
	if _, err := s.AppendAll(many); err != nil {
		t.Fatal(err)
	}
}

func TestFollow(t *testing.T) {
	s := openStore(t, storePath(t))
	first := mustAppend(t, s, distinct(0))
	appendAll(t, s, 1, 3*batch) // more than one batch is there before
	events := followed(t, s.path, Filter{Host: "n*"}, first.ID)
	expect(t, events, 1, 3*batch)
	next := 3*batch + 1
	for range 30 {
		mustAppend(t, s, Event{Host: "other.example"}) // is left out
		appendAll(t, s, next, next+9)
		expect(t, events, next, next+9)
		next += 10
	}
}

// Repeats come when they are begun, when they are counted on, and when they are
// chained, always with one id.
func TestFollowRepeats(t *testing.T) {
	s := openStore(t, storePath(t))
	first := mustAppend(t, s, distinct(0))
	events := followed(t, s.path, Filter{}, first.ID)
	for count := int64(1); count <= 3; count++ {
		stored := mustAppend(t, s, distinct(0))
		if e := <-events; e.ID != stored.ID || e.Count != count || !e.Open || e.RepeatOf != first.ID {
			t.Errorf("%+v, want %+v", e, stored)
		}
	}
	closeStore(t, s)
	if e := <-events; e.Open || e.Count != 3 || e.RepeatOf != first.ID {
		t.Errorf("chained: %+v", e)
	}
}

// Without an event to begin after, only what is stored from now on comes: here
// the caller knows by a first event that following has begun.
func TestFollowFromNow(t *testing.T) {
	s := openStore(t, storePath(t))
	appendAll(t, s, 0, 9)
	mustAppend(t, s, distinct(0)) // an open row
	events := followed(t, s.path, Filter{}, "")
	for i := 10; ; i++ {
		mustAppend(t, s, distinct(i))
		select {
		case e := <-events:
			if e.Host < distinct(10).Host || e.Open {
				t.Errorf("%s was there before", e.Host)
			}
			return
		default:
		}
	}
}

// Old events are deleted under a reader; the new ones come all the same.
func TestFollowAcrossPrune(t *testing.T) {
	f := fill(t, timed(0, 9)...)
	events := followed(t, f.path, Filter{}, firstID(t, f))
	expect(t, events, 1, 9)
	for i := 10; i < 20; i++ {
		f.exec("INSERT INTO checkpoints SELECT seq, hash, time, 1, 'age' FROM events WHERE seq = ?", f.head.Seq-1)
		f.exec("DELETE FROM events WHERE seq < ?", f.head.Seq)
		f.add(timed(i, i)...)
		expect(t, events, i, i)
	}
}

// timed are events that are ready for a filler.
func timed(from, to int) []Event {
	var many []Event
	for i := from; i <= to; i++ {
		e := distinct(i)
		e.Time, e.Verdict, e.Count, e.Sandbox = noon, "denied", 1, "s1"
		many = append(many, e)
	}
	return many
}

func firstID(t *testing.T, f *filler) (id string) {
	t.Helper()
	if err := f.db.QueryRow("SELECT id FROM events ORDER BY seq LIMIT 1").Scan(&id); err != nil {
		t.Fatal(err)
	}
	return id
}

// The file is moved away and a new one is begun: the last events of the old one
// and all of the new one come.
func TestFollowAcrossReplacement(t *testing.T) {
	s := openStore(t, storePath(t))
	first := mustAppend(t, s, distinct(0))
	events := followed(t, s.path, Filter{}, first.ID)
	next := 1
	for round := range 3 {
		appendAll(t, s, next, next+4)
		closeStore(t, s)
		for _, end := range []string{"", "-wal", "-shm"} {
			if err := os.Rename(s.path+end, fmt.Sprintf("%s.corrupt-%d%s", s.path, round, end)); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
		}
		s = openStore(t, s.path)
		appendAll(t, s, next+5, next+9)
		expect(t, events, next, next+9)
		next += 10
	}
}

const followWriter = "AUDIT_TEST_FOLLOW_WRITER"

// Not a test by itself: the other process of TestFollowOtherProcess.
func TestFollowWriter(t *testing.T) {
	path := os.Getenv(followWriter)
	if path == "" {
		return
	}
	s := openWith(t, path, Options{})
	for i := 1; i <= 500; i++ {
		mustAppend(t, s, distinct(i))
	}
	closeStore(t, s)
}

func TestFollowOtherProcess(t *testing.T) {
	s := openStore(t, storePath(t))
	first := mustAppend(t, s, distinct(0))
	closeStore(t, s)
	events := followed(t, s.path, Filter{}, first.ID)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestFollowWriter$")
	cmd.Env = append(os.Environ(), followWriter+"="+s.path)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	expect(t, events, 1, 500)
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

func TestFollowErrors(t *testing.T) {
	f := fill(t, timed(0, 3)...)
	r := f.reader()
	enough := errors.New("enough")
	if err := r.Follow(t.Context(), Filter{}, firstID(t, f), func(Event) error { return enough }); err != enough {
		t.Errorf("error of each: %v", err)
	}
	if err := r.Follow(t.Context(), Filter{}, "none", nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("unknown id: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Follow(ctx, Filter{}, "", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
