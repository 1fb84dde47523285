package audit

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestAppendCompletes(t *testing.T) {
	path := logPath(t)
	l := openLog(t, path)
	got := mustAppend(t, l, Event{Layer: LayerDNS, Proto: "udp"})
	if !got.Time.Equal(noon) || len(got.ID) != 26 || got.Count != 1 || got.Sandbox != "unknown" || got.Verdict != "denied" {
		t.Errorf("completed to %+v", got)
	}
	local := time.Date(2026, 3, 1, 13, 0, 0, 5, time.FixedZone("", 3600))
	kept := mustAppend(t, l, Event{Time: local, ID: "X", Subject: Subject{Sandbox: "s"}, Count: 4, Verdict: "allowed"})
	if kept.ID != "X" || kept.Count != 4 || kept.Sandbox != "s" || kept.Verdict != "allowed" {
		t.Errorf("changed to %+v", kept)
	}
	all := lines(t, path)
	want := `{"time":"2026-03-01T12:00:00.123456789Z","id":"` + got.ID + `","sandbox":"unknown","agent":"","model":"","project":"",` +
		`"layer":"dns","proto":"udp","verdict":"denied","bytes_in":0,"bytes_out":0,"duration":0,"count":1}`
	if all[0] != want {
		t.Errorf("line\n%s\nwant\n%s", all[0], want)
	}
	if !strings.Contains(all[1], `"time":"2026-03-01T12:00:00.000000005Z"`) {
		t.Errorf("not in UTC: %s", all[1])
	}
	if _, err := l.Append(Event{Verdict: "maybe"}); err == nil {
		t.Error("a third verdict was accepted")
	}
}

func TestOpenMode(t *testing.T) {
	path := logPath(t)
	openLog(t, path)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	openLog(t, path)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("an open file was left at mode %v, %v", info.Mode(), err)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "target")
	link := filepath.Join(dir, "link")
	pipe := filepath.Join(dir, "pipe")
	if err := errors.Join(os.WriteFile(target, nil, 0o600), os.Symlink(target, link), syscall.Mkfifo(pipe, 0o600)); err != nil {
		t.Fatal(err)
	}
	dangling := filepath.Join(dir, "dangling")
	if err := os.Symlink(filepath.Join(dir, "new"), dangling); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		link:                            "symbolic link",
		dangling:                        "symbolic link",
		pipe:                            "not a regular file",
		dir:                             "directory",
		filepath.Join(dir, "no", "dir"): "no such file",
	} {
		l, err := Open(path, Options{})
		if err == nil {
			l.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("Open(%s): %v, want one with %q", path, err, want)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "new")); err == nil {
		t.Error("the file behind the dangling link was made")
	}
}

func TestOpenRefusesOthersFile(t *testing.T) {
	path := logPath(t)
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := acceptable(info, os.Geteuid()); err != nil {
		t.Errorf("our own file: %v", err)
	}
	if err := acceptable(info, os.Geteuid()+1); err == nil {
		t.Error("somebody else's file is accepted")
	}
	if os.Geteuid() != 0 {
		return // only root can give files away
	}
	if err := os.Chown(path, 12345, 12345); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, Options{}); err == nil || !strings.Contains(err.Error(), "12345") {
		t.Errorf("Open: %v", err)
	}
}

func TestTornLastLine(t *testing.T) {
	path := logPath(t)
	whole := `{"time":"2026-03-01T11:00:00Z","id":"A","verdict":"denied","count":1}` + "\n"
	if err := os.WriteFile(path, []byte(whole+`{"time":"2026-03-01T11:0`), 0o600); err != nil {
		t.Fatal(err)
	}
	l := openLog(t, path)
	b := mustAppend(t, l, Event{})
	c := mustAppend(t, l, Event{})
	events, err := ReadAll(t.Context(), path, Filter{})
	damaged, ok := errors.AsType[*DamagedError](err)
	if !ok || damaged.Lines != 1 || damaged.First != 2 {
		t.Errorf("error %v", err)
	}
	ownLines(t, path, b.ID, c.ID)
	if len(events) != 3 || events[0].ID != "A" || events[1].ID != b.ID || events[2].ID != c.ID {
		t.Errorf("events %+v", events)
	}
}

