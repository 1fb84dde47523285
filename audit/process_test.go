package audit

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
)

// childTask names what a copy of this test binary does instead of testing.
const childTask = "AUDIT_TEST_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(childTask) {
	case "append":
		childAppend(os.Args[1])
	case "limit":
		childLimit(os.Args[1])
	default:
		os.Exit(m.Run())
	}
}

func child(t *testing.T, task, path string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, path)
	cmd.Env = append(os.Environ(), childTask+"="+task)
	cmd.Stderr = os.Stderr
	return cmd
}

// childAppend appends for ever and prints the id of each acknowledged event.
func childAppend(path string) {
	l, err := Open(path, Options{})
	for err == nil {
		var e Event
		if e, err = l.Append(Event{Host: strings.Repeat("x", 300)}); err == nil {
			_, err = fmt.Println(e.ID)
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// Two processes append to one log and are killed: every acknowledged event is
// there, and nothing is mixed.
func TestKilled(t *testing.T) {
	path := logPath(t)
	for round := range 3 {
		acked := map[string]bool{}
		a, outA := start2(t, path)
		b, outB := start2(t, path)
		scanA, scanB := bufio.NewScanner(outA), bufio.NewScanner(outB)
		for range 100 + round*37 {
			collect(t, scanA, acked)
			collect(t, scanB, acked)
		}
		for _, cmd := range []*exec.Cmd{a, b} {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
		drain(scanA, acked)
		drain(scanB, acked)
		for _, cmd := range []*exec.Cmd{a, b} {
			if err := cmd.Wait(); err == nil {
				t.Error("the child was not killed")
			}
		}
		if err := Read(t.Context(), path, Filter{}, func(e Event) error {
			delete(acked, e.ID)
			return nil
		}); err != nil {
			t.Error(err)
		}
		if len(acked) > 0 {
			t.Errorf("round %d: %d acknowledged events are gone", round, len(acked))
		}
	}
}

func start2(t *testing.T, path string) (*exec.Cmd, io.Reader) {
	t.Helper()
	cmd := child(t, "append", path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, out
}

func collect(t *testing.T, s *bufio.Scanner, ids map[string]bool) {
	t.Helper()
	if !s.Scan() {
		t.Fatal("the child ended")
	}
	ids[s.Text()] = true
}

func drain(s *bufio.Scanner, ids map[string]bool) {
	for s.Scan() {
		if len(s.Text()) == 26 { // the last line may be cut
			ids[s.Text()] = true
		}
	}
}

// childLimit appends until the kernel writes only a part of a line (a file size
// limit acts as a full disk does), lifts the limit, and appends again.
func childLimit(path string) {
	signal.Ignore(syscall.SIGXFSZ)
	l, err := Open(path, Options{})
	if err != nil {
		panic(err)
	}
	limit := func(bytes uint64) {
		var old syscall.Rlimit
		if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
			panic(err)
		}
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: bytes, Max: old.Max}); err != nil {
			panic(err)
		}
	}
	limit(1000)
	failed := 0
	for failed < 3 {
		e, err := l.Append(Event{Host: "h"})
		if err != nil {
			failed++
			fmt.Println("failed", err)
			continue
		}
		fmt.Println("kept", e.ID)
	}
	limit(1 << 20)
	e, err := l.Append(Event{Host: "h"})
	if err != nil {
		panic(err)
	}
	fmt.Println("kept", e.ID)
}

func TestFullDisk(t *testing.T) {
	path := logPath(t)
	out, err := child(t, "limit", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	var kept []string
	for line := range strings.Lines(string(out)) {
		if id, ok := strings.CutPrefix(strings.TrimSpace(line), "kept "); ok {
			kept = append(kept, id)
		}
	}
	if len(kept) < 3 || strings.Count(string(out), "failed") != 3 || !strings.Contains(string(out), "is the disk full?") {
		t.Errorf("the child printed\n%s", out)
	}
	checkIDs(t, path, 1, kept...)
}
