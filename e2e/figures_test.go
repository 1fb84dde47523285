//go:build lab

package e2e_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/lab"
)

const (
	figureRuns   = 5
	figureEvents = 2000
)

// TestFigures measures and says; it asserts no duration.
func TestFigures(t *testing.T) {
	onBoth(t, func(t *testing.T, l *lab.Lab) {
		u := setUp(t, l, "unix:///run/models/none.sock")
		u.stopAll()
		startFigures(u)
		latencyFigures(u)
	})
}

var step = regexp.MustCompile(`(?m)^ok +(\S+) .*\(([0-9.]+(?:ms|s|µs))\)$`)

// startFigures tells how long it takes from the command to the agent's start.
func startFigures(u *user) {
	u.Helper()
	var warm []time.Duration
	shares := map[string][]time.Duration{}
	for i := range figureRuns + 1 {
		out, err := u.command("launcher", "shell", "demo", "--", "-c", "true").CombinedOutput()
		if err != nil {
			u.Fatalf("%v\n%s", err, out)
		}
		var total time.Duration
		var said []string
		for _, m := range step.FindAllStringSubmatch(string(out), -1) {
			took, err := time.ParseDuration(m[2])
			if err != nil {
				u.Fatal(err)
			}
			total += took
			said = append(said, m[1]+" "+m[2])
			if i > 0 {
				shares[m[1]] = append(shares[m[1]], took)
			}
		}
		if i == 0 {
			u.Logf("cold (no gateway, no wall, helper image not made): %s = %s", total, strings.Join(said, ", "))
			continue
		}
		warm = append(warm, total)
	}
	var parts []string
	for name, took := range shares {
		parts = append(parts, fmt.Sprintf("%s %s", name, median(took)))
	}
	slices.Sort(parts)
	var bare []time.Duration
	for range figureRuns {
		began := time.Now()
		if _, err := u.lab.Laptop.Docker(u.ctx, "run", "--rm", "--network", "none", u.lab.AgentImage, "true"); err != nil {
			u.Fatal(err)
		}
		bare = append(bare, time.Since(began))
	}
	u.Logf("warm, p50 of %d: %s (%s); bare docker run of the image, start to end: %s; ratio %.1f",
		figureRuns, median(warm), strings.Join(parts, ", "), median(bare), median(warm).Seconds()/median(bare).Seconds())
}

func median(all []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2].Round(time.Millisecond)
}

// clock is a model server whose every event says when it was sent.
func clock(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		_, _ = io.WriteString(w, `{"data":[]}`)
		return
	}
	_, _ = io.Copy(io.Discard, r.Body)
	w.Header().Set("Content-Type", "text/event-stream")
	flush := http.NewResponseController(w)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for range figureEvents {
		<-tick.C
		fmt.Fprintf(w, "event: ping\ndata: {\"type\":\"ping\",\"sent\":%d}\n\n", time.Now().UnixMicro())
		if flush.Flush() != nil {
			return
		}
	}
}

// client prints the microseconds that each event took, as JSON.
const client = `
const http = require("http"), took = []
const body = JSON.stringify({model: "gpt-oss", max_tokens: 1, stream: true, messages: [{role: "user", content: "x"}]})
const to = process.argv[2].startsWith("/") ? {socketPath: process.argv[2]} : {host: process.argv[2], port: 8000}
const req = http.request({...to, method: "POST", path: "/v1/messages", headers: {"Content-Type": "application/json"}}, res => {
  let rest = ""
  res.on("data", chunk => {
    const now = (performance.timeOrigin + performance.now()) * 1000
    rest += chunk
    const events = rest.split("\n\n"); rest = events.pop()
    for (const e of events) { const m = /"sent":(\d+)/.exec(e); if (m) took.push(Math.round(now - m[1])) }
  })
  res.on("end", () => console.log(JSON.stringify(took)))
})
req.end(body)
`

// latencyFigures tells what the way through wall and gateway adds to each event.
func latencyFigures(u *user) {
	u.Helper()
	dir := filepath.Join(u.lab.Laptop.Home, "model")
	u.write(filepath.Join(dir, "placeholder"), "")
	socket := filepath.Join(dir, "clock.sock")
	listener, err := u.lab.Laptop.Listen("unix", socket)
	if err != nil {
		u.Fatal(err)
	}
	if err := os.Chmod(socket, 0o666); err != nil {
		u.Fatal(err)
	}
	if l, ok := listener.(*net.UnixListener); ok {
		l.SetUnlinkOnClose(false)
	}
	server := &http.Server{Handler: http.HandlerFunc(clock), ReadHeaderTimeout: time.Minute}
	served := make(chan struct{})
	go func() { defer close(served); _ = server.Serve(listener) }() // ends with Close
	u.Cleanup(func() { _ = server.Close(); <-served })
	u.write(filepath.Join(u.lab.Laptop.Home, ".config/sallyport/config.yaml"), "models:\n  - {name: gpt-oss, model: gpt-oss, endpoint: \"unix://"+socket+"\"}\n")
	u.write(filepath.Join(u.project, "client.js"), client)
	var through, direct []int
	for range 2 {
		out, err := u.command("launcher", "-q", "shell", "gpt-oss", "--", "-c", `node client.js $(sed -n "s/nameserver //p" /etc/resolv.conf)`).Output()
		if err != nil {
			u.Fatalf("%v\n%s", err, out)
		}
		through = append(through, parseTook(u, out)...)
		got, err := u.lab.Laptop.Docker(u.ctx, "run", "--rm", "--network", "none", "--user", "1000:1000", "-v", dir+":"+dir, "-v", u.project+":/p",
			u.lab.AgentImage, "node", "/p/client.js", socket)
		if err != nil {
			u.Fatal(err)
		}
		direct = append(direct, parseTook(u, []byte(got))...)
	}
	slices.Sort(through)
	slices.Sort(direct)
	p := func(all []int, of float64) int { return all[int(float64(len(all)-1)*of)] }
	u.Logf("each of %d SSE events, µs: direct p50 %d p99 %d; through wall and gateway p50 %d p99 %d; added p50 %d p99 %d", len(through),
		p(direct, .5), p(direct, .99), p(through, .5), p(through, .99), p(through, .5)-p(direct, .5), p(through, .99)-p(direct, .99))
}

func parseTook(u *user, out []byte) (took []int) {
	u.Helper()
	if err := json.Unmarshal(out, &took); err != nil || len(took) != figureEvents {
		u.Fatalf("%d of %d events arrived: %v\n%.500s", len(took), figureEvents, err, out)
	}
	return took
}
