//go:build lab

// Package e2e_test runs the product as its users do, on the lab's laptop, with
// both Docker engines, the real Claude Code, a real sshd and real model servers,
// and counts what arrives where nothing may.
package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/lab"
)

var shared lab.Shared

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) (code int) {
	if os.Geteuid() == 0 {
		bin, err := lab.Binaries(context.Background())
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(bin)
		shared.Options = lab.Options{Bin: bin, Agent: true}
	}
	code = m.Run()
	labs := []*lab.Shared{&shared}
	for _, l := range gpuLabs {
		labs = append(labs, l)
	}
	for _, l := range labs {
		if err := l.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	return code
}

// onBoth runs a test on both engines.
func onBoth(t *testing.T, f func(t *testing.T, l *lab.Lab)) {
	for _, e := range []lab.Engine{lab.Engine20, lab.Engine28} {
		t.Run("engine-"+string(e), func(t *testing.T) { f(t, shared.Get(t, e)) })
	}
}

// limit bounds a test's waiting; nothing asserts how long something takes.
const limit = 90 * time.Second

// user is the one who types, in a project of theirs, with a configuration.
type user struct {
	*testing.T
	ctx     context.Context
	lab     *lab.Lab
	project string
}

// setUp makes a project, and the configuration: the example with only host, user
// and endpoint changed. At the test's end everything is stopped.
func setUp(t *testing.T, l *lab.Lab, endpoint string) *user {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	u := &user{T: t, ctx: ctx, lab: l, project: l.Laptop.Project(t)}
	t.Cleanup(func() {
		defer cancel()
		u.stopAll()
	})
	example, err := os.ReadFile("../config.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	text := string(example)
	for old, changed := range map[string]string{
		"me@strix.lan":                       lab.UserName + "@" + lab.GPUHostLAN,
		"me@strix2.lan":                      lab.UserName + "@" + lab.GPUHostLAN,
		"unix:///run/sallyport/gpt-oss.sock": endpoint,
	} {
		if strings.Count(text, old) != 1 {
			t.Fatalf("config.example.yaml has %q %d times", old, strings.Count(text, old))
		}
		text = strings.Replace(text, old, changed, 1)
	}
	u.write(filepath.Join(l.Laptop.Home, ".config/sallyport/config.yaml"), text)
	u.write(filepath.Join(u.project, "README.md"), "# A project\n\nThe magic word is xyzzy.\n")
	return u
}

// write writes a file of the user's, by its whole path.
func (u *user) write(path, text string) {
	u.Helper()
	relative, err := filepath.Rel(u.lab.Laptop.Home, path)
	if err == nil {
		err = u.lab.Laptop.WriteFile(relative, []byte(text), 0o644)
	}
	if err != nil {
		u.Fatal(err)
	}
}

// bare is the user's PATH without the programs that the product must not need.
func (u *user) bare() string {
	u.Helper()
	path, err := u.lab.Laptop.PathWithout("docker", "ssh", "nft", "ip", "iptables")
	if err != nil {
		u.Fatal(err)
	}
	return path
}

// command is a command of the user's in the project, with the bare PATH.
func (u *user) command(name string, args ...string) *lab.Cmd {
	u.Helper()
	c := u.lab.Laptop.Command(u.ctx, name, args...)
	c.Dir = u.project
	c.Env = lab.WithPath(c.Env, u.bare())
	return c
}

// terminal opens a command at a terminal of the user's.
func (u *user) terminal(name string, args ...string) *screen {
	u.Helper()
	term := u.lab.Laptop.CommandPTY(u.ctx, name, args...)
	term.Dir = u.project
	term.Env = lab.WithPath(term.Env, u.bare())
	if err := term.Open(); err != nil {
		u.Fatal(err)
	}
	s := &screen{user: u, Terminal: term}
	u.Cleanup(func() { _ = term.Close() }) // it may have ended
	return s
}

func (u *user) stopAll() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(u.ctx), time.Minute)
	defer cancel()
	c := u.lab.Laptop.Command(ctx, "launcher", "stop", "--all")
	if out, err := c.CombinedOutput(); err != nil {
		u.Errorf("launcher stop --all: %v\n%s", err, out)
	}
	left, err := u.lab.Laptop.Docker(ctx, "ps", "-aq", "--filter", "label=dev.sallyport.role")
	if err != nil || left != "" {
		u.Errorf("containers left over: %v %s", err, left)
	}
}

// events are the record's, of one sandbox unless it is empty, but for the proof's.
func (u *user) events(sandbox string) []audit.Event {
	u.Helper()
	args := []string{"audit", "--json"}
	if sandbox != "" {
		args = append(args, "--sandbox", sandbox)
	}
	out, err := u.command("gateway", args...).Output()
	if err != nil {
		u.Fatal(err)
	}
	var events []audit.Event
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e audit.Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			u.Fatalf("gateway audit --json: %v\n%s", err, lines.Text())
		}
		if e.Agent != "proof" {
			events = append(events, e)
		}
	}
	return events
}

// sandboxID waits for the one sandbox that runs, and returns its id.
func (u *user) sandboxID() string {
	u.Helper()
	var status struct {
		Sandboxes []struct {
			ID    string `json:"id"`
			Phase string `json:"phase"`
		} `json:"sandboxes"`
	}
	out, err := u.command("launcher", "status", "--json").Output()
	if err == nil {
		err = json.Unmarshal(out, &status)
	}
	if err != nil || len(status.Sandboxes) != 1 {
		u.Fatalf("launcher status --json: %v\n%s", err, out)
	}
	return status.Sandboxes[0].ID
}

// eventually waits until f is content. It is for what nothing announces.
func (u *user) eventually(what string, f func() error) {
	u.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-u.ctx.Done():
			u.Fatalf("%s: %v", what, errors.Join(err, u.ctx.Err()))
		}
	}
}

// screen is a terminal on which the test reads on from where it was.
type screen struct {
	*user
	*lab.Terminal
	at       int
	answered int // number of the last answer, see ask
}

// expect waits for a pattern behind what was expected before.
func (s *screen) expect(pattern string) {
	s.user.Helper()
	at, err := s.Expect(s.ctx, s.at, pattern)
	if err != nil {
		s.Fatal(err)
	}
	s.at = at
}

func (s *screen) send(text string) {
	s.user.Helper()
	if err := s.Send(text); err != nil {
		s.Fatal(err)
	}
}

// end waits for the command's end and returns its exit code.
func (s *screen) end() int {
	s.user.Helper()
	_ = s.Wait() // the code says it
	return s.ProcessState.ExitCode()
}
