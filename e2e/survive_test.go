//go:build lab

package e2e_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/lab"
)

// pgrep is the pid, on the laptop, of the one process of the user whose command
// line matches.
func (u *user) pgrep(pattern string) string {
	u.Helper()
	out, err := u.lab.Laptop.CommandRoot(u.ctx, "pgrep", "-f", pattern).Output()
	pids := strings.Fields(string(out))
	if err != nil || len(pids) != 1 {
		u.Fatalf("pgrep -f %q: %v %q", pattern, err, pids)
	}
	return pids[0]
}

func (u *user) root(name string, args ...string) {
	u.Helper()
	if out, err := u.lab.Laptop.CommandRoot(u.ctx, name, args...).CombinedOutput(); err != nil {
		u.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// blocked runs a probe in the agent's container, as the agent, and fails unless
// it was blocked.
func (u *user) blocked(id string, probe ...string) {
	u.Helper()
	args := append([]string{"exec", "sallyport-agent-" + id, "/run/sallyport/gateway", "probe"}, probe...)
	if out, err := u.lab.Laptop.Docker(u.ctx, args...); err != nil {
		u.Errorf("probe %v: %v\n%s", probe, err, out)
	}
}

// ready waits until the sandbox is served again.
func (u *user) ready(id string) {
	u.Helper()
	u.eventually("the sandbox is served again", func() error {
		out, err := u.lab.Laptop.Docker(u.ctx, "exec", "sallyport-agent-"+id, "sh", "-c", `curl -sS -m 2 "${HTTP_PROXY%:*}:8000/health" -o /dev/null -w "%{http_code}"`)
		if err != nil || !strings.HasSuffix(out, "200") {
			return fmt.Errorf("%w: %s", errors.Join(err, errors.New("not yet")), out)
		}
		return nil
	})
}

// The real Claude Code goes on as the agent of TestStaysClosed does.
func TestClaudeGoesOn(t *testing.T) {
	onBoth(t, func(t *testing.T, l *lab.Lab) {
		before := l.Before(t)
		u := setUp(t, l, "unix://"+standIn(t, l, toolTurns))
		s := u.terminal("launcher", "claude", "gpt-oss")
		s.expect(ready)
		id := u.sandboxID()
		s.ask("one please")
		agent := u.pgrep("^claude")
		for _, c := range []struct {
			what string
			do   func()
		}{
			{"gateway killed", func() { u.root("kill", "-KILL", u.pgrep("gateway run")) }},
			{"wall killed", func() { u.root("docker", "kill", "sallyport-wall-1000") }},
			{"wall's process killed", func() { u.root("kill", "-KILL", u.pgrep("^/gateway wall")) }},
			{"firewall flushed", func() {
				if err := l.Laptop.FlushFirewall(u.ctx); err != nil {
					t.Fatal(err)
				}
			}},
		} {
			c.do()
			u.blocked(id, "tcp", "203.0.113.10:80")
			u.blocked(id, "udp", "203.0.113.10:443")
			u.blocked(id, "dns", "gone.exfil.example", "via=203.0.113.53:53")
			u.blocked(id, "tcp", "[2001:db8::10]:80")
			u.ready(id)
			s.ask("and " + c.what)
			u.blocked(id, "tcp", "203.0.113.10:80")
			l.NoLeak(t, before)
		}
		if now := u.pgrep("^claude"); now != agent {
			t.Errorf("the agent is %s, and was %s", now, agent)
		}
		s.leave()
		if code := s.end(); code != 0 {
			t.Errorf("exit code %d\n%s", code, s.Text())
		}
		restartEngine(t, l, lab.EngineOptions{}) // Docker's own rules are back
	})
}

func restartEngine(t *testing.T, l *lab.Lab, o lab.EngineOptions) {
	t.Helper()
	if err := errors.Join(l.Laptop.StopEngine(), l.Laptop.StartEngine(t.Context(), o)); err != nil {
		t.Fatal(err)
	}
}

// Without live-restore the engine takes Claude Code along; it continues.
func TestEngineRestartsWithoutLiveRestore(t *testing.T) {
	onBoth(t, func(t *testing.T, l *lab.Lab) {
		before := l.Before(t)
		u := setUp(t, l, "unix://"+standIn(t, l, toolTurns))
		s := u.terminal("launcher", "claude", "gpt-oss")
		s.expect(ready)
		s.ask("one please")
		restartEngine(t, l, lab.EngineOptions{})
		s.expect(`the Docker engine was stopped`)
		s.expect(`launcher claude gpt-oss -- --continue`)
		if code := s.end(); code == 0 {
			t.Errorf("exit code %d\n%s", code, s.Text())
		}
		again := u.terminal("launcher", "claude", "gpt-oss", "--", "--continue")
		again.expect(ready)
		left, err := l.Laptop.Docker(u.ctx, "ps", "-aq", "--filter", "label=dev.sallyport.role")
		if err != nil || len(strings.Fields(left)) != 3 {
			t.Errorf("a wall, a holder and an agent should be there: %v %q", err, left)
		}
		again.ask("two please")
		again.leave()
		if code := again.end(); code != 0 {
			t.Errorf("exit code %d\n%s", code, again.Text())
		}
		l.NoLeak(t, before)
	})
}

// The launcher run by root gives the agent to the folder's owner.
func TestRootCaller(t *testing.T) {
	onBoth(t, func(t *testing.T, l *lab.Lab) {
		before := l.Before(t)
		u := setUp(t, l, "unix://"+standIn(t, l, toolTurns))
		c := l.Laptop.CommandRoot(u.ctx, "/opt/sallyport/bin/launcher", "shell", "demo", "--", "-c",
			"id -u; grep -E 'CapEff|NoNewPrivs' /proc/self/status; touch made; /run/sallyport/gateway probe tcp 203.0.113.10:80")
		c.Dir = u.project
		c.Env = append(c.Env, "PATH=/usr/bin:/bin")
		out, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		for _, want := range []string{"run as uid 1000", "\n1000\n", "CapEff:\t0000000000000000", "NoNewPrivs:\t1", "blocked tcp 203.0.113.10:80"} {
			if !strings.Contains(string(out), want) {
				t.Errorf("no %q in:\n%s", want, out)
			}
		}
		if _, err := os.Stat(u.project + "/made"); err != nil {
			t.Error(err)
		}
		l.NoLeak(t, before)
	})
}

// Engines whose settings would keep our containers from what they need.
func TestEngineSettings(t *testing.T) {
	onBoth(t, func(t *testing.T, l *lab.Lab) {
		before := l.Before(t)
		u := setUp(t, l, "unix:///run/models/none.sock")
		image := l.Dir() + "/base-image.tar"
		u.root("docker", "save", "-o", image, "debian:12-slim")
		defer restartEngine(t, l, lab.EngineOptions{})
		for name, o := range map[string]lab.EngineOptions{
			"userns-remap":      {UsernsRemap: true},
			"no-new-privileges": {NoNewPrivileges: true},
		} {
			restartEngine(t, l, o)
			u.root("docker", "load", "-q", "-i", image) // a remapped engine has a store of its own
			out, err := u.command("launcher", "run", "debian:12-slim", "demo", "--", "sh", "-c",
				"id -u; grep NoNewPrivs /proc/self/status; touch made-"+name+"; /run/sallyport/gateway probe tcp 203.0.113.10:80").CombinedOutput()
			if err != nil {
				t.Errorf("%s: %v\n%s", name, err, out)
			}
			for _, want := range []string{"\n1000\n", "NoNewPrivs:\t1", "blocked tcp 203.0.113.10:80"} {
				if !strings.Contains(string(out), want) {
					t.Errorf("%s: no %q in:\n%s", name, want, out)
				}
			}
			if _, err := os.Stat(u.project + "/made-" + name); err != nil {
				t.Error(err)
			}
			u.stopAll()
		}
		l.NoLeak(t, before)
	})
}
