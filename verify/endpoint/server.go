package endpoint

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	maxConns = 64               // of a Server at once; more are closed
	busyTime = 20 * time.Second // that one answer may take
	idleTime = 2 * time.Minute  // more than the gateway keeps a connection (proxy: newUpstream)
)

// Server is a hostile model server, for one run of verify. It speaks HTTP/1.1,
// answers what an agent may ask as a model server does, notes what must never arrive,
// and answers a message that says "hostile: NAME" in a way that no server may.
type Server struct {
	run string
	reading

	mu      sync.Mutex
	reached []string // in the order of arrival, each once
}

// NewServer returns a server for one run (Target.Run), which it needs to know the
// marks of that run's probes.
func NewServer(run string) *Server { return &Server{run: run} }

// Reached returns the names of the probes whose forbidden request has arrived. A
// request without the mark of a probe is named by its method and target.
func (s *Server) Reached() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.reached)
}

// Serve answers on l until ctx ends, and returns nil once every connection has ended.
// It closes l.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	return serve(ctx, l, s.converse)
}

// serve accepts on l and hands each connection to handle, until ctx ends.
func serve(ctx context.Context, l net.Listener, handle func(c net.Conn)) error {
	ctx, cancel := context.WithCancel(ctx)
	var wait sync.WaitGroup
	defer wait.Wait()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	slots := make(chan struct{}, maxConns)
	for {
		c, err := l.Accept()
		switch {
		case err != nil && ctx.Err() != nil:
			return nil
		case err != nil:
			return errors.Join(fmt.Errorf("serve %s: %w", l.Addr(), err), l.Close())
		}
		select {
		case slots <- struct{}{}:
		default:
			c.Close()
			continue
		}
		wait.Go(func() {
			defer func() { <-slots }()
			defer c.Close()
			end := context.AfterFunc(ctx, func() { c.Close() })
			defer end()
			handle(c)
		})
	}
}

// converse answers the requests of one connection.
func (s *Server) converse(c net.Conn) {
	br := bufio.NewReader(c)
	for {
		if c.SetDeadline(time.Now().Add(idleTime)) != nil {
			return
		}
		m, err := s.request(br)
		if err != nil || c.SetDeadline(time.Now().Add(busyTime)) != nil {
			return
		}
		if m.get("expect") != "" {
			// The answer of a server that does not wait for the body: what a careless
			// front sends as such is its next request.
			if !s.refuseExpectation(c, m) {
				return
			}
			br = bufio.NewReader(prepend(m.body, br))
			continue
		}
		if !s.answer(c, m) {
			return
		}
	}
}

// marks of a run: probeMark names the probe that sent a request, forbiddenMark stands
// in what must not arrive at all.
func probeMark(run, name string) string     { return "sallyport-probe-" + run + "-" + name }
func forbiddenMark(run, name string) string { return "sallyport-forbidden-" + run + "-" + name }

var markedName = regexp.MustCompile(`^[a-z0-9-]+`)

// named returns the name behind a mark in raw, empty where there is none.
func named(raw []byte, mark string) string {
	_, after, found := strings.Cut(string(raw), mark)
	if !found {
		return ""
	}
	return markedName.FindString(after)
}

// expected are the requests that a model server gets from the gateway.
var expected = []string{
	"GET /health", "HEAD /health", "GET /v1/models",
	"POST /v1/messages", "POST /v1/messages/count_tokens", "POST /v1/chat/completions",
}

// asked are what the gateway itself asks a model server for, without a probe's mark.
var asked = []string{"GET /metrics", "GET /version", "GET /slots"}

// overrides are fields by which some servers let a request name another path, method
// or host than its first line does.
var overrides = []string{"x-original-url", "x-rewrite-url", "x-http-method-override", "x-method-override", "x-forwarded-host", "x-forwarded-prefix", "forwarded", "upgrade", "http2-settings"}

// note says whether m must not have arrived, and keeps that.
func (s *Server) note(m *message) bool {
	name := named(m.raw, forbiddenMark(s.run, ""))
	if name == "" && !usual(m) {
		name = named(m.raw, probeMark(s.run, ""))
		if what := m.method + " " + m.target; name == "" && !slices.Contains(asked, what) {
			name = fmt.Sprintf("%.100q", what)
		}
	}
	if name == "" {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.reached, name) && len(s.reached) < 1000 {
		s.reached = append(s.reached, name)
	}
	return true
}

// usual says whether m is a request that the gateway makes.
func usual(m *message) bool {
	path, query := m.path()
	return slices.Contains(expected, m.method+" "+path) && (query == "" || query == "beta=true") &&
		!slices.ContainsFunc(m.fields, func(f field) bool { return slices.Contains(overrides, f.name) })
}
