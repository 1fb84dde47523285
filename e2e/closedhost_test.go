//go:build lab

package e2e_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/lab"
)

// changed are the scenarios in which somebody changes the laptop around us: its
// firewall, its settings, our own programs.
var changed = []scenario{
	{name: "nft flush ruleset on the host", do: func(c *closed) {
		if err := c.lab.Laptop.FlushFirewall(c.ctx); err != nil {
			c.Fatal(err)
		}
		c.closed()
	}, setUp: afterwards(restartPlainEngine)},
	{name: "nft flush ruleset in the wall", do: flushWall},
	{name: "ufw enabled and reloaded", do: withUFW, setUp: afterwards(restartPlainEngine)},
	{name: "firewalld enabled and reloaded", do: withFirewalld, setUp: afterwards(restartPlainEngine)},
	{name: "host sysctls", do: newWall, setUp: hostSysctls},
	{name: "upgrade in place", do: upgrade, setUp: keepPrograms},
}

// afterwards is a setUp that does something at the scenario's end only.
func afterwards(do func(t *testing.T, l *lab.Lab)) func(*testing.T, *lab.Lab) func() {
	return func(t *testing.T, l *lab.Lab) func() { return func() { do(t, l) } }
}

func restartPlainEngine(t *testing.T, l *lab.Lab) { restartEngine(t, l, lab.EngineOptions{}) }

// inWall runs a command of the laptop in the wall's network namespace, as root.
func (c *closed) inWall(args ...string) string {
	c.Helper()
	out, err := c.lab.Laptop.CommandRoot(c.ctx, "nsenter", append([]string{"-t", c.pgrep(wallProcess), "-n"}, args...)...).Output()
	if err != nil {
		c.Fatal(err)
	}
	return string(out)
}

// flushWall removes the wall's own rules: it notices, puts them back, and has that
// recorded.
func flushWall(c *closed) {
	ns, err := c.lab.Laptop.Namespace(c.pgrep(wallProcess))
	if err != nil {
		c.Fatal(err)
	}
	defer ns.Close()
	tables, err := nftables.New(nftables.WithNetNSFd(ns.Fd()))
	if err != nil {
		c.Fatal(err)
	}
	whole, err := tables.ListChains() // a ruleset is replaced as a whole
	if err != nil {
		c.Fatal(err)
	}
	before := c.disturbances()
	c.inWall("nft", "flush", "ruleset")
	flushed := time.Now()
	c.eventually("the wall's rules are back", func() error {
		if now, err := tables.ListChains(); err != nil || len(now) != len(whole) {
			return fmt.Errorf("%d chains, and %d before: %w", len(now), len(whole), err)
		}
		return nil
	})
	c.Logf("the wall's rules were back within %d ms of nft's end", time.Since(flushed).Milliseconds())
	c.closed()
	c.eventually("an event of the flushed rules", func() error {
		if c.disturbances() == before {
			return errors.New("none yet")
		}
		return nil
	})
}

// count adds up the attempts of the events that match, among those that gateway
// audit shows with these filters.
func (c *closed) count(match func(audit.Event) bool, filters ...string) (n int64) {
	c.Helper()
	out, err := c.command("gateway", append([]string{"audit", "--json"}, filters...)...).Output()
	if err != nil {
		c.Fatal(err)
	}
	for d := json.NewDecoder(bytes.NewReader(out)); d.More(); {
		var e audit.Event
		if err := d.Decode(&e); err != nil {
			c.Fatalf("gateway audit --json: %v", err)
		}
		if match(e) {
			n += e.Count
		}
	}
	return n
}

// withUFW uses Debian's own ufw, as its administrators do.
func withUFW(c *closed) {
	defer c.root("ufw", "disable")
	for _, command := range []string{"ufw --force enable", "ufw reload", "ufw status verbose"} {
		words := strings.Fields(command)
		out, err := c.lab.Laptop.CommandRoot(c.ctx, words[0], words[1:]...).CombinedOutput()
		if err != nil || words[1] == "status" && !strings.Contains(string(out), "Status: active") {
			c.Fatalf("%s: %v\n%s", command, err, out)
		}
		c.closed()
	}
	c.goesOn() // with the firewall up
}

// withFirewalld uses Debian's own firewalld, with the bus that it needs.
func withFirewalld(c *closed) {
	stop, err := c.lab.Laptop.StartFirewalld(c.ctx)
	if err != nil {
		c.Fatal(err)
	}
	defer func() {
		if err := stop(); err != nil {
			c.Error(err)
		}
	}()
	c.closed()
	for _, command := range []string{"firewall-cmd --reload", "firewall-cmd --complete-reload", "firewall-cmd --state"} {
		words := strings.Fields(command)
		c.root(words[0], words[1:]...)
		c.closed()
	}
	c.goesOn() // with the firewall up
}

