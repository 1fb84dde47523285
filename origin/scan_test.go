package origin

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// A look goes through all processes of the machine again as soon as one began, when
// a second has passed, and where it has to be thorough.
func TestForget(t *testing.T) {
	root := t.TempDir()
	newest := func(pid int) {
		if err := os.WriteFile(filepath.Join(root, "loadavg"), fmt.Appendf(nil, "0.1 0.2 0.3 1/2 %d\n", pid), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	begin := func(pid int) {
		dir := filepath.Join(root, fmt.Sprint(pid))
		if err := errors.Join(os.MkdirAll(filepath.Join(dir, "ns"), 0o755), os.MkdirAll(filepath.Join(dir, "fd"), 0o755),
			os.MkdirAll(filepath.Join(dir, "task"), 0o755), os.Symlink("net:[5]", filepath.Join(dir, "ns/net")),
			os.Symlink(socketLink(77), filepath.Join(dir, "fd/3"))); err != nil {
			t.Fatal(err)
		}
	}
	f := newFinder(Sandbox{Netns: 5}, root)
	who := func(thorough bool) []int {
		t.Helper()
		l := &look{Finder: f, thorough: thorough, at: time.Now(), lastPID: lastPID(root), inside: map[int]bool{}, left: 100,
			holders: map[uint64][]holder{77: nil}}
		l.forget()
		if err := l.scan(); err != nil {
			t.Fatal(err)
		}
		has := map[int]bool{}
		for _, h := range l.holders[77] {
			has[h.pid] = true
		}
		return slices.Sorted(maps.Keys(has))
	}
	want := func(when string, thorough bool, pids ...int) {
		t.Helper()
		if got := who(thorough); !slices.Equal(got, pids) {
			t.Errorf("%s: the socket is said to be of %v, wanted %v", when, got, pids)
		}
	}
	newest(7)
	begin(7)
	want("at first", false, 7)
	begin(8) // which the kernel would not do without another newest process
	f.described[thread{7, "."}] = described{exe: "/bin/agent"}
	want("as long as no process began", false, 7)
	if len(f.described) != 1 {
		t.Error("what was told of a process is forgotten though none began")
	}
	newest(8)
	want("once a process began", false, 7, 8)
	if len(f.described) != 0 {
		t.Error("what was told of a process is kept though one began")
	}
	begin(9)
	want("of the same newest process", false, 7, 8)
	want("thorough", true, 7, 8, 9)
	begin(10)
	f.since = f.since.Add(-2 * seenFor)
	want("a second later", false, 7, 8, 9, 10)
	if err := os.Remove(filepath.Join(root, "loadavg")); err != nil {
		t.Fatal(err)
	}
	begin(11)
	want("where the newest process is not known", false, 7, 8, 9, 10, 11)
	begin(12)
	want("still", false, 7, 8, 9, 10, 11, 12)
	newest(12)
	want("known again", false, 7, 8, 9, 10, 11, 12)
	if err := os.RemoveAll(filepath.Join(root, "8")); err != nil {
		t.Fatal(err)
	}
	want("when one has ended", false, 7, 9, 10, 11, 12)
}
