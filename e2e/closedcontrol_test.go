//go:build lab

package e2e_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/lab"
)

// disturbed are the scenarios in which the gateway is disturbed, by who may speak
// to it, and by a link that goes away under it.
var disturbed = []scenario{
	{name: "control socket's client misbehaves", do: misbehave},
	{name: "configuration with an error", do: brokenConfig},
	{name: "gateway stopped while the SSH link drops", do: stoppedPastKeepalive, setUp: lanAlone},
}

// engineRestarts are the last, since they change the engine.
var engineRestarts = []scenario{
	{name: "Docker restarted with live-restore", setUp: liveRestore, do: func(c *closed) {
		restartEngine(c.T, c.lab, lab.EngineOptions{LiveRestore: true})
		c.closed()
	}},
	{name: "Docker restarted without live-restore", ended: `the Docker engine was stopped`, do: func(c *closed) {
		restartPlainEngine(c.T, c.lab)
	}},
}

func liveRestore(t *testing.T, l *lab.Lab) func() {
	restartEngine(t, l, lab.EngineOptions{LiveRestore: true})
	return func() { restartPlainEngine(t, l) }
}

// Clients of the control socket that are none.
const (
	manyClients = 1000
	hugeBody    = 64 << 20 // bytes
)

// misbehave holds a thousand connections on the control socket, with half a request
// each, garbage, and streams that nobody reads, and sends a request without end;
// the gateway serves the sandbox and other clients.
func misbehave(c *closed) {
	path := c.lab.Laptop.Outside(controlSocket)
	var conns []net.Conn
	defer func() {
		for _, conn := range conns {
			_ = conn.Close() // the gateway may have done so
		}
	}()
	say := func(text string) net.Conn {
		conn, err := net.Dial("unix", path)
		if err != nil {
			c.Fatalf("connection %d: %v", len(conns)+1, err)
		}
		conns = append(conns, conn)
		if _, err := conn.Write([]byte(text)); err != nil {
			c.Logf("connection %d: %v", len(conns), err) // it may be refused
		}
		return conn
	}
	nonsense := []string{
		"", "GET /v1/sta", "POST /v1/sandboxes HTTP/1.1\r\nHost: gateway\r\nContent-Length: 1000\r\n\r\n{",
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", strings.Repeat("A", 8000), "POST /v1/reload HTTP/9.9\r\n\r\n",
		"GET /v1/sandboxes/" + c.id + "/watch HTTP/1.1\r\nHost: gateway\r\n\r\n",
	}
	for i := range manyClients {
		say(nonsense[i%len(nonsense)])
	}
	huge := say("POST /v1/sandboxes HTTP/1.1\r\nHost: gateway\r\nTransfer-Encoding: chunked\r\n\r\n")
	sent := endless(huge)
	c.goesOn()
	if out, err := c.command("gateway", "status").CombinedOutput(); err != nil {
		c.Errorf("gateway status among %d connections: %v\n%s", len(conns), err, out)
	}
	_ = huge.SetDeadline(time.Unix(1, 0)) // a gateway that still reads reads no more
	if n := <-sent; n >= hugeBody {
		c.Errorf("the gateway took a request of %d bytes", n)
	}
}

// endless sends one JSON string without an end, up to hugeBody, and tells how much
// was taken.
func endless(conn net.Conn) <-chan int {
	sent := make(chan int, 1)
	go func() {
		n, piece := 0, append(append([]byte("10000\r\n"), bytes.Repeat([]byte(`"`+strings.Repeat("x", 1023)), 64)...), "\r\n"...)
		for n < hugeBody {
			more, err := conn.Write(piece)
			n += more
			if err != nil {
				break
			}
		}
		sent <- n
	}()
	return sent
}

// brokenConfig has the gateway read a configuration with an error: the old rules
// stay, and it says so. With the error mended it reads it.
func brokenConfig(c *closed) {
	path := filepath.Join(c.lab.Laptop.Home, ".config/sallyport/config.yaml")
	whole, err := os.ReadFile(path)
	if err != nil {
		c.Fatal(err)
	}
	hangup := func(text, says string) {
		at := len(c.gatewayLog())
		c.write(path, text)
		c.root("kill", "-HUP", c.pgrep(gatewayProcess))
		c.eventually("the gateway says "+says, func() error {
			if log := c.gatewayLog(); !strings.Contains(log[at:], says) {
				return fmt.Errorf("its log:\n%s", log[at:])
			}
			return nil
		})
	}
	// A rule that lets everything out, and a key that does not exist.
	allow := strings.Replace(string(whole), `"*.example.org"`, `"*.exfil.example"`, 1)
	if allow == string(whole) {
		c.Fatal("the configuration's example has another rule")
	}
	hangup(allow+"\nnonsense: true\n", "the old one stays in force")
	if out, err := c.command("launcher", "run", "debian:12-slim", "gpt-oss", "--", "true").CombinedOutput(); err == nil {
		c.Errorf("a launcher starts with a broken configuration:\n%s", out)
	}
	out, err := c.lab.Laptop.Docker(c.ctx, "exec", "sallyport-agent-"+c.id, "/run/sallyport/gateway", "probe", "connect", "www.exfil.example:443")
	if err != nil || !strings.HasPrefix(out, "blocked") {
		c.Errorf("a rule of a broken configuration is in force: %v %s", err, out)
	}
	c.closed()
	hangup(string(whole), "policy read again")
}

func (c *closed) gatewayLog() string {
	c.Helper()
	text, err := os.ReadFile(filepath.Join(c.lab.Laptop.Home, ".local/state/sallyport/gateway.log"))
	if err != nil {
		c.Fatal(err)
	}
	return string(text)
}

// lanAlone keeps the GPU host from answering the laptop by its way to the internet
// while the cable between them is out: that would count as a leak.
func lanAlone(t *testing.T, l *lab.Lab) func() {
	route := func(what string) {
		if _, err := l.GPUHost.CommandRoot(t.Context(), "ip", "route", what, "unreachable", "198.51.100.0/30", "metric", "1000").Output(); err != nil {
			t.Fatal(err)
		}
	}
	route("add")
	return func() { route("del") }
}

// past is longer than the SSH client's keepalive and the wait for its answer.
const past = 32 * time.Second

// stoppedPastKeepalive has the gateway stand still while its link to the GPU host
// is away for longer than its keepalive. Every second time the link comes back
// before the gateway does.
func stoppedPastKeepalive(c *closed) {
	pid := c.pgrep(gatewayProcess)
	c.root("kill", "-STOP", pid)
	if err := c.lab.SetLAN(c.ctx, false); err != nil {
		c.Fatal(err)
	}
	gone := time.NewTimer(past) // the scenario itself; nothing is waited for
	c.closed()
	select {
	case <-gone.C:
	case <-c.ctx.Done():
		c.Fatal(c.ctx.Err())
	}
	steps := []func() error{
		func() error { return c.lab.SetLAN(c.ctx, true) },
		func() error { _, err := c.lab.Laptop.CommandRoot(c.ctx, "kill", "-CONT", pid).Output(); return err },
	}
	if c.n%2 == 1 {
		steps[0], steps[1] = steps[1], steps[0]
	}
	if err := errors.Join(steps[0](), steps[1]()); err != nil {
		c.Fatal(err)
	}
}
