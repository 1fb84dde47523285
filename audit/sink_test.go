package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func sinkPath(store string) string { return filepath.Join(filepath.Dir(store), "sink.jsonl") }

// sinkEvents returns the events in the sink's files, the oldest first.
func sinkEvents(t *testing.T, path string) []Event {
	t.Helper()
	var all []Event
	for i := 9; i >= 0; i-- {
		name := path
		if i > 0 {
			name = fmt.Sprintf("%s.%d", path, i)
		}
		data, err := os.ReadFile(name)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(data) {
			var e Event
			if json.Unmarshal(line, &e) == nil {
				all = append(all, e)
			}
		}
	}
	return all
}

func appendOwn(t *testing.T, s *Store, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		mustAppend(t, s, Event{Host: fmt.Sprintf("h%d.example", i), Verdict: "allowed"})
	}
}

// checkSink says whether the sink has these events, each once and in order.
func checkSink(t *testing.T, path string, from, to int) {
	t.Helper()
	var got, want []string
	for _, e := range sinkEvents(t, path) {
		got = append(got, e.Host)
	}
	for i := from; i < to; i++ {
		want = append(want, fmt.Sprintf("h%d.example", i))
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("the sink has %q, want %q", got, want)
	}
}

func TestSink(t *testing.T) {
	path := storePath(t)
	o := Options{Sink: &SinkOptions{Path: sinkPath(path), MaxBytes: 2000, Files: 9}}
	s := openWith(t, path, Options{})
	appendOwn(t, s, 100, 110) // before there was a sink: not copied
	closeStore(t, s)
	s = openWith(t, path, o)
	appendOwn(t, s, 0, 20)
	closeStore(t, s)
	checkSink(t, o.Sink.Path, 0, 20)
	for i := range 9 {
		name := fmt.Sprintf("%s.%d", o.Sink.Path, i)
		if i == 0 {
			name = o.Sink.Path
		}
		if info, err := os.Stat(name); err == nil && (info.Size() > 2000 || info.Mode().Perm() != 0o600) {
			t.Errorf("%s: %d bytes, mode %v", name, info.Size(), info.Mode())
		}
	}
	// What a crash kept from the sink comes after the next start, and a line that
	// it tore stays alone.
	s = openWith(t, path, Options{})
	appendOwn(t, s, 20, 25)
	closeStore(t, s)
	data, err := os.ReadFile(o.Sink.Path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(o.Sink.Path, append(data, `{"time":"2026`...), 0o600); err != nil {
		t.Fatal(err)
	}
	s = openWith(t, path, o)
	appendOwn(t, s, 25, 27)
	closeStore(t, s)
	checkSink(t, o.Sink.Path, 0, 27)
}

func TestSinkKeepsSoManyFiles(t *testing.T) {
	path := storePath(t)
	o := Options{Sink: &SinkOptions{Path: sinkPath(path), MaxBytes: 1000, Files: 2}}
	s := openWith(t, path, o)
	appendOwn(t, s, 0, 50)
	closeStore(t, s)
	if all := sinkEvents(t, o.Sink.Path); len(all) == 0 || len(all) > 12 || all[len(all)-1].Host != "h49.example" {
		t.Errorf("%d events in all", len(all))
	}
	if _, err := os.Stat(o.Sink.Path + ".3"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a third rotated file: %v", err)
	}
}

// A sink that cannot be written delays nothing and loses nothing of the store; it
// tells what it left out once it works.
func TestDeadSink(t *testing.T) {
	path := storePath(t)
	o := Options{Sink: &SinkOptions{Path: sinkPath(path), Queue: 10}}
	if err := syscall.Mkfifo(o.Sink.Path, 0o600); err != nil {
		t.Fatal(err)
	}
	s := openWith(t, path, o)
	appendOwn(t, s, 0, 30)
	wait(t, func() bool { return strings.Contains(s.Health().SinkFailing, "not a regular file") })
	if h := s.Health(); h.SinkQueued != 30 || h.Failing != "" || h.Appended != 30 {
		t.Errorf("health %+v", h)
	}
	if err := os.Remove(o.Sink.Path); err != nil {
		t.Fatal(err)
	}
	closeStore(t, s) // tries once more
	all := sinkEvents(t, o.Sink.Path)
	if len(all) != 11 || all[0].Rule != RuleSinkDropped || !strings.Contains(all[0].Reason, "20 events") || all[1].Host != "h20.example" {
		t.Errorf("the sink has %+v", all)
	}
	if h := s.Health(); h.SinkDropped != 20 || h.SinkQueued != 0 || h.SinkFailing != "" {
		t.Errorf("health %+v", h)
	}
	if len(chained(t, path)) != 30 {
		t.Error("the store lost events")
	}
}

// wait waits for what happens in another goroutine.
func wait(t *testing.T, until func() bool) {
	t.Helper()
	for tick := time.Tick(time.Millisecond); !until(); {
		select {
		case <-tick:
		case <-t.Context().Done():
			t.Fatal("it did not happen")
		}
	}
}

func TestSinkRefuses(t *testing.T) {
	path := storePath(t)
	link, dir, hard := sinkPath(path)+".link", filepath.Join(t.TempDir(), "dir"), sinkPath(path)+".hard"
	for from, to := range map[string]string{link: path, dir: filepath.Dir(path)} {
		if err := os.Symlink(to, from); err != nil {
			t.Fatal(err)
		}
	}
	closeStore(t, openStore(t, path))
	if err := os.Link(path, hard); err != nil {
		t.Fatal(err)
	}
	for _, sink := range []string{
		"", path, path + "-wal", path + "-shm", path + "-journal", path + ".lock", path + ".corrupt-x", hard,
		filepath.Join(dir, "audit.db-journal"), filepath.Join(filepath.Dir(path), "x", "..", "audit.db-wal"),
	} {
		if s, err := Open(path, Options{Sink: &SinkOptions{Path: sink}}); err == nil {
			closeStore(t, s)
			t.Errorf("the sink %q was accepted", sink)
		} else if sink != "" && !strings.Contains(err.Error(), "hint: name another file") {
			t.Errorf("the sink %q: %v", sink, err)
		}
	}
	s := openWith(t, path, Options{Sink: &SinkOptions{Path: link}})
	mustAppend(t, s, Event{})
	wait(t, func() bool { return strings.Contains(s.Health().SinkFailing, "symbolic link") })
}

// A shipper, or logrotate, may move the file away at any time.
func TestSinkFileIsMovedAway(t *testing.T) {
	path := storePath(t)
	o := Options{Sink: &SinkOptions{Path: sinkPath(path)}}
	s := openWith(t, path, o)
	appendOwn(t, s, 0, 3)
	wait(t, func() bool { return s.Health().SinkQueued == 0 })
	if err := os.Rename(o.Sink.Path, o.Sink.Path+".5"); err != nil {
		t.Fatal(err)
	}
	appendOwn(t, s, 3, 6)
	closeStore(t, s)
	checkSink(t, o.Sink.Path, 0, 6)
}
