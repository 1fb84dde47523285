package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestAppendCompletes(t *testing.T) {
	path := storePath(t)
	s := openStore(t, path)
	got := mustAppend(t, s, Event{Layer: LayerDNS, Proto: "udp"})
	if !got.Time.Equal(noon) || len(got.ID) != 26 || got.Count != 1 || got.Sandbox != "unknown" || got.Verdict != "denied" {
		t.Errorf("completed to %+v", got)
	}
	local := time.Date(2026, 3, 1, 13, 0, 0, 5, time.FixedZone("", 3600))
	kept := mustAppend(t, s, Event{Time: local, Subject: Subject{Sandbox: "s"}, Count: 4, Verdict: "allowed", Duration: math.NaN()})
	if kept.Count != 4 || kept.Sandbox != "s" || kept.Verdict != "allowed" || kept.Duration != 0 {
		t.Errorf("changed to %+v", kept)
	}
	lost := mustAppend(t, s, Event{Rule: "lost", Lost: 7, Count: -3})
	if lost.Count != 0 || lost.Lost != 7 {
		t.Errorf("lost: %+v", lost)
	}
	closeStore(t, s)
	want := `{"time":"2026-03-01T12:00:00.123456789Z","id":"` + got.ID + `","sandbox":"unknown","agent":"","model":"","project":"",` +
		`"layer":"dns","proto":"udp","verdict":"denied","bytes_in":0,"bytes_out":0,"duration":0,"count":1}`
	var body, second string
	db := openSQL(t, path)
	if err := db.QueryRow("SELECT (SELECT body FROM events WHERE seq=1), (SELECT body FROM events WHERE seq=2)").Scan(&body, &second); err != nil {
		t.Fatal(err)
	}
	if body != want {
		t.Errorf("body\n%s\nwant\n%s", body, want)
	}
	if !strings.Contains(second, `"time":"2026-03-01T12:00:00.000000005Z"`) {
		t.Errorf("not in UTC: %s", second)
	}
}

func TestAppendRefuses(t *testing.T) {
	s := openStore(t, storePath(t))
	for name, e := range map[string]Event{
		"a third verdict":   {Verdict: "maybe"},
		"a time before all": {Time: time.Date(1969, 12, 31, 0, 0, 0, 0, time.UTC)},
		"a time after all":  {Time: time.Date(2300, 1, 1, 0, 0, 0, 0, time.UTC)},
	} {
		if _, err := s.Append(e); err == nil {
			t.Errorf("%s was accepted", name)
		}
		if all, err := s.AppendAll([]Event{{Verdict: "allowed"}, e}); err == nil || all != nil {
			t.Errorf("%s was accepted in AppendAll", name)
		}
	}
	if h := s.Health(); h.Appended != 0 || h.Head != (Head{}) {
		t.Errorf("something was stored: %+v", h)
	}
}

func TestFileModes(t *testing.T) {
	path := storePath(t)
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	s := openStore(t, path)
	mustAppend(t, s, Event{})
	for _, suffix := range []string{"", "-wal", "-shm", ".lock"} {
		if info, err := os.Stat(path + suffix); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v", suffix, info.Mode(), err)
		}
	}
	closeStore(t, s)
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	openStore(t, path)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("an open file was left at mode %v, %v", info.Mode(), err)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	if err := errors.Join(os.WriteFile(in("target"), nil, 0o600), os.Symlink(in("target"), in("link")), os.Symlink(in("new"), in("dangling")),
		syscall.Mkfifo(in("pipe"), 0o600), os.Symlink(in("new"), in("walled-wal")), os.Symlink(in("new"), in("locked.lock")), os.Mkdir(in("folder"), 0o700)); err != nil {
		t.Fatal(err)
	}
	other, newer := openSQL(t, in("other")), openSQL(t, in("newer"))
	mustExec(t, other, "CREATE TABLE theirs(x)")
	mustExec(t, newer, fmt.Sprintf("CREATE TABLE x(y); PRAGMA application_id=%d; PRAGMA user_version=%d", applicationID, schemaVersion+1))
	for name, want := range map[string]string{
		"link": "symbolic link", "dangling": "symbolic link", "walled": "symbolic link", "locked": "symbolic link",
		"pipe": "not a regular file", "folder": "not a regular file", "no/dir": "no such file",
		"other": "another program's", "newer": "newer version",
	} {
		s, err := Open(in(name), Options{})
		if err == nil {
			s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), in(name)) {
			t.Errorf("Open(%s): %v, want one with %q", name, err, want)
		}
	}
	if _, err := os.Stat(in("new")); err == nil {
		t.Error("the file behind a dangling link was made")
	}
	if aside, _ := filepath.Glob(in("*corrupt*")); aside != nil {
		t.Errorf("set aside: %v", aside)
	}
}

