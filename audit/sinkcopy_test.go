package audit

import (
	"os"
	"strings"
	"syscall"
	"testing"
)

// own makes what appendOwn appends, to be stored in one transaction.
func own(from, to int) []Event {
	var es []Event
	for i := from; i < to; i++ {
		es = append(es, Event{Host: "h" + string(rune('a'+i)) + ".example", Verdict: "allowed"})
	}
	return es
}

// sinkHas says in one line what the sink has: hosts, and the rules of others.
func sinkHas(t *testing.T, path string) string {
	t.Helper()
	var all []string
	for _, e := range sinkEvents(t, path) {
		name := strings.TrimSuffix(e.Host, ".example") + e.Rule
		if count, _, ok := strings.Cut(e.Reason, " events are not in this copy"); ok {
			name += " " + count
		}
		all = append(all, name)
	}
	return strings.Join(all, ",")
}

// When the store begins anew while it runs, the sink has all of the new file, also
// if that has more events already than the old one had, and tells what it had not
// copied of the old one.
func TestSinkOfAStoreThatBeginsAnew(t *testing.T) {
	for name, anew := range map[string]func(t *testing.T, path string){
		"damaged": func(t *testing.T, path string) {
			mustExec(t, openSQL(t, path), `PRAGMA writable_schema=ON; UPDATE sqlite_schema SET rootpage=999999 WHERE name='events_time'; PRAGMA schema_version=99`)
		},
		"deleted": func(t *testing.T, path string) {
			for _, suffix := range []string{"", "-wal", "-shm"} {
				if err := os.Remove(path + suffix); err != nil {
					t.Fatal(err)
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := storePath(t)
			o := Options{Sink: &SinkOptions{Path: sinkPath(path)}}
			s := openWith(t, path, o)
			store(t, s, own(0, 3))
			wait(t, func() bool { return s.Health().SinkQueued == 0 })
			anew(t, path)
			store(t, s, own(3, 9))
			closeStore(t, s)
			if got, want := sinkHas(t, o.Sink.Path), "ha,hb,hc,set-aside,hd,he,hf,hg,hh,hi"; got != want {
				t.Errorf("the sink has %s, want %s", got, want)
			}
			if h := s.Health(); h.SinkDropped != 0 || h.SinkQueued != 0 {
				t.Errorf("health %+v", h)
			}

			path = storePath(t)
			o.Sink.Path = sinkPath(path)
			if err := syscall.Mkfifo(o.Sink.Path, 0o600); err != nil { // it cannot be written
				t.Fatal(err)
			}
			s = openWith(t, path, o)
			store(t, s, own(0, 3))
			anew(t, path)
			store(t, s, own(3, 4))
			if h := s.Health(); h.SinkDropped != 3 || h.SinkQueued != 2 {
				t.Errorf("health %+v", h)
			}
			if err := os.Remove(o.Sink.Path); err != nil {
				t.Fatal(err)
			}
			closeStore(t, s)
			if got, want := sinkHas(t, o.Sink.Path), "sink-dropped 3,set-aside,hd"; got != want {
				t.Errorf("the sink has %s, want %s", got, want)
			}
			if h := s.Health(); h.SinkDropped != 3 || h.SinkQueued != 0 {
				t.Errorf("health %+v", h)
			}
		})
	}
}

// What is being copied while the store begins anew is neither told as dropped nor
// taken for a part of the new file.
func TestSinkWhileTheStoreBeginsAnew(t *testing.T) {
	s := &sink{o: SinkOptions{Queue: 10}, head: 20, written: 5}
	from, dropped, ok := s.next(0)
	if from != 10 || dropped != 5 || !ok {
		t.Errorf("from %d, %d dropped, %v", from, dropped, ok)
	}
	s.restart()
	if _, _, ok := s.next(0); ok {
		t.Error("the old era goes on")
	}
	s.advance(0, 18, dropped, 8)
	if s.written != 0 || s.dropped != 5 || s.skipped != 2 || !s.waits {
		t.Errorf("%+v", s)
	}
	s.begin(Head{})
	s.wake(Head{Seq: 4})
	from, dropped, ok = s.next(s.era)
	if from != 0 || dropped != 2 || !ok {
		t.Errorf("from %d, %d dropped, %v", from, dropped, ok)
	}
	s.advance(s.era, 4, dropped, 4)
	if s.written != 4 || s.dropped != 7 || s.skipped != 0 {
		t.Errorf("%+v", s)
	}
}