// hostSysctls sets on the host what wg-quick and distributions set, before there is
// a wall: a new network namespace may inherit it.
func hostSysctls(t *testing.T, l *lab.Lab) func() {
	set := func(value string) {
		for _, name := range []string{"all/src_valid_mark", "default/src_valid_mark", "all/rp_filter", "default/rp_filter"} {
			if out, err := l.Laptop.CommandRoot(t.Context(), "sysctl", "-w", "net.ipv4.conf."+strings.ReplaceAll(name, "/", ".")+"="+value).CombinedOutput(); err != nil {
				t.Fatalf("sysctl: %v %s", err, out)
			}
		}
	}
	set("1")
	return func() { set("0") }
}

// newWall has the launcher make wall after wall under the host's sysctls, and
// asserts that none of them has them.
func newWall(c *closed) {
	c.root("docker", "rm", "-f", "sallyport-wall-1000")
	c.serves()
	for _, name := range []string{"all/src_valid_mark", "default/src_valid_mark", "all/rp_filter", "default/rp_filter"} {
		if got := strings.TrimSpace(c.inWall("cat", "/proc/sys/net/ipv4/conf/"+name)); got != "0" {
			c.Errorf("%s is %s in the wall", name, got)
		}
	}
	port := uint16(20000 + c.n)
	_, _ = c.lab.Laptop.Docker(c.ctx, "exec", "sallyport-agent-"+c.id, "/run/sallyport/gateway", "probe", "tcp", fmt.Sprintf("%s:%d", lab.Web, port)) // the record says it
	c.eventually("the attempt is recorded", func() error {
		if c.count(func(e audit.Event) bool { return e.Port == port }, "--sandbox", c.id, "--layer", "intercept") == 0 {
			return fmt.Errorf("no event of port %d", port)
		}
		return nil
	})
}

// keepPrograms puts the programs back that upgrade replaces.
func keepPrograms(t *testing.T, l *lab.Lab) func() {
	kept := t.TempDir()
	for _, name := range []string{"gateway", "launcher"} {
		replaceFile(t, filepath.Join(shared.Options.Bin, name), filepath.Join(kept, name))
	}
	return func() {
		for _, name := range []string{"gateway", "launcher"} {
			replaceFile(t, filepath.Join(kept, name), filepath.Join(shared.Options.Bin, name))
		}
	}
}

// replaceFile puts a copy of a program in another's place, as install does.
func replaceFile(t *testing.T, from, to string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err == nil {
		err = errors.Join(os.WriteFile(to+".new", text, 0o755), os.Rename(to+".new", to))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// otherBuild makes another build of gateway and launcher, and returns its folder.
// Two of them take turns.
func (c *closed) otherBuild() string {
	c.Helper()
	folder := fmt.Sprintf("%s/build-%d", c.lab.Dir(), c.n%2)
	if _, err := os.Stat(folder); err == nil {
		return folder
	}
	build := exec.CommandContext(c.ctx, "go", "build", "-trimpath", fmt.Sprintf("-ldflags=-buildid=upgrade-%d", c.n%2), "-o", folder+"/", "../cmd/gateway", "../cmd/launcher")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		c.Fatalf("%v: %s", err, out)
	}
	return folder
}

// upgrade replaces gateway and launcher by another build while an agent runs. The
// next launcher says so and makes a new wall; once the old gateway was ended, the
// new one goes on.
func upgrade(c *closed) {
	folder := c.otherBuild()
	for _, name := range []string{"gateway", "launcher"} {
		replaceFile(c.T, filepath.Join(folder, name), filepath.Join(shared.Options.Bin, name))
	}
	const note = "the running gateway is of another version"
	next := func() string {
		out, err := c.command("launcher", "run", "debian:12-slim", "gpt-oss", "--", "true").CombinedOutput()
		if err != nil {
			c.Errorf("the next launcher: %v\n%s", err, out)
		}
		return string(out)
	}
	if out := next(); !strings.Contains(out, note) || !regexp.MustCompile(`wall +started`).MatchString(out) {
		c.Errorf("the next launcher says neither that the gateway is old nor that the wall is new:\n%s", out)
	}
	c.closed()
	c.goesOn()
	if out, err := c.command("gateway", "down", "--force").CombinedOutput(); err != nil {
		c.Fatalf("gateway down --force: %v\n%s", err, out)
	}
	c.closed()
	c.goesOn()
	if out := next(); strings.Contains(out, note) {
		c.Errorf("the new gateway is not the one that is installed:\n%s", out)
	}
}
