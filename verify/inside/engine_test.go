package inside_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/containers"
	"github.com/sallyport/sallyport/verify"
	"github.com/sallyport/sallyport/verify/host"
	"github.com/sallyport/sallyport/verify/inside"
	"github.com/sallyport/sallyport/verify/probe"
)

// engine is what the test needs of a real one, which SALLYPORT_TEST_DOCKER names.
type engine struct {
	*testing.T
	*containers.Engine
	image   string
	version string
}

func realEngine(t *testing.T) engine {
	t.Helper()
	address := os.Getenv("SALLYPORT_TEST_DOCKER")
	if address == "" {
		t.Skip("SALLYPORT_TEST_DOCKER names no engine")
	}
	e, err := containers.Open(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	info, err := e.Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(t.TempDir(), "probes")
	cmd := exec.Command("go", "build", "-trimpath", "-o", binary, "./testdata/probes")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the probes: %v\n%s", err, out)
	}
	image, err := e.EnsureHelper(t.Context(), binary)
	if err != nil {
		t.Fatal(err)
	}
	return engine{t, e, image, info.Version}
}

func (e engine) name(what string) string {
	name := fmt.Sprintf("sallyport-test-inside-%d-%s", os.Getpid(), what)
	e.Cleanup(func() {
		if err := e.Remove(context.WithoutCancel(e.Context()), name); err != nil {
			e.Error(err)
		}
	})
	return name
}

func (e engine) labels(role string) map[string]string {
	return map[string]string{containers.LabelRole: role, containers.LabelOwner: strconv.Itoa(1_900_000_000 + os.Getpid()), containers.LabelLauncher: "1:1", containers.LabelSandbox: "inside"}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// agent runs the probes as an agent is run.
func (e engine) agent(target probe.Target) map[string]probe.Finding {
	holder, err := e.StartHelper(e.Context(), containers.HelperSpec{Name: e.name("holder"), Image: e.image, UID: 1000, GID: 1000, Labels: e.labels(containers.RoleHolder)})
	check(e.T, err)
	id, err := e.CreateAgent(e.Context(), containers.AgentSpec{Name: e.name("agent"), Image: e.image, Holder: holder, Cmd: arguments(e.T, target, false),
		UID: 1000, GID: 1000, Labels: e.labels(containers.RoleAgent)})
	check(e.T, err)
	return e.findings(id)
}

// root runs them as an ordinary container is run.
func (e engine) root(target probe.Target, unconfined, own bool) map[string]probe.Finding {
	spec := containers.ProbeSpec{Name: e.name(strings.ReplaceAll(string(target.Setting), " ", "-") + "-root"), Image: e.image, Cmd: arguments(e.T, target, own), Network: "none",
		Unconfined: unconfined, Labels: e.labels(containers.RoleHolder)}
	if unconfined {
		for _, p := range append(inside.Probes(), host.Probes()...) {
			spec.CapAdd = append(spec.CapAdd, p.Needs...)
		}
	}
	id, err := e.CreateProbe(e.Context(), spec)
	check(e.T, err)
	return e.findings(id)
}

func arguments(t *testing.T, target probe.Target, own bool) []string {
	text, err := json.Marshal(target)
	check(t, err)
	if own {
		return []string{string(text), "own"}
	}
	return []string{string(text)}
}

func (e engine) findings(id string) map[string]probe.Finding {
	var out, errOut bytes.Buffer
	s, err := e.Attach(e.Context(), id, containers.AttachOptions{Out: &out, Err: &errOut})
	check(e.T, err)
	defer s.Close()
	check(e.T, s.Start(e.Context()))
	check(e.T, s.Wait())
	if code, _, err := e.Wait(e.Context(), id); code != 0 || err != nil {
		e.Errorf("the probes ended with %d, %v: %s", code, err, &errOut)
	}
	list := map[string]probe.Finding{}
	for lines := bufio.NewScanner(&out); lines.Scan(); {
		var line struct {
			Name    string
			Finding probe.Finding
		}
		check(e.T, json.Unmarshal(lines.Bytes(), &line))
		list[line.Name] = line.Finding
	}
	return list
}

// letByEngine is what an engine's own filter lets through, of which this test's
// containers have nothing more: AF_VSOCK before 23.0 (moby/moby pull request 44712),
// and by the 32-bit socketcall, where the kernel has it, after that too (pull request
// 53551). What gateway prove adds is e2e's to show.
func letByEngine(name, version string) bool {
	major, _, _ := strings.Cut(version, ".")
	n, err := strconv.Atoi(major)
	return name == "vsock" && err == nil && n < 23 || name == "vsock-32-bit"
}

func TestInContainers(t *testing.T) {
	e := realEngine(t)
	target := probe.Target{Run: "0a1b2c3d", Public4: netip.MustParseAddr("203.0.113.10"), Host: probe.HostTarget{PID: 1 << 21, Started: 1, Abstract: "sallyport-verify-none"}}
	in := func(s probe.Setting, root bool) probe.Target {
		target.Setting, target.Root = s, root
		return target
	}
	columns := []map[string]probe.Finding{
		e.agent(in(probe.Sandbox, false)), e.root(in(probe.Sandbox, true), false, false), e.root(in(probe.Ordinary, true), false, false),
		e.root(in(probe.Unconfined, true), true, false), e.root(in(probe.OwnListener, true), true, true),
	}
	var table strings.Builder
	for _, p := range append(inside.Probes(), host.Probes()...) {
		fmt.Fprintf(&table, "%-22s", p.Name)
		for i, c := range columns {
			f, ok := c[p.Name]
			fmt.Fprintf(&table, " | %-18s", cell(f))
			if i < 4 && !ok {
				t.Errorf("%s gave no answer in column %d", p.Name, i)
			}
			if i < 2 && f.Outcome == verify.Reached && !letByEngine(p.Name, e.version) || f.Outcome == verify.StoppedInside && f.Errno == "" {
				t.Errorf("column %d: %s: %+v", i, p.Name, f)
			}
		}
		table.WriteByte('\n')
	}
	t.Logf("probe | agent | root in a sandbox | ordinary | unconfined | own listener\n%s", &table)
}

func cell(f probe.Finding) string {
	switch {
	case f.Absent:
		return "absent"
	case f.Outcome == verify.StoppedInside:
		return "stopped " + f.Errno
	}
	return f.Outcome.String()
}