func TestOpenRefusesOthersFile(t *testing.T) {
	path := storePath(t)
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

func TestOneWriter(t *testing.T) {
	path := storePath(t)
	s := openStore(t, path)
	if _, err := Open(path, Options{}); err == nil || !strings.Contains(err.Error(), "another gateway") {
		t.Errorf("a second writer: %v", err)
	}
	mustAppend(t, s, Event{})
	closeStore(t, s)
	openStore(t, path)
}

func TestClosed(t *testing.T) {
	s := openStore(t, storePath(t))
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Error(err)
	}
	if _, err := s.Append(Event{}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Append: %v", err)
	}
	if _, open := <-s.Subscribe(1).C; open {
		t.Error("a subscription to a closed store")
	}
}

func TestConcurrentAppend(t *testing.T) {
	const writers, each = 8, 50
	path := storePath(t)
	s := openStore(t, path)
	var wg sync.WaitGroup
	for w := range writers {
		long := strings.Repeat(string(rune('a'+w)), 1500)
		wg.Go(func() {
			for i := range each {
				if _, err := s.AppendAll([]Event{{Host: long, Port: uint16(i), Verdict: "allowed"}, {Host: long, Verdict: "denied"}}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if h := s.Health(); h.Appended != writers*each+writers || h.Joined != writers*(each-1) || h.Open != writers || h.Failing != "" || h.Bytes == 0 {
		t.Errorf("health %+v", h)
	}
	closeStore(t, s)
	var own, denied int64
	for _, e := range chained(t, path) {
		if e.Verdict == "allowed" {
			own += e.Count
		} else {
			denied += e.Count
		}
	}
	if own != writers*each || denied != writers*each {
		t.Errorf("%d allowed and %d denied attempts", own, denied)
	}
	if report, err := Verify(t.Context(), path, s.Head().String()); err != nil || !report.OK {
		t.Errorf("verify: %+v, %v", report, err)
	}
}

// The file was removed, or replaced by an older one, while it was in use: nothing
// goes to where nobody finds it.
func TestDeletedFileIsMadeAgain(t *testing.T) {
	path := storePath(t)
	s := openStore(t, path)
	mustAppend(t, s, Event{Host: "a.example"})
	if err := os.Remove(path + "-wal"); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, s, Event{Host: "b.example"})
	if all := chained(t, path); len(all) != 2 {
		t.Errorf("after the log was removed: %+v", all)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, s, Event{Host: "c.example"})
	all := chained(t, path)
	if len(all) != 3 || all[0].Rule != RuleSetAside || all[1].Rule != RuleSetAside || all[2].Host != "c.example" {
		t.Errorf("after the file was removed: %+v", all)
	}
	if err := errors.Join(os.Remove(path), os.Symlink("/dev/null", path)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Append(Event{Host: "d.example"}); err == nil {
		t.Error("an event went to a symbolic link")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, s, Event{Host: "e.example"})
	closeStore(t, s)
	if _, err := os.Lstat(path + "-wal"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a log is left: %v", err)
	}
	if report, err := Verify(t.Context(), path, ""); err != nil || !report.OK {
		t.Errorf("verify: %+v, %v", report, err)
	}
}
