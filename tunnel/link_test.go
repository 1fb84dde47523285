package tunnel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

// inFlight opens a stream, whose read it returns the end of.
func inFlight(t *testing.T, c *Client, addr string) <-chan error {
	t.Helper()
	conn, err := c.Dial(testContext(t), "unix", addr)
	ok(t, err)
	t.Cleanup(func() { conn.Close() })
	roundTrip(t, conn, "first half")
	end := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, conn)
		end <- err
	}()
	return end
}

func TestLinkDropped(t *testing.T) {
	s := startSSHD(t, []string{"ed25519"})
	r := newRelay(t, fmt.Sprintf("127.0.0.1:%d", s.port))
	c := start(t, s.host(t, r.port))
	addr := listenUnix(t, echo)
	for i := range 3 {
		end := inFlight(t, c, addr)
		r.drop()
		var link *LinkError
		if err := <-end; !errors.Is(err, ErrLinkDown) || !errors.As(err, &link) || link.Host != "gpu" {
			t.Errorf("the stream in flight ended with %v", err)
		}
		conn, err := c.Dial(testContext(t), "unix", addr)
		ok(t, err)
		roundTrip(t, conn, "the next one works")
		conn.Close()
		if st := c.State(); !st.Up || st.Reconnects != i+1 || st.LastError == "" {
			t.Errorf("state %+v", st)
		}
	}
}

// A link that silently carries nothing is noticed by its keepalive.
func TestLinkHangs(t *testing.T) {
	s := startSSHD(t, []string{"ed25519"})
	r := newRelay(t, fmt.Sprintf("127.0.0.1:%d", s.port))
	h := s.host(t, r.port)
	h.KeepAlive = 400 * time.Millisecond
	c := start(t, h)
	addr := listenUnix(t, echo)
	end := inFlight(t, c, addr)
	r.freeze()
	if err := <-end; !errors.Is(err, ErrLinkDown) || !strings.Contains(err.Error(), "keepalive") {
		t.Errorf("the stream in flight ended with %v", err)
	}
	conn, err := c.Dial(testContext(t), "unix", addr)
	ok(t, err)
	defer conn.Close()
	roundTrip(t, conn, "the next one works")
}

func TestProxyJump(t *testing.T) {
	far, near, first := startSSHD(t, []string{"ed25519"}), startSSHD(t, []string{"ecdsa"}), startSSHD(t, []string{"ed25519"})
	h, hop, hop0 := far.host(t, far.port), near.host(t, near.port), first.host(t, first.port)
	hop.Name, hop0.Name = "bastion", "gate"
	h.Jump = []Host{hop0, hop}
	addr := listenUnix(t, echo)
	ok(t, dialOnce(t, h, "unix", addr))

	// Each hop is verified itself.
	bad := h
	bad.Jump = []Host{hop0, hop}
	setKnown(t, &bad.Jump[1], "")
	e := hostKeyError(t, dialOnce(t, bad, "unix", addr), HostKeyUnknown)
	if e.Host != "bastion" || !strings.HasPrefix(e.Fix, "echo ") { // ssh-keyscan cannot reach it from here
		t.Errorf("host %s, fix %q", e.Host, e.Fix)
	}
	runFix(t, &bad.Jump[1], e.Fix)
	ok(t, dialOnce(t, bad, "unix", addr))
	setKnown(t, &bad, fmt.Sprintf("[127.0.0.1]:%d %s", far.port, newKey(t, "ed25519").authorized()))
	hostKeyError(t, dialOnce(t, bad, "unix", addr), HostKeyChanged)
}

// The link fails when a hop on its way does.
func TestProxyJumpDropped(t *testing.T) {
	far, near := startSSHD(t, []string{"ed25519"}), startSSHD(t, []string{"ed25519"})
	r := newRelay(t, fmt.Sprintf("127.0.0.1:%d", near.port))
	h, hop := far.host(t, far.port), near.host(t, r.port)
	h.Jump = []Host{hop}
	c := start(t, h)
	end := inFlight(t, c, listenUnix(t, echo))
	r.drop()
	if err := <-end; !errors.Is(err, ErrLinkDown) {
		t.Errorf("the stream in flight ended with %v", err)
	}
}

// Run ends everything, also streams that nobody closed; Dial then says so.
func TestRunEnds(t *testing.T) {
	s := startSSHD(t, []string{"ed25519"})
	c, err := New(s.host(t, s.port), testLogger(t))
	ok(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- c.Run(ctx) }()
	end := inFlight(t, c, listenUnix(t, echo))
	if err := c.Run(ctx); err == nil {
		t.Error("a second Run at the same time was allowed")
	}
	cancel()
	ok(t, <-ended)
	if err := <-end; !errors.Is(err, ErrLinkDown) {
		t.Errorf("the open stream ended with %v", err)
	}
	gone, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := c.Dial(gone, "unix", "/x"); !errors.Is(err, ErrLinkDown) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Dial without Run: %v", err)
	}
}
