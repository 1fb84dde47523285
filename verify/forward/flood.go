package forward

import (
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/verify/forward/open"
	"github.com/sallyport/sallyport/verify/probe"
)

// slowly keeps requests open that never become whole.
type slowly struct {
	connections int
	drip        time.Duration // between lines
	limit       time.Duration // by which the proxy must have ended them
}

// slow allows for the proxy's own limit on a request's head, 10 s.
var slow = slowly{connections: 32, drip: time.Second, limit: 11500 * time.Millisecond}

func (s slowly) probe() probe.Probe {
	return probe.Probe{
		Name: "proxy-slowloris", Group: probe.Proxy, Source: "CVE-2007-6750",
		Why: "half requests that go on for ever use up the gateway's descriptors, and with them everybody's way",
		Try: s.try,
		Own: func(ctx context.Context, t *probe.Target) (err error) {
			t.Proxy, err = open.Proxy(ctx)
			return err
		},
	}
}

func (s slowly) try(ctx context.Context, t probe.Target) probe.Finding {
	if !t.Proxy.IsValid() {
		return probe.Missing("forward proxy")
	}
	url := "http://" + t.Name("slow") + "/"
	head := "GET " + url + " HTTP/1.1\r\nHost: " + t.Name("slow") + "\r\n"
	end := time.Now().Add(s.limit)
	var begun, open atomic.Int64
	var wait sync.WaitGroup
	for range s.connections {
		wait.Go(func() {
			conn, err := dialTo(ctx, t.Proxy)
			if err != nil {
				return
			}
			defer conn.Close()
			defer context.AfterFunc(ctx, func() { conn.Close() })()
			begun.Add(1)
			if _, err := io.WriteString(conn, head); err == nil && s.lasts(conn, end) {
				open.Add(1)
			}
		})
	}
	wait.Wait()
	switch {
	case ctx.Err() != nil:
		return probe.Unproven("there was no time to wait for the proxy's limit: %v", ctx.Err())
	case open.Load() > 0:
		return probe.Reached("%d of %d half requests are open after %s", open.Load(), s.connections, s.limit)
	case begun.Load() == 0:
		return probe.Unproven("no connection to the proxy")
	}
	return probe.Blocked("the proxy ended each half request", recorded(t, probe.Event{Method: "GET", Path: url}))
}

// lasts adds a header now and then and says whether conn is still open at end.
func (s slowly) lasts(conn net.Conn, end time.Time) bool {
	for time.Now().Before(end) {
		if conn.SetDeadline(time.Now().Add(s.drip)) != nil {
			return false
		}
		if _, err := conn.Read(make([]byte, 1)); !isTimeout(err) {
			return false // an answer is an end too
		}
		if conn.SetDeadline(time.Now().Add(s.drip)) != nil {
			return false
		}
		if _, err := io.WriteString(conn, "X-Slow: a\r\n"); err != nil {
			return false
		}
	}
	return true
}

// bigHeads are requests whose head is as large as a proxy may have to keep.
func bigHeads() []entry {
	return []entry{{name: "proxy-big-head", why: "a head without a bound takes the gateway's memory, and with it everybody's way", source: "RFC 6585 §5", requests: func(t probe.Target) []request {
		name := t.Name("big-head")
		url := "http://" + name + "/"
		read, broken := recorded(t, probe.Event{Method: "GET", Host: name}), recorded(t, probe.Event{Method: "GET", Path: url})
		line := "GET " + url + " HTTP/1.1"
		return []request{
			message(broken, line, "Host: "+name, "Connection: close", "X-Big: "+strings.Repeat("a", 65<<10)),
			message(broken, line, "Host: "+name, "Connection: close", strings.TrimSuffix(strings.Repeat("X-Many: a\r\n", 8000), "\r\n")),
			message(read, line, "Host: "+name, "Connection: close", strings.TrimSuffix(strings.Repeat("X-Many: a\r\n", 2000), "\r\n")),
			message(recorded(t, probe.Event{Method: "GET", Reason: "longer than"}), "GET "+url+strings.Repeat("a", 65<<10)+" HTTP/1.1", "Host: "+name, "Connection: close"),
		}
	}}}
}
