package dnsblock

import (
	"context"
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// On cancellation everything has ended when Serve returns.
func TestTCPCancel(t *testing.T) {
	s, b := newServer()
	b.added = make(chan struct{}, 10)
	s.IdleTimeout = time.Hour // it is not this that ends the connection
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Serve(ctx, l) }()
	c := dial(t, l.Addr().String())
	if _, err := c.Write(framed(wire("x", "example"))); err != nil {
		t.Fatal(err)
	}
	readFramed(t, c)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("the connection is still open")
	}
	if _, err := net.Dial("tcp", l.Addr().String()); err == nil {
		t.Error("the listener is still open")
	}
}

// flaky fails a few times before it is closed.
type flaky struct {
	net.Listener
	errs []error
}

func (f *flaky) Accept() (net.Conn, error) {
	if len(f.errs) == 0 {
		return nil, errors.New("broken")
	}
	err := f.errs[0]
	f.errs = f.errs[1:]
	return nil, &net.OpError{Op: "accept", Err: err}
}

func (f *flaky) Close() error { return nil }

func TestAcceptErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newServer()
		l := &flaky{errs: []error{syscall.EMFILE, syscall.ECONNABORTED}}
		if err := s.Serve(t.Context(), l); err == nil || !strings.Contains(err.Error(), "broken") || len(l.errs) > 0 {
			t.Errorf("Serve: %v, %d errors not reached", err, len(l.errs))
		}
	})
}

func TestIncompleteServer(t *testing.T) {
	s, _ := newServer()
	for name, broken := range map[string]*Server{
		"zero":      {},
		"no Record": {Log: s.Log},
		"no Log":    {Record: s.Record},
		"negative":  {Record: s.Record, Log: s.Log, MaxTCP: -1},
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if err := broken.Serve(t.Context(), l); err == nil {
			t.Errorf("%s: Serve returned nil", name)
		}
		u, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		if err := broken.ServeUDP(t.Context(), u); err == nil {
			t.Errorf("%s: ServeUDP returned nil", name)
		}
	}
}
