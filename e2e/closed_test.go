//go:build lab

package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/control"
	"github.com/sallyport/sallyport/internal/lab"
	"github.com/sallyport/sallyport/models/demo"
	"github.com/sallyport/sallyport/sandbox"
	"github.com/sallyport/sallyport/verify"
)

// times is how often each scenario of TestStaysClosed is gone through in a row.
var times = flag.Int("closed.times", 1, "how often each scenario that breaks something is repeated")

// scenario is something that breaks. Afterwards nothing has left the sandbox, and
// the same agent is answered again.
type scenario struct {
	name string
	// do breaks it, and puts back what a user or an administrator would. It asks
	// for c.closed where nothing may answer meanwhile.
	do func(c *closed)
	// ended is what the launcher says where the agent cannot go on, a pattern;
	// empty: it goes on. The next launcher works in any case.
	ended string
	// setUp is called once, before the agent starts; nil: nothing is to be done.
	// The function that it returns undoes it.
	setUp func(t *testing.T, l *lab.Lab) (undo func())
}

// scenarios are gone through in this order.
func scenarios() []scenario {
	var list []scenario
	for _, some := range [][]scenario{killed, changed, joined, disturbed, engineRestarts} {
		list = append(list, some...)
	}
	return list
}

// closed is a sandbox whose agent never rests, while something breaks.
type closed struct {
	*user
	agent  *screen
	id     string
	pid    string // the agent's, on the laptop
	turn   int    // the last that was answered
	before lab.Counters
	caught func() int
	n      int // how often the scenario was gone through before
}

// controlSocket is the gateway's, on the laptop.
const controlSocket = "/run/user/1000/sallyport/control/control.sock"

// round bounds one time through a scenario; nothing asserts how long it takes.
const round = 3 * time.Minute

// TestStaysClosed breaks everything that can be broken, while an agent streams from
// its model and tries to get out without a pause: no packet leaves, and the agent
// is answered again where that is possible.
func TestStaysClosed(t *testing.T) {
	onBoth(t, func(t *testing.T, l *lab.Lab) {
		for _, s := range scenarios() {
			t.Run(s.name, func(t *testing.T) {
				if s.setUp != nil {
					defer s.setUp(t, l)()
				}
				stayClosed(t, l, s)
			})
		}
	})
}

func stayClosed(t *testing.T, l *lab.Lab, s scenario) {
	c := &closed{user: setUp(t, l, "unix://"+paced(t, l)), caught: l.Laptop.Trap(t, trapPorts...), before: l.Before(t)}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c.ctx = ctx // the agent's; each round has a deadline of its own
	buildProgram(c.user, "turns")
	c.start()
	began := time.Now()
	for c.n = range *times {
		bounded, cancel := context.WithTimeout(ctx, round)
		c.ctx, c.agent.user.ctx = bounded, bounded
		s.do(c)
		if s.ended != "" {
			c.over(s.ended)
			c.ctx = ctx
			c.start()
		} else {
			c.goesOn()
		}
		c.untouched()
		cancel()
		if t.Failed() {
			t.Fatalf("%s: failed at time %d of %d; the agent's screen ends:\n%s", s.name, c.n+1, *times, c.lastLines())
		}
	}
	t.Logf("%s: %d times, %.1f s each", s.name, *times, time.Since(began).Seconds()/float64(*times))
	c.ctx = ctx
	c.intact()
}

// paced serves a model whose answers take about a quarter of a second.
func paced(t *testing.T, l *lab.Lab) string {
	t.Helper()
	server := &demo.Server{Model: served, Delay: 15 * time.Millisecond, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Script: demo.Script{Turns: []demo.Turn{{Text: "one two three four five six seven eight nine ten eleven twelve."}}}}
	return serve(t, l, "paced.sock", server.Serve)
}

// buildProgram puts a program of testdata into the project.
func buildProgram(u *user, name string) {
	u.Helper()
	program := filepath.Join(u.TempDir(), name)
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, "./testdata/"+name)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		u.Fatalf("%v: %s", err, out)
	}
	text, err := os.ReadFile(program)
	if err != nil {
		u.Fatal(err)
	}
	relative, err := filepath.Rel(u.lab.Laptop.Home, filepath.Join(u.project, name))
	if err == nil {
		err = u.lab.Laptop.WriteFile(relative, text, 0o755)
	}
	if err != nil {
		u.Fatal(err)
	}
}

// start starts an agent and waits for its first answer.
func (c *closed) start() {
	c.Helper()
	own := *c.user // the agent's terminal outlives the round
	c.agent = own.terminal("launcher", "run", "debian:12-slim", "gpt-oss", "--", "./turns",
		lab.Web+":80", "["+lab.Web6+"]:443", lab.LaptopLAN+":2222", "172.17.0.1:8080")
	bounded, cancel := context.WithTimeout(c.ctx, round)
	defer cancel()
	c.agent.user.ctx = bounded
	c.turn = 0
	c.answered()
	c.agent.user.ctx = c.ctx
	c.id = c.serves()
	c.pid = c.pgrep(`^\./turns `)
}

