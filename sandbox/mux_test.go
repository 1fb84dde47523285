package sandbox

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
)

func TestMuxTarget(t *testing.T) {
	gate4, gate6 := netip.MustParseAddr("10.213.0.1"), netip.MustParseAddr("fd00::1")
	m := newMux(&net.TCPAddr{}, gate4, gate6)
	none := newMux(&net.TCPAddr{}, gate4, netip.Addr{})
	for _, c := range []struct {
		m      *mux
		wanted string
		want   net.Listener
	}{
		{m, "10.213.0.1:8000", m.Model}, {m, "[::ffff:10.213.0.1]:8000", m.Model}, {m, "[fd00::1]:8000", m.Model},
		{m, "10.213.0.1:3128", m.Proxy}, {m, "[fd00::1]:3128", m.Proxy},
		{m, "10.213.0.1:53", m.DNS}, {m, "203.0.113.5:53", m.DNS}, {m, "[2001:db8::5]:53", m.DNS},
		{m, "10.213.0.1:8001", m.Intercept}, {m, "10.213.0.1:80", m.Intercept}, {m, "10.213.0.1:0", m.Intercept},
		{m, "10.213.0.3:8000", m.Intercept}, {m, "203.0.113.5:8000", m.Intercept}, {m, "203.0.113.5:3128", m.Intercept},
		{m, "[fd00::2]:8000", m.Intercept}, {m, "127.0.0.1:8000", m.Intercept},
		{none, "[fd00::1]:8000", none.Intercept}, {none, "10.213.0.1:8000", none.Model},
	} {
		if got := c.m.target(netip.MustParseAddrPort(c.wanted)); got != c.want {
			t.Errorf("%s came to the wrong queue", c.wanted)
		}
	}
}

// served is a mux that serves a loopback listener until stop.
func served(t *testing.T, gates ...netip.Addr) (m *mux, addr string, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	m = newMux(l.Addr(), gates...)
	var running sync.WaitGroup
	running.Go(func() {
		if err := m.serve(ctx, l); err != nil {
			t.Error(err)
		}
	})
	stop = func() { cancel(); running.Wait() }
	t.Cleanup(stop)
	return m, l.Addr().String(), stop
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// At the end everything is reset: what is served, what waits to be accepted.
func TestMuxResetsAtTheEnd(t *testing.T) {
	m, addr, stop := served(t)
	open := dial(t, addr)
	c, err := m.Intercept.Accept()
	if err != nil {
		t.Fatal(err)
	}
	waiting := dial(t, addr)
	stop()
	for _, c := range []net.Conn{open, waiting} {
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("not reset: %v", err)
		}
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("our side: %v", err)
	}
	for _, l := range []net.Listener{m.Model, m.Proxy, m.DNS, m.Intercept} {
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("accept after the end: %v", err)
		}
	}
	if _, err := net.Dial("tcp", addr); err == nil {
		t.Error("the listener is open")
	}
}

// A server that ended gets no connection; nothing hangs.
func TestMuxWithAClosedQueue(t *testing.T) {
	m, addr, _ := served(t)
	m.Intercept.Close()
	m.Intercept.Close()
	c, err := net.Dial("tcp", addr) // the reset may come before the end of this
	if err == nil {
		_, err = c.Read(make([]byte, 1))
		c.Close()
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("not reset: %v", err)
	}
}

func TestMuxForgetsClosedConnections(t *testing.T) {
	m, addr, _ := served(t)
	for range 3 {
		dial(t, addr)
		c, err := m.Intercept.Accept()
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.conns) != 0 {
		t.Errorf("%d are remembered", len(m.conns))
	}
}

func TestShortageIsToldFromFailure(t *testing.T) {
	for err, want := range map[error]bool{
		&net.OpError{Op: "accept", Err: syscall.EMFILE}: true, syscall.ENFILE: true, syscall.ENOBUFS: true,
		net.ErrClosed: false, syscall.EINVAL: false,
	} {
		if isShortage(err) != want {
			t.Errorf("%v: not %v", err, want)
		}
	}
}
