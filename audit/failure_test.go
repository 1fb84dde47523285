package audit

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// childFull fills a disk that it makes itself, in namespaces of its own: a tmpfs
// of 1 MB. It prints what happens.
func childFull(path, failure string) {
	check(syscall.Mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""))
	check(syscall.Mount("none", filepath.Dir(path), "tmpfs", 0, "size=1m"))
	ballast := filepath.Join(filepath.Dir(path), "ballast")
	check(os.WriteFile(ballast, make([]byte, 200<<10), 0o600))
	o := Options{}
	if failure == "continue" {
		o.OnFailure = FailContinue
	}
	s, err := Open(path, o)
	check(err)
	var attempts, failed int64
	for i := 0; ; i++ {
		e, err := s.Append(Event{Host: fmt.Sprintf("h%d.example", i), Verdict: []string{"allowed", "denied"}[i%2]})
		attempts++
		if err != nil || e.ID == "" {
			if failed++; failed == 1 {
				fmt.Println("first", err)
			}
		}
		if failed == 7 || i > 100_000 {
			break
		}
	}
	if _, err := s.AppendAll([]Event{{Verdict: "allowed"}}); err == nil && failure == "continue" {
		failed++
		attempts++
	}
	h := s.Health()
	fmt.Println("failing", h.Failing != "", h.NotKept, h.Refused)
	check(os.Remove(ballast))
	_, err = s.Append(Event{Host: "again.example", Verdict: "allowed"})
	check(err)
	attempts++
	fmt.Println("again", s.Health().Failing == "")
	check(s.Close())
	report, err := Verify(context.Background(), path, s.Head().String())
	check(err)
	var count, lost int64
	var reason string
	db := must(openReader(path))
	check(db.db.QueryRow("SELECT sum(count), sum(lost) FROM events").Scan(&count, &lost))
	check(db.db.QueryRow("SELECT body ->> '$.reason' FROM events WHERE body ->> '$.rule'='not-kept'").Scan(&reason))
	fmt.Println("sum", report.OK, count+lost == attempts, lost == failed)
	fmt.Println("reason", reason)
}

func must[T any](v T, err error) T {
	check(err)
	return v
}

func check(err error) {
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
}

func TestFullDisk(t *testing.T) {
	for failure, want := range map[string][]string{
		"deny":     {"first append to audit store", "failing true 0 7\n", "again true\n", "sum true true true\n", "7 refused for that, 0 refused by policy, 0 allowed; ", "full"},
		"continue": {"first <nil>\n", "failing true 8 0\n", "again true\n", "sum true true true\n", "0 refused for that, ", "full"},
	} {
		t.Run(failure, func(t *testing.T) {
			cmd := child(t, "full", storePath(t), failure)
			ownNamespaces(cmd)
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			for _, w := range want {
				if !strings.Contains(string(out), w) {
					t.Errorf("no %q in\n%s", w, out)
				}
			}
		})
	}
}

// childLimit hits a limit of the size of files in the middle of a write.
func childLimit(path string) {
	signal.Ignore(syscall.SIGXFSZ)
	s, err := Open(path, Options{})
	check(err)
	limit := func(bytes uint64) {
		var old syscall.Rlimit
		check(syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old))
		check(syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: bytes, Max: old.Max}))
	}
	limit(uint64(fileSize(path+"-wal")) + 50_000)
	for failed := 0; failed < 3; {
		e, err := s.Append(Event{Host: "h", Verdict: "allowed"})
		if err != nil {
			failed++
			fmt.Println("failed", err)
			continue
		}
		fmt.Println("kept", e.ID)
	}
	limit(1 << 30)
	e, err := s.Append(Event{Host: "h", Verdict: "allowed"})
	check(err)
	fmt.Println("kept", e.ID)
	os.Exit(0) // without Close
}

func TestShortWrite(t *testing.T) {
	path := storePath(t)
	out, err := child(t, "limit", path).Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if r, err := Verify(t.Context(), path, ""); err != nil || !r.OK {
		t.Errorf("%+v, %v", r, err)
	}
	var stored, kept []string
	var lost int64
	for _, e := range chained(t, path) {
		lost += e.Lost
		if e.Rule == "" {
			stored = append(stored, e.ID)
		}
	}
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		if id, ok := strings.CutPrefix(lines.Text(), "kept "); ok {
			kept = append(kept, id)
		}
	}
	if len(kept) < 3 || strings.Join(kept, " ") != strings.Join(stored, " ") || lost != 3 {
		t.Errorf("kept %q, stored %q, %d lost", kept, stored, lost)
	}
}

