package web

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/control"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/sandbox"
)

// clockAt is a time that tests set.
type clockAt struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clockAt) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clockAt) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

var noon = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

// site is a served page over a store of its own.
type site struct {
	*testing.T
	*Server
	clock *clockAt
	host  string
	told  chan string // what Refused was told
}

// serve serves a page over a new store until the test ends. change may be nil.
func serve(t *testing.T, change func(*Server)) *site {
	t.Helper()
	c := &clockAt{t: noon}
	path := filepath.Join(t.TempDir(), "audit.db")
	store, err := audit.Open(path, audit.Options{Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	told := make(chan string, 100)
	s := &Server{Store: store, Open: func() (*audit.Reader, error) { return audit.OpenReader(path) },
		Sandboxes: func() []sandbox.State { return nil }, Status: func() control.Status { return control.Status{Wall: control.WallStatus{Up: true}} },
		Refused: func(reason string) { told <- reason }, Now: c.now, Loc: time.UTC, Log: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(s)
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	for s.URL() == "" { // until Serve has looked at the listener
		select {
		case err := <-done:
			t.Fatal(err)
		default:
		}
	}
	return &site{T: t, Server: s, clock: c, host: l.Addr().String(), told: told}
}

// answer is a response, read.
type answer struct {
	*http.Response
	body string
}

// request asks for a path, with headers in pairs of name and value; "Host" sets
// that. It follows no redirect and keeps no cookie.
func (s *site) request(method, path string, headers ...string) answer {
	s.Helper()
	r, err := http.NewRequestWithContext(s.Context(), method, "http://"+s.host+path, nil)
	if err != nil {
		s.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
			continue
		}
		r.Header.Add(headers[i], headers[i+1])
	}
	transport := &http.Transport{DisableKeepAlives: true}
	response, err := transport.RoundTrip(r)
	if err != nil {
		s.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		s.Fatal(err)
	}
	return answer{response, string(body)}
}

// way is the path and query of a fresh way in.
func (s *site) way() string { return strings.TrimPrefix(s.URL(), "http://"+s.host) }

// enter exchanges a token and returns the Cookie header's value.
func (s *site) enter() string {
	s.Helper()
	a := s.request("GET", s.way())
	if a.StatusCode != http.StatusSeeOther || len(a.Cookies()) != 1 {
		s.Fatalf("exchange: %s, %d cookies", a.Status, len(a.Cookies()))
	}
	return a.Cookies()[0].Name + "=" + a.Cookies()[0].Value
}

// get asks for a path with a session, and fails unless it is there.
func (s *site) get(cookie, path string) string {
	s.Helper()
	a := s.request("GET", path, "Cookie", cookie)
	if a.StatusCode != http.StatusOK {
		s.Fatalf("GET %s: %s\n%s", path, a.Status, a.body)
	}
	return a.body
}

// add stores events, with what they all need.
func (s *site) add(events ...audit.Event) []audit.Event {
	s.Helper()
	for i := range events {
		if events[i].Verdict == "" {
			events[i].Verdict = policy.Deny.String()
		}
		stored, err := s.Store.Append(events[i])
		if err != nil {
			s.Fatal(err)
		}
		events[i] = stored
	}
	return events
}

// refusedName is a refused DNS query.
func refusedName(host string) audit.Event {
	return audit.Event{Subject: audit.Subject{Sandbox: "a1b2c3d4e5f6", Agent: "claude", Model: "gpt-oss", Project: "/home/me/shop-api"},
		Layer: audit.LayerDNS, Proto: "udp", Host: host, Method: "A", Reason: "names are not looked up",
		Process: &audit.Process{PID: 123, UID: 1000, Exe: "/usr/bin/curl", Command: "curl https://" + host, Parents: []audit.Parent{{PID: 90, Name: "bash"}, {PID: 1, Name: "claude"}}}}
}
