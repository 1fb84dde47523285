package audit

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

// childTask names what a copy of this test binary does instead of testing.
const childTask = "AUDIT_TEST_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(childTask) {
	case "load":
		childLoad(os.Args[1])
	case "full":
		childFull(os.Args[1], os.Args[2])
	case "limit":
		childLimit(os.Args[1])
	case "readonly":
		childReadOnly(os.Args[1])
	default:
		goleak.VerifyTestMain(m)
	}
}

func child(t *testing.T, task string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Env = append(os.Environ(), childTask+"="+task)
	cmd.Stderr = os.Stderr
	return cmd
}

// ownNamespaces gives cmd a user and a mount namespace of its own, in which it is
// root: what it mounts is seen by nobody else.
func ownNamespaces(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
	}
}

// loaders is how many goroutines of a child append at the same time.
const loaders = 8

// childLoad appends for ever: events of their own, and refusals that are joined.
// For each that was acknowledged it prints host, id and count.
func childLoad(path string) {
	s, err := Open(path, Options{Sink: &SinkOptions{Path: sinkPath(path), MaxBytes: 1 << 20, Files: 2}})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	var wg sync.WaitGroup
	for g := range loaders {
		wg.Go(func() {
			for i := g; ; i++ {
				e := Event{Layer: LayerDNS, Proto: "udp", Host: fmt.Sprintf("h%d.example", i%3), Reason: "not allowed"}
				if i%5 == 0 {
					e.Host, e.Verdict = "own.example", "allowed"
				}
				e, err := s.Append(e)
				if err == nil {
					_, err = fmt.Printf("%s %s %d\n", e.Host, e.ID, e.Count) // one write(2)
				}
				if err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
			}
		})
	}
	wg.Wait()
}

// acked is what children said they had stored.
type acked struct {
	count  map[string]int64 // by id: the largest
	byHost map[string]int64 // attempts
	kills  int64
}

func (a *acked) line(line string) {
	var host, id string
	var count int64
	if n, _ := fmt.Sscanf(line, "%s %s %d", &host, &id, &count); n == 3 {
		a.count[id] = max(a.count[id], count)
		a.byHost[host]++
	}
}

// A writer is killed 200 times at random points of its work. Each time the chain
// is whole, every acknowledged event is there with its count, and no more is
// there than was asked for.
func TestKilled(t *testing.T) {
	const stores, kills = 20, 10
	for range stores {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			path := storePath(t)
			all := &acked{count: map[string]int64{}, byHost: map[string]int64{}}
			for range kills {
				kill(t, path, rand.IntN(80), all)
				all.check(t, path)
				if t.Failed() {
					return
				}
			}
		})
	}
}

// kill starts a child and kills it once it has acknowledged so many.
func kill(t *testing.T, path string, after int, all *acked) {
	t.Helper()
	cmd := child(t, "load", path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	for range after {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatalf("the child ended: %v, %v", err, cmd.Wait())
		}
		all.line(line)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(lines)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(rest)) {
		if strings.HasSuffix(line, "\n") {
			all.line(line)
		}
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the child was not killed")
	}
	all.kills++
}

func (a *acked) check(t *testing.T, path string) {
	t.Helper()
	if len(a.count) == 0 {
		return // it may not exist yet
	}
	report, err := Verify(t.Context(), path, "")
	if err != nil || !report.OK {
		t.Fatalf("verify: %+v, %v", report, err)
	}
	stored := map[string]int64{}
	for _, e := range append(chained(t, path), opened(t, path)...) {
		stored[e.Host] += e.Count
		if want := a.count[e.ID]; e.Count < want {
			t.Errorf("event %s has count %d, and %d was acknowledged", e.ID, e.Count, want)
		}
		a.count[e.ID] = min(a.count[e.ID], 0)
	}
	for id, count := range a.count {
		if count > 0 {
			t.Errorf("acknowledged event %s is gone", id)
		}
	}
	clear(a.count)
	for host, count := range a.byHost {
		if stored[host] < count || stored[host] > count+loaders*a.kills {
			t.Errorf("%s: %d attempts are stored, and %d were acknowledged", host, stored[host], count)
		}
	}
}