// childReadOnly opens a store in a folder that it makes read-only.
func childReadOnly(path string) {
	dir := filepath.Dir(path)
	check(syscall.Mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""))
	check(syscall.Mount(dir, dir, "", syscall.MS_BIND, ""))
	check(syscall.Mount("none", dir, "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
	_, err := Open(path, Options{})
	fmt.Println("open", err)
	r, err := Verify(context.Background(), path, "")
	fmt.Println("verify", r.OK, r.Events, err)
}

func TestReadOnly(t *testing.T) {
	path, _ := fiveEvents(t)
	cmd := child(t, "readonly", path)
	ownNamespaces(cmd)
	out, err := cmd.Output()
	if err != nil || !strings.Contains(string(out), "read-only") || !strings.Contains(string(out), "verify true 5 <nil>") {
		t.Errorf("%v\n%s", err, out)
	}
}

// A file that is no database, or a broken one, is set aside whole, and a new one
// begun that says so.
func TestDamagedFileIsSetAside(t *testing.T) {
	for name, harm := range map[string]func(data []byte) []byte{
		"not a database": func([]byte) []byte { return []byte(strings.Repeat("no database ", 1000)) },
		"schema": func(data []byte) []byte {
			return bytes.Replace(data, []byte("CREATE TABLE meta"), []byte("CREATE TABBE meta"), 1)
		},
		"pages": func(data []byte) []byte { clear(data[4096:]); return data },
		"cut":   func(data []byte) []byte { return data[:8192] },
	} {
		t.Run(name, func(t *testing.T) {
			path, _ := fiveEvents(t)
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			data = harm(data)
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			s := openStore(t, path)
			mustAppend(t, s, Event{Host: "new.example"})
			aside := s.Health().SetAside
			closeStore(t, s)
			if kept, err := os.ReadFile(aside); err != nil || !bytes.Equal(kept, data) {
				t.Errorf("%s: %v, or another content", aside, err)
			}
			all := chained(t, path)
			if len(all) != 2 || all[0].Rule != RuleSetAside || !strings.Contains(all[0].Reason, aside) || all[0].Count != 0 || all[1].Host != "new.example" {
				t.Errorf("%+v", all)
			}
		})
	}
}

// A store that is found damaged while it runs is set aside at once, at most once
// a minute, and no event is lost by that.
func TestDamagedWhileRunning(t *testing.T) {
	path := storePath(t)
	s := openStore(t, path)
	mustAppend(t, s, Event{Host: "a.example"})
	harm := func() {
		mustExec(t, openSQL(t, path), `PRAGMA writable_schema=ON; UPDATE sqlite_schema SET rootpage=999999 WHERE name='events_time'; PRAGMA schema_version=99`)
	}
	harm()
	mustAppend(t, s, Event{Host: "b.example"})
	if all := chained(t, path); len(all) != 2 || all[0].Rule != RuleSetAside || all[1].Host != "b.example" {
		t.Errorf("%+v", all)
	}
	harm()
	if _, err := s.Append(Event{Host: "c.example"}); err == nil {
		t.Error("a second file was set aside within a minute")
	}
	if h := s.Health(); !strings.Contains(h.Failing, "malformed") || h.Refused != 1 {
		t.Errorf("health %+v", h)
	}
}

// A sync that fails is a failure to record, until all is on the disk by another
// way; events that come while one takes long wait for it.
func TestSyncFails(t *testing.T) {
	path := storePath(t)
	s := openStore(t, path)
	broken := errors.New("the disk is broken")
	done := make(chan struct{})
	s.sync.mu.Lock()
	s.sync.sync = func(*os.File) error {
		defer close(done)
		return broken
	}
	s.sync.mu.Unlock()
	mustAppend(t, s, Event{})
	<-done
	wait(t, func() bool { return s.sync.failing() != nil })
	s.sync.mu.Lock()
	s.sync.sync = func(*os.File) error { return nil }
	s.sync.mu.Unlock()
	if h := s.Health(); !strings.Contains(h.Failing, broken.Error()) {
		t.Errorf("health %+v", h)
	}
	reader := openSQL(t, path)
	tx, err := reader.Begin() // keeps the checkpoint from reaching the end
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if err := tx.QueryRow("SELECT count(*) FROM events").Scan(&n); err != nil {
		t.Fatal(err)
	}
	other := openSQL(t, path)
	mustExec(t, other, "CREATE TABLE later(x)")
	if _, err := s.Append(Event{Host: "b.example"}); !errors.Is(err, errSync) || !errors.Is(err, broken) {
		t.Errorf("append: %v", err)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, s, Event{Host: "c.example"})
	if h := s.Health(); h.Failing != "" || h.Refused != 1 {
		t.Errorf("health %+v", h)
	}
}

func TestSyncer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSyncer()
		file, err := os.Create(filepath.Join(t.TempDir(), "wal"))
		if err != nil {
			t.Fatal(err)
		}
		begun, end := make(chan time.Time, 1), make(chan struct{})
		s.sync = func(*os.File) error {
			begun <- time.Now()
			<-end
			return nil
		}
		if err := s.use(file); err != nil {
			t.Fatal(err)
		}
		commit := time.Now()
		s.committed(commit)
		if at := <-begun; at.Sub(commit) != syncAfter {
			t.Errorf("the sync began after %v", at.Sub(commit))
		}
		s.wait() // it is not late yet
		s.committed(time.Now())
		time.Sleep(syncWithin)
		waited := make(chan time.Time)
		go func() { s.wait(); waited <- time.Now() }()
		synctest.Wait()
		select {
		case <-waited:
			t.Error("nothing waited for the late sync")
		default:
		}
		close(end)
		<-waited
		if at := <-begun; at.Sub(commit) > syncWithin+syncAfter+time.Millisecond {
			t.Errorf("the second sync began after %v", at.Sub(commit))
		}
		if err := s.use(nil); err != nil {
			t.Error(err)
		}
	})
}
