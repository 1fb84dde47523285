// Package web is the audit page: the record in a browser, on a loopback port that
// lets in only who has been given a link by the gateway's own user. It shows
// events, counts, sandboxes and the metrics; it changes nothing, decides nothing
// and asks no other host for anything.
package web

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/control"
	"github.com/sallyport/sallyport/sandbox"
)

// Bounds of what one listener takes. Whoever has an account on this machine can
// connect to it.
const (
	maxHeader      = 16 << 10 // bytes of a request's head
	maxConnections = 64
	maxStreams     = 8
	headerTimeout  = 5 * time.Second
	writeTimeout   = 30 * time.Second // of a whole answer
	streamTimeout  = 5 * time.Second  // of one piece of the live stream
	queryTimeout   = 20 * time.Second // of all questions that one view asks the record
)

// Server serves the page. Store, Open, Sandboxes, Status and Log are required.
type Server struct {
	Store     *audit.Store                  // tells what is new
	Open      func() (*audit.Reader, error) // the record; opened for each request
	Sandboxes func() []sandbox.State        // those that run
	Status    func() control.Status         // of the gateway, its wall and its GPU hosts
	Metrics   http.Handler                  // served at /metrics; nil: there is no such page
	Refused   func(reason string)           // told of requests that were turned away; nil: only the log is
	Now       func() time.Time              // nil: time.Now
	Loc       *time.Location                // of times; nil: this machine's
	Log       *slog.Logger

	address  atomic.Pointer[net.TCPAddr]
	gate     gate
	streams  atomic.Int32
	interval time.Duration // between signs of life in the live stream; zero: 15 s
	ahead    time.Duration // how long changes are gathered for one message of it; zero: 0.5 s
}

// Serve serves l, which must listen on 127.0.0.1, until ctx ends and every
// request has ended.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	if s.Store == nil || s.Open == nil || s.Sandboxes == nil || s.Status == nil || s.Log == nil {
		return errors.New("web.Server: a required field is missing")
	}
	address, ok := l.Addr().(*net.TCPAddr)
	if !ok || !address.IP.Equal(net.IPv4(127, 0, 0, 1)) {
		return fmt.Errorf("serve the audit page at %s: it is for 127.0.0.1 alone", l.Addr())
	}
	s.address.Store(address)
	defer s.address.Store(nil)
	server := s.server(strconv.Itoa(address.Port))
	server.BaseContext = func(net.Listener) context.Context { return ctx }
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if server.Shutdown(grace) != nil {
			server.Close()
		}
	})
	err := server.Serve(&boundedListener{Listener: l, max: maxConnections})
	if !stop() {
		<-stopped
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve the audit page: %w", err)
}

// server has the bounds in time and size of all requests.
func (s *Server) server(port string) *http.Server {
	return &http.Server{
		Handler:           s.handler(port),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       2 * headerTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug), // what strangers send is no news
	}
}

// URL is a way in that works once and for five minutes; empty: the page is not
// served.
func (s *Server) URL() string {
	address := s.address.Load()
	if address == nil {
		return ""
	}
	token := s.gate.tokens.issue(s.now().Add(tokenLife))
	u := url.URL{Scheme: "http", Host: address.String(), Path: "/", RawQuery: url.Values{tokenField: {token}}.Encode()}
	return u.String()
}

func (s *Server) now() time.Time {
	if s.Now != nil {
		return s.Now()
	}
	return time.Now()
}

func (s *Server) loc() *time.Location {
	if s.Loc != nil {
		return s.Loc
	}
	return time.Local
}
