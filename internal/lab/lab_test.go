//go:build lab

package lab_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/lab"
)

var shared lab.Shared

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		fmt.Fprintln(os.Stderr, child(os.Stdout))
		os.Exit(1)
	}
	code := m.Run()
	for _, s := range []*lab.Shared{&shared, gpuHosts[lab.GPUDocker28], gpuHosts[lab.GPUPodman]} {
		if err := s.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// onBoth runs a test on both engines.
func onBoth(t *testing.T, f func(t *testing.T, l *lab.Lab)) {
	for _, e := range []lab.Engine{lab.Engine20, lab.Engine28} {
		t.Run("engine-"+string(e), func(t *testing.T) { f(t, shared.Get(t, e)) })
	}
}

func TestEngineVersion(t *testing.T) {
	onBoth(t, func(t *testing.T, l *lab.Lab) {
		out, err := l.Laptop.Docker(t.Context(), "version", "--format", "{{.Server.Version}}")
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("engine %s", out)
		if old := strings.HasPrefix(out, "20.10."); old != (strings.HasPrefix(t.Name(), "TestEngineVersion/engine-20")) {
			t.Errorf("engine is %s", out)
		}
	})
}

func TestNoRouteToTheRealNetwork(t *testing.T) {
	l := shared.Get(t, lab.Engine28)
	for _, h := range []*lab.Host{l.Laptop.Host, l.GPUHost.Host} {
		out, err := h.CommandRoot(t.Context(), "ip", "-br", "link").Output()
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(out)) {
			name, _, _ := strings.Cut(strings.Fields(line)[0], "@")
			if !strings.HasPrefix(name, "docker") && !strings.HasPrefix(name, "veth") &&
				name != "lo" && name != "lan0" && name != "wan0" && !isTunnelDefault(name) {
				t.Errorf("%s has an interface of its own: %s", h.Name, line)
			}
		}
	}
}

// isTunnelDefault tells the devices that some kernels put into every namespace.
func isTunnelDefault(name string) bool {
	for _, p := range []string{"tunl", "gre", "erspan", "ip_vti", "ip6_vti", "sit", "ip6tnl", "ip6gre"} {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}

func TestUser(t *testing.T) {
	onBoth(t, func(t *testing.T, l *lab.Lab) {
		out, err := l.Laptop.Command(t.Context(), "sh", "-c", `id -u; id -Gn; echo $HOME; pwd; test -w $XDG_RUNTIME_DIR && echo writable; grep Cap.*Eff /proc/self/status; hostname`).Output()
		if err != nil {
			t.Fatal(err)
		}
		want := "1000\nlab docker\n" + l.Laptop.Home + "\n" + l.Laptop.Home + "\nwritable\nCapEff:\t0000000000000000\nlaptop\n"
		if string(out) != want {
			t.Errorf("got %q; want %q", out, want)
		}
		path, err := l.Laptop.PathWithout("docker", "ssh", "nft", "ip", "iptables")
		if err != nil {
			t.Fatal(err)
		}
		c := l.Laptop.Command(t.Context(), "sh", "-c", "git --version && ! command -v docker && ! command -v ssh && ! command -v nft && ! command -v ip")
		c.Env = lab.WithPath(c.Env, path)
		if out, err := c.CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
		_, err = os.Stat(l.Laptop.Outside("/etc/docker/daemon.json"))
		if err != nil {
			t.Error(err)
		}
	})
}

func TestTerminal(t *testing.T) {
	l := shared.Get(t, lab.Engine28)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	term := l.Laptop.CommandPTY(ctx, "bash", "--norc")
	if err := term.Open(); err != nil {
		t.Fatal(err)
	}
	at := 0
	for _, step := range []struct{ typed, shown string }{
		{"stty size\r", `24 80`},
		{"tty; echo $((40+2))\r", `/dev/pts/\d+\s+42`},
		// What is typed is shown before it runs: only its own word says that it does.
		{"sh -c 'echo star''ted; exec sleep 1000'\r", `started`},
		{"\x03", `\^C`},
		{"echo again; exit 7\r", `again\s`},
	} {
		if err := term.Send(step.typed); err != nil {
			t.Fatal(err)
		}
		var err error
		if at, err = term.Expect(ctx, at, step.shown); err != nil {
			t.Fatal(err)
		}
	}
	if err := term.Wait(); term.ProcessState.ExitCode() != 7 {
		t.Errorf("exit: %v", err)
	}
	if err := term.Close(); err != nil {
		t.Error(err)
	}
}

func TestEngineRestarts(t *testing.T) {
	onBoth(t, func(t *testing.T, l *lab.Lab) {
		ctx := t.Context()
		restart := func(o lab.EngineOptions) {
			t.Helper()
			if err := errors.Join(l.Laptop.StopEngine(), l.Laptop.StartEngine(ctx, o)); err != nil {
				t.Fatal(err)
			}
		}
		running := func() string {
			t.Helper()
			out, err := l.Laptop.Docker(ctx, "ps", "--quiet", "--no-trunc")
			if err != nil {
				t.Fatal(err)
			}
			return out
		}
		restart(lab.EngineOptions{LiveRestore: true})
		id, err := l.Laptop.Docker(ctx, "run", "--detach", "--stop-timeout", "1", "--network", "none", "debian:12-slim", "sleep", "infinity")
		if err != nil {
			t.Fatal(err)
		}
		restart(lab.EngineOptions{LiveRestore: true})
		if got := running(); got != id {
			t.Errorf("with live-restore %q runs; want %q", got, id)
		}
		if err := l.Laptop.KillEngine(); err != nil {
			t.Fatal(err)
		}
		if err := l.Laptop.StartEngine(ctx, lab.EngineOptions{}); err != nil {
			t.Fatal(err)
		}
		restart(lab.EngineOptions{})
		if got := running(); got != "" {
			t.Errorf("without live-restore %q runs", got)
		}
	})
}

func TestFlushFirewall(t *testing.T) {
	onBoth(t, func(t *testing.T, l *lab.Lab) {
		if err := l.Laptop.FlushFirewall(t.Context()); err != nil {
			t.Fatal(err)
		}
		out, err := l.Laptop.CommandRoot(t.Context(), "iptables-save", "-t", "nat").Output()
		if err != nil || strings.Contains(string(out), "MASQUERADE") {
			t.Errorf("%v: %s", err, out)
		}
		// A restart puts Docker's rules back for the tests that follow.
		if err := errors.Join(l.Laptop.StopEngine(), l.Laptop.StartEngine(t.Context(), lab.EngineOptions{})); err != nil {
			t.Fatal(err)
		}
	})
}
