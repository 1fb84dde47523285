package containers

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

// The tests that need a real engine take the one that SALLYPORT_TEST_DOCKER
// names and remove every container that they make.

// testUID is whom the test containers run as.
const testUID = 1000

// realEngine returns the engine, checked.
func realEngine(t *testing.T) *Engine {
	t.Helper()
	host := os.Getenv("SALLYPORT_TEST_DOCKER")
	if host == "" {
		t.Skip("SALLYPORT_TEST_DOCKER names no engine")
	}
	e, err := Open(t.Context(), host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	if _, err := e.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	return e
}

// buildProbe builds the program that the tests run inside containers, once.
var buildProbe = sync.OnceValues(func() (string, error) {
	path := filepath.Join(os.TempDir(), fmt.Sprintf("sallyport-probe-%d", os.Getuid()))
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", path, "./testdata/probe")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the probe: %w\n%s", err, out)
	}
	return path, nil
})

// probeImage returns the helper image made of the probe.
func probeImage(t *testing.T, e *Engine) string {
	t.Helper()
	path, err := buildProbe()
	if err != nil {
		t.Fatal(err)
	}
	image, err := e.EnsureHelper(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// TestMain looks for what sessions, events and imports may leave running.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreTopFunction("net/http.(*persistConn).writeLoop"))
}

// labels returns those of a container of this test's own user.
func labels(t *testing.T, role string) map[string]string {
	return map[string]string{LabelRole: role, LabelOwner: owner(t), LabelLauncher: "1:1", LabelSandbox: t.Name()}
}

// owner is a uid that no other test or user has.
func owner(t *testing.T) string {
	sum := 0
	for _, c := range t.Name() {
		sum = sum*31%100_000 + int(c)
	}
	return strconv.Itoa(1_000_000_000 + os.Getpid()%10_000*100_000 + sum%100_000)
}

// name returns a container name that is this test's own, and removes that
// container in the end.
func name(t *testing.T, e *Engine, what string) string {
	t.Helper()
	n := fmt.Sprintf("sallyport-test-%s-%s", owner(t), what)
	t.Cleanup(func() {
		if err := e.Remove(context.WithoutCancel(t.Context()), n); err != nil {
			t.Error(err)
		}
	})
	return n
}

// holder starts a helper that does nothing, for agents to join.
func holder(t *testing.T, e *Engine) string {
	t.Helper()
	id, err := e.StartHelper(t.Context(), HelperSpec{Name: name(t, e, "holder"), Image: probeImage(t, e), Cmd: []string{"wait"},
		UID: testUID, GID: testUID, Labels: labels(t, RoleHolder)})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// obeys waits until a holder says that it listens to signals: the kernel keeps those
// that a namespace's first process does not handle from it.
func obeys(t *testing.T, e *Engine, id string) {
	t.Helper()
	out, err := e.FollowLogs(t.Context(), id, true, 10)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || !strings.Contains(line, "waiting") {
		t.Fatalf("the holder says %q: %v", line, err)
	}
}

// agent is a small agent that runs the probe.
func agent(t *testing.T, e *Engine, args ...string) AgentSpec {
	t.Helper()
	return AgentSpec{Name: name(t, e, "agent"), Image: probeImage(t, e), Holder: holder(t, e), Cmd: args,
		UID: testUID, GID: testUID, Labels: labels(t, RoleAgent)}
}

// outcome runs an agent to its end and returns what it printed.
func outcome(t *testing.T, e *Engine, spec AgentSpec) string {
	t.Helper()
	id, err := e.CreateAgent(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	var out, errOut bytes.Buffer
	s, err := e.Attach(t.Context(), id, AttachOptions{Out: &out, Err: &errOut})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Wait(); err != nil {
		t.Fatal(err)
	}
	if exit, _, err := e.Wait(t.Context(), id); err != nil || exit != 0 {
		t.Fatalf("probe ended with %d, %v; it printed:\n%s%s", exit, err, &out, &errOut)
	}
	return out.String()
}

// wantLines fails the test for every line that is not in got.
func wantLines(t *testing.T, got string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains("\n"+got, "\n"+line+"\n") {
			t.Errorf("no line %q in:\n%s", line, got)
		}
	}
}

// ownDir returns a folder that the probe may write to.
func ownDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return dir
}