// A write that stops in mid-line is an error; the next events are readable.
func TestShortWrite(t *testing.T) {
	path := logPath(t)
	l := openLog(t, path)
	first := mustAppend(t, l, Event{})
	room := 40
	l.write = func(fd int, p []byte) (int, error) {
		if room == 0 {
			return -1, syscall.ENOSPC
		}
		n := min(room, len(p))
		room -= n
		return syscall.Write(fd, p[:n])
	}
	for i, want := range []string{"wrote 40 of", "no space"} {
		if _, err := l.Append(Event{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("append %d: %v, want %q", i, err, want)
		}
	}
	l.write = syscall.Write
	last := mustAppend(t, l, Event{})
	checkIDs(t, path, 1, first.ID, last.ID)
	ownLines(t, path, first.ID, last.ID)
}

// ownLines checks that each event stands in a line of its own, for readers that
// are not ours.
func ownLines(t *testing.T, path string, ids ...string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		found := false
		for line := range strings.Lines(string(data)) {
			found = found || json.Valid([]byte(line)) && strings.Contains(line, id)
		}
		if !found {
			t.Errorf("event %s has no line of its own in\n%s", id, data)
		}
	}
}

func checkIDs(t *testing.T, path string, damage int, ids ...string) {
	t.Helper()
	events, err := ReadAll(t.Context(), path, Filter{})
	lines := 0
	if d, ok := errors.AsType[*DamagedError](err); ok {
		lines, err = d.Lines, nil
	}
	if err != nil || lines != damage {
		t.Errorf("%d damaged lines, want %d; error %v", lines, damage, err)
	}
	var got []string
	for _, e := range events {
		got = append(got, e.ID)
	}
	if strings.Join(got, " ") != strings.Join(ids, " ") {
		t.Errorf("ids %q, want %q", got, ids)
	}
}

func TestInterruptedWrite(t *testing.T) {
	path := logPath(t)
	l := openLog(t, path)
	interrupted := false
	l.write = func(fd int, p []byte) (int, error) {
		if !interrupted {
			interrupted = true
			return -1, syscall.EINTR
		}
		return syscall.Write(fd, p)
	}
	e := mustAppend(t, l, Event{})
	checkIDs(t, path, 0, e.ID)
}

func TestDeletedFileIsMadeAgain(t *testing.T) {
	path := logPath(t)
	l := openLog(t, path)
	mustAppend(t, l, Event{})
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	e := mustAppend(t, l, Event{})
	checkIDs(t, path, 0, e.ID)
	if err := errors.Join(os.Remove(path), os.Symlink("/dev/null", path)); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(Event{}); err == nil {
		t.Error("an event went to a symbolic link")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	e = mustAppend(t, l, Event{})
	checkIDs(t, path, 0, e.ID)
}

func TestClosed(t *testing.T) {
	l := openLog(t, logPath(t))
	if err := errors.Join(l.Close(), l.Close()); err != nil {
		t.Error(err)
	}
	if _, err := l.Append(Event{}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Append: %v", err)
	}
}

func TestConcurrentAppend(t *testing.T) {
	const writers, each = 8, 200
	path := logPath(t)
	var wg sync.WaitGroup
	for w := range writers {
		l := openLog(t, path) // every writer its own descriptor, as processes have
		long := strings.Repeat(string(rune('a'+w)), 1500)
		wg.Go(func() {
			for range each {
				if _, err := l.Append(Event{Host: long, Path: long, Reason: long}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	n := 0
	err := Read(t.Context(), path, Filter{}, func(e Event) error {
		n++
		if len(e.Host) != 1500 || strings.Trim(e.Host, e.Host[:1]) != "" || e.Host != e.Reason {
			t.Errorf("mixed: %.40q", e.Host)
		}
		return nil
	})
	if err != nil || n != writers*each {
		t.Errorf("%d events, %v", n, err)
	}
}

func BenchmarkAppend(b *testing.B) {
	l, err := Open(filepath.Join(b.TempDir(), "audit.jsonl"), Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	e := Event{Layer: LayerDNS, Proto: "udp", Host: "api.example.com", Method: "A", Src: "10.213.0.1:5353", Dst: "203.0.113.53:53"}
	for b.Loop() {
		if _, err := l.Append(e); err != nil {
			b.Fatal(err)
		}
	}
}