var turns = regexp.MustCompile(`turn (\d+) answered`)

// answered waits for an answer to a turn that is newer than those so far.
func (c *closed) answered() {
	c.Helper()
	for last := c.turn; c.turn <= last; {
		c.agent.expect(`turn \d+ answered`)
		m := turns.FindAllStringSubmatch(c.agent.Text()[:c.agent.at], -1)
		c.turn, _ = strconv.Atoi(m[len(m)-1][1])
	}
}

// goesOn waits until the same agent is answered: not only what was under way, but
// a turn that it began after everything was back.
func (c *closed) goesOn() {
	c.Helper()
	c.serves()
	c.agent.at = len(c.agent.Text()) // what was answered before does not count
	c.answered()
	c.answered()
	if now := c.pgrep(`^\./turns `); now != c.pid {
		c.Errorf("the agent is %s, and was %s", now, c.pid)
	}
	for _, r := range c.attempts(attemptsOfEach...) {
		if !r.Outcome.Closed() {
			c.Errorf("afterwards: %s", r)
		}
	}
}

// serves waits until the gateway says that the one sandbox is served, and returns
// its id.
func (c *closed) serves() (id string) {
	c.Helper()
	client := control.NewClient(c.lab.Laptop.Outside(controlSocket))
	c.eventually("the sandbox is served", func() error {
		status, err := client.Status(c.ctx)
		if err == nil && (!status.Wall.Up || len(status.Sandboxes) != 1 || status.Sandboxes[0].Phase != sandbox.Ready) {
			err = fmt.Errorf("wall %+v, sandboxes %+v", status.Wall, status.Sandboxes)
		}
		if err == nil {
			id = status.Sandboxes[0].Sandbox
		}
		return err
	})
	return id
}

// over waits for the launcher's end, which says why.
func (c *closed) over(why string) {
	c.Helper()
	c.agent.at = 0
	c.agent.expect(why)
	if code := c.agent.end(); code == 0 {
		c.Errorf("exit code %d", code)
	}
}

// attemptsOfEach are what the agent's user tries from another process, each time; the
// first few also while something is broken, beside the agent's own attempts.
var attemptsOfEach = []string{
	"tcp " + lab.Web + ":80", "udp " + lab.Web + ":443", "dns gone.exfil.example via=" + lab.DNS + ":53",
	"tcp [" + lab.Web6 + "]:80", "icmp " + lab.Web, "connect " + lab.Web + ":443", "tcp " + lab.LaptopLAN + ":2222", "udp 172.17.0.1:8080",
}

// attempts makes attempts all at once, and returns what became of each.
func (c *closed) attempts(tried ...string) []verify.Report {
	c.Helper()
	var script strings.Builder
	for _, a := range tried {
		fmt.Fprintf(&script, "/run/sallyport/gateway probe --json %s & ", a)
	}
	out, err := c.lab.Laptop.Docker(c.ctx, "exec", "sallyport-agent-"+c.id, "sh", "-c", script.String()+"wait")
	var list []verify.Report
	for d := json.NewDecoder(strings.NewReader(out)); ; {
		var r verify.Report
		decodeErr := d.Decode(&r)
		if errors.Is(decodeErr, io.EOF) {
			break
		}
		if err = errors.Join(err, decodeErr); decodeErr != nil {
			break
		}
		list = append(list, r)
	}
	if err != nil || len(list) != len(tried) {
		c.Errorf("%d reports of %d attempts: %v\n%s", len(list), len(tried), err, out)
	}
	return list
}

// closed tries to get out while something is broken: nothing answers. A gateway
// that stands still says nothing, so that an attempt may prove nothing either; the
// counters of untouched do.
func (c *closed) closed() {
	c.Helper()
	for _, r := range c.attempts(attemptsOfEach[:3]...) {
		if r.Outcome == verify.Reached {
			c.Errorf("meanwhile: %s", r)
		}
	}
}

// untouched asserts that nothing has arrived where nothing may.
func (c *closed) untouched() {
	c.Helper()
	c.lab.NoLeak(c, c.before)
	if n := c.caught(); n > 0 {
		c.Errorf("%d connections or datagrams reached the host", n)
	}
	if strings.Contains(c.agent.Text(), "ESCAPED") {
		c.Errorf("something answered the agent:\n%s", c.lastLines())
	}
}

// intact ends the agent, and asserts that the record is whole and holds what the
// agent tried.
func (c *closed) intact() {
	c.Helper()
	_ = c.agent.Send("\x03") // it may have ended
	_ = c.agent.Wait()
	c.stopAll()
	if out, err := c.command("gateway", "audit", "verify").CombinedOutput(); err != nil {
		c.Errorf("gateway audit verify: %v\n%s", err, out)
	}
}

func (c *closed) lastLines() string {
	lines := strings.Split(strings.TrimSpace(c.agent.Text()), "\n")
	return strings.Join(lines[max(0, len(lines)-25):], "\n")
}
