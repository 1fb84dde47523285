//go:build lab

package page_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/control"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/sandbox"
)

// evening is when the page is looked at, after the afternoon.
var evening = time.Date(2026, 11, 24, 17, 42, 0, 0, time.UTC)

// hostile is a host name that is markup: each of these would be seen if it were
// taken for more than text.
const hostile = `"><script>alert(1)</script><img src=http://203.0.113.66/x onerror=alert(2)><b>{{.}}</b>.example`

// clock is the time of store and page.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) set(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = t
}

// The sessions of the afternoon, and the days before it.
var (
	before = audit.Subject{Sandbox: "07be61c09d12", Agent: "claude", Model: "gpt-oss", Project: "/home/ada/code/shop-api"}
	shop   = audit.Subject{Sandbox: "a41c9f3be207", Agent: "claude", Model: "gpt-oss", Project: "/home/ada/code/shop-api"}
	docs   = audit.Subject{Sandbox: "5d80e2771c4a", Agent: "claude", Model: "qwen3-next", Project: "/home/ada/code/handbook"}
)

// program is a process of a sandbox.
func program(pid int, exe, command string, parents ...string) *audit.Process {
	p := &audit.Process{PID: pid, UID: 1000, Exe: exe, Command: command}
	for i, name := range parents {
		p.Parents = append(p.Parents, audit.Parent{PID: max(1, pid-7*(i+1)), Name: name})
	}
	p.Parents = append(p.Parents, audit.Parent{PID: 1, Name: "claude"})
	return p
}

// Events of each kind, as the gateway records them.

func query(s audit.Subject, host string, p *audit.Process) audit.Event {
	return audit.Event{Subject: s, Layer: audit.LayerDNS, Proto: "udp", Src: "10.213.0.2:41822", Dst: "10.213.0.1:53", Host: host, Method: "A", Reason: "names are not looked up in a sandbox", Process: p}
}

func connect(s audit.Subject, host string, p *audit.Process) audit.Event {
	return audit.Event{Subject: s, Layer: audit.LayerProxy, Proto: "tcp", Src: "10.213.0.2:50112", Host: host, Port: 443, Method: http.MethodConnect, Reason: "not on the allow list", Status: 403, Process: p}
}

func direct(s audit.Subject, dst, sni string, p *audit.Process) audit.Event {
	return audit.Event{Subject: s, Layer: audit.LayerIntercept, Proto: "tcp", Src: "10.213.0.2:38810", Dst: dst, Port: 443, SNI: sni, Reason: "no direct connection leaves the sandbox", Process: p}
}

func packet(s audit.Subject, dst string, count int64, p *audit.Process) audit.Event {
	return audit.Event{Subject: s, Layer: audit.LayerPacket, Proto: "udp", Src: "10.213.0.2:52011", Dst: dst, Rule: "other", Reason: "udp is not let out: only TCP and DNS are answered", Count: count, Process: p}
}

func allowed(s audit.Subject, host string, p *audit.Process) audit.Event {
	return audit.Event{Subject: s, Layer: audit.LayerProxy, Proto: "tcp", Host: host, Port: 443, Method: http.MethodConnect, Rule: "*.mirror.example", Reason: "docs mirror", Status: 200,
		BytesIn: 1840, BytesOut: 88213, Duration: 0.42, Verdict: policy.Allow.String(), Process: p}
}

func message(s audit.Subject, r *rand.Rand) audit.Event {
	return audit.Event{Subject: s, Layer: audit.LayerModel, Proto: "tcp", Method: http.MethodPost, Path: "/v1/messages", Status: 200, Verdict: policy.Allow.String(),
		TokensIn: 4000 + r.Int64N(9000), TokensOut: 90 + r.Int64N(700), FirstToken: 0.3 + r.Float64(), TokensPerSecond: 41 + 8*r.Float64(), Duration: 2 + 9*r.Float64(), Session: "0b7c2f0a-58f1-4d0b-9a5e-3f9a3f1c2d11"}
}

// moment is what happened at one time.
type moment struct {
	at     time.Time
	events []audit.Event
}

