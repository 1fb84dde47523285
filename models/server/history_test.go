package server

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func newHistory(t *testing.T) *History {
	return &History{Path: filepath.Join(t.TempDir(), "starts.json")}
}

func TestHistoryKeepsTheLastStartAndTheRate(t *testing.T) {
	h := newHistory(t)
	first := Run{When: time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC), Stages: map[string]time.Duration{StageWeights: 90 * time.Second, StageCompile: 1500 * time.Millisecond}}
	if err := errors.Join(h.Save("gpt-oss", "strix", first), h.SaveRate("gpt-oss", "strix", 41.5), h.Save("gpt-oss", "", Run{Stages: map[string]time.Duration{StageWeights: time.Second}})); err != nil {
		t.Fatal(err)
	}
	want := first
	want.TokensPerSecond = 41.5
	got, err := h.Load("gpt-oss", "strix")
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("Load: %v\n%s", err, diff)
	}
	if got.Total() != 91500*time.Millisecond {
		t.Errorf("Total = %v", got.Total())
	}
	second := Run{When: first.When.Add(time.Hour), Stages: map[string]time.Duration{StageWeights: 80 * time.Second}}
	if err := h.Save("gpt-oss", "strix", second); err != nil {
		t.Fatal(err)
	}
	second.TokensPerSecond = 41.5
	if got, err := h.Load("gpt-oss", "strix"); err != nil || cmp.Diff(second, got) != "" {
		t.Errorf("the second start does not replace the first: %+v, %v", got, err)
	}
	if got, err := h.Load("gpt-oss", "other"); err != nil || got.Total() != 0 {
		t.Errorf("another machine: %+v, %v", got, err)
	}
	info, err := os.Stat(h.Path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestNoHistoryIsNoError(t *testing.T) {
	var none *History
	if r, err := none.Load("m", ""); err != nil || r.Total() != 0 {
		t.Error(r, err)
	}
	if err := errors.Join(none.Save("m", "", Run{}), none.SaveRate("m", "", 1)); err != nil {
		t.Error(err)
	}
	if r, err := newHistory(t).Load("m", ""); err != nil || r.Total() != 0 {
		t.Error(r, err)
	}
}

// A file that is none of ours is set aside, and a new one begun.
func TestHistorySetsACorruptFileAside(t *testing.T) {
	for name, text := range map[string]string{
		"cut":         `{"version":1,"runs":[{"model":"a"`,
		"empty":       "",
		"another one": `{"version":9}`,
		"too large":   `{"version":1,"runs":[]}` + strings.Repeat(" ", maxHistory),
		"a list":      `[]`,
	} {
		t.Run(name, func(t *testing.T) {
			h := newHistory(t)
			if err := os.WriteFile(h.Path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if r, err := h.Load("m", ""); err != nil || r.Total() != 0 {
				t.Errorf("Load: %+v, %v", r, err)
			}
			if err := h.SaveRate("m", "", 7); err != nil {
				t.Fatal(err)
			}
			if r, err := h.Load("m", ""); err != nil || r.TokensPerSecond != 7 {
				t.Errorf("Load after Save: %+v, %v", r, err)
			}
			if aside, err := os.ReadFile(h.Path + ".corrupt"); err != nil || string(aside) != text {
				t.Errorf("set aside: %d bytes, %v", len(aside), err)
			}
		})
	}
}

// Values that cannot be true are dropped, also those of a file that was edited.
func TestHistoryDropsWhatCannotBe(t *testing.T) {
	h := newHistory(t)
	if err := os.WriteFile(h.Path, []byte(`{"version":1,"runs":[{"model":"m","tokens_per_second":-3,"stages":{"weights":1e300,"compile":-1,"graphs":2,"nonsense":4}},{"model":"`+strings.Repeat("x", 500)+`"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := h.Load("m", "")
	if err != nil || r.TokensPerSecond != 0 || cmp.Diff(r.Stages, map[string]time.Duration{StageGraphs: 2 * time.Second}) != "" {
		t.Errorf("%+v, %v", r, err)
	}
	if err := h.Save(strings.Repeat("x", 500), "", Run{}); err == nil {
		t.Error("a name of 500 bytes is kept")
	}
}

func TestHistoryIsBounded(t *testing.T) {
	h := newHistory(t)
	for i := range maxRuns + 5 {
		if err := h.SaveRate(fmt.Sprintf("m%d", i), "", 1); err != nil {
			t.Fatal(err)
		}
	}
	file, err := h.read()
	if err != nil || len(file.Runs) != maxRuns || file.find("m4", "") >= 0 || file.find("m5", "") < 0 {
		t.Errorf("%d runs, %v", len(file.Runs), err)
	}
}

// Launchers that write at the same time do not undo each other's entries, and a
// reader never sees half a file.
func TestHistoryOfManyLaunchers(t *testing.T) {
	h := newHistory(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			mine := &History{Path: h.Path, patience: time.Minute}
			for j := range 10 {
				if err := mine.SaveRate(fmt.Sprintf("m%d-%d", i, j), "", 1); err != nil {
					t.Error(err)
				}
				if _, err := mine.read(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if file, err := h.read(); err != nil || len(file.Runs) != 80 {
		t.Errorf("%d of 80 runs, %v", len(file.Runs), err)
	}
}

// A launcher that holds the lock for ever does not hold up others.
func TestHistoryDoesNotWaitForEver(t *testing.T) {
	h := newHistory(t)
	h.patience = time.Nanosecond
	f, err := os.Create(h.Path + ".lock")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if err := h.SaveRate("m", "", 1); err == nil || !errors.Is(err, unix.EWOULDBLOCK) {
		t.Errorf("got %v", err)
	}
}