// afternoon is two sessions of work, and one of the day before; it is the same
// each time.
func afternoon() []moment {
	r := rand.New(rand.NewPCG(4, 20))
	var all []moment
	at := func(hour, minute, second int, events ...audit.Event) {
		all = append(all, moment{time.Date(2026, 11, 24, hour, minute, second, 0, time.UTC), events})
	}
	npm := program(214, "/usr/local/bin/node", "node /usr/local/bin/npm install --registry https://registry.npm.example", "sh", "bash")
	curl := program(388, "/usr/bin/curl", "curl -fsSL https://get.tool.example/install.sh -H 'Authorization: ***'", "bash")
	python := program(451, "/usr/bin/python3", "python3 scripts/sync.py --token=***", "bash")
	claude := program(1, "/usr/local/bin/claude", "claude")
	claude.Parents = nil
	gone := &audit.Process{Unknown: "the process had ended before it could be looked up"}

	at(-24+14, 10, 0, message(before, r), query(before, "registry.npm.example", npm), connect(before, "registry.npm.example", npm), query(before, "telemetry.agent.example", claude))
	for minute := 5; minute < 275; minute += 1 + r.IntN(3) { // 13:05 to 17:40
		subject := shop
		if minute > 150 && r.IntN(3) == 0 {
			subject = docs
		}
		var events []audit.Event
		for range 1 + r.IntN(4) {
			events = append(events, message(subject, r))
		}
		at(13, minute, r.IntN(60), events...)
	}
	for i := range 9 {
		at(13, 12+29*i, 11, query(shop, "telemetry.agent.example", claude))
	}
	at(13, 31, 4, query(shop, "registry.npm.example", npm), connect(shop, "registry.npm.example", npm))
	for i := range 6 {
		at(13, 31, 6+2*i, connect(shop, "registry.npm.example", npm))
	}
	at(14, 2, 40, allowed(docs, "docs.mirror.example", curl), allowed(docs, "docs.mirror.example", curl))
	at(14, 47, 12, query(shop, "get.tool.example", curl), query(shop, "get.tool.example", curl), direct(shop, "203.0.113.10:443", "get.tool.example", curl))
	for i := range 14 {
		at(15, 20, i, packet(shop, "203.0.113.123:123", 1, program(520, "/usr/sbin/ntpdate", "ntpdate pool.time.example", "bash")))
	}
	for i := range 22 {
		at(15, 58, 2*i, query(shop, fmt.Sprintf("%08x.cdn.sync.example", r.Uint32()), python))
	}
	at(16, 4, 9, direct(shop, "203.0.113.66:8443", "", python), direct(shop, "203.0.113.66:443", "paste.sync.example", python))
	at(16, 21, 55, packet(docs, "203.0.113.80:4433", 3, gone))
	at(16, 40, 2, allowed(docs, "docs.mirror.example", curl))
	at(17, 3, 31, query(docs, "fonts.static.example", program(96, "/usr/local/bin/node", "node build.js", "npm", "bash")))
	at(17, 29, 47, connect(shop, "api.git.example", program(640, "/usr/bin/git-remote-https", "git-remote-https origin https://api.git.example/ada/shop-api", "git", "bash")))
	at(17, 38, 20, query(shop, "telemetry.agent.example", claude))
	return all
}

// fill makes a store with the afternoon in it, in the order of its times. A store
// joins what is identical by the real clock, in which the afternoon takes a
// second: so it is opened anew where 30 s have passed.
func fill(t *testing.T, path string, c *clock) *audit.Store {
	t.Helper()
	var store *audit.Store
	var opened time.Time
	for _, m := range inOrder(afternoon()) {
		c.set(m.at)
		if store == nil || m.events[0].Verdict == "" && m.at.Sub(opened) >= 30*time.Second {
			if store != nil {
				if err := store.Close(); err != nil {
					t.Fatal(err)
				}
			}
			var err error
			if store, err = audit.Open(path, audit.Options{Now: c.now}); err != nil {
				t.Fatal(err)
			}
			opened = m.at
		}
		for _, e := range m.events {
			add(t, store, e)
		}
	}
	c.set(evening)
	return store
}

// add stores one event, refused unless it says something else.
func add(t *testing.T, store *audit.Store, e audit.Event) audit.Event {
	t.Helper()
	if e.Verdict == "" {
		e.Verdict = policy.Deny.String()
	}
	stored, err := store.Append(e)
	if err != nil {
		t.Fatal(err)
	}
	return stored
}

// sandboxes are the two that still run.
func sandboxes() []sandbox.State {
	return []sandbox.State{
		{Registration: sandbox.Registration{Subject: docs, Upstream: sandbox.Upstream{Name: "qwen3-next", Network: "unix", Controlled: true}}, Phase: sandbox.Ready,
			Since: evening.Add(-107 * time.Minute), Usage: sandbox.Usage{Requests: 61, TokensIn: 402_118, TokensOut: 24_903, TokensPerSecond: 38.2, FirstToken: 0.9}},
		{Registration: sandbox.Registration{Subject: shop, Upstream: sandbox.Upstream{Name: "gpt-oss", Host: "strix", Network: "unix", Controlled: true}}, Phase: sandbox.Ready,
			Since: evening.Add(-278 * time.Minute), Usage: sandbox.Usage{Requests: 248, TokensIn: 2_104_772, TokensOut: 101_336, TokensPerSecond: 47.6, FirstToken: 0.6}},
	}
}

func status() control.Status {
	return control.Status{Wall: control.WallStatus{Up: true, IPv6: true}, Hosts: []control.HostStatus{{Name: "strix", Up: true, Since: evening.Add(-5 * time.Hour), Reconnects: 1}}}
}
