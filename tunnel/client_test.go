package tunnel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

func TestDialTCPAndUnix(t *testing.T) {
	s := startSSHD(t, []string{"ed25519"})
	c := start(t, s.host(t, s.port))
	for network, addr := range map[string]string{"tcp": listenTCP(t, echo), "unix": listenUnix(t, echo)} {
		conn, err := c.Dial(testContext(t), network, addr)
		ok(t, err)
		if got := conn.RemoteAddr(); got.String() != addr || got.Network() != network {
			t.Errorf("RemoteAddr %s %s, want %s %s", got.Network(), got, network, addr)
		}
		roundTrip(t, conn, "hello")
		ok(t, conn.(interface{ CloseWrite() error }).CloseWrite())
		if n, err := conn.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("after CloseWrite: read %d, %v; want EOF", n, err)
		}
		ok(t, conn.Close())
		if _, err := conn.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("write after Close: %v", err)
		}
	}
	if st := c.State(); !st.Up || st.Reconnects != 0 || st.Since.IsZero() {
		t.Errorf("state %+v", st)
	}
}

// One connection carries all streams: sshd's MaxSessions counts only sessions.
func TestManyStreamsOneConnection(t *testing.T) {
	s := startSSHD(t, []string{"ed25519"}, "MaxSessions 1")
	r := newRelay(t, fmt.Sprintf("127.0.0.1:%d", s.port))
	c := start(t, s.host(t, r.port))
	addr := listenUnix(t, echo)
	var conns []net.Conn
	for range 50 {
		conn, err := c.Dial(testContext(t), "unix", addr)
		ok(t, err)
		defer conn.Close()
		conns = append(conns, conn)
	}
	var wg sync.WaitGroup
	for i, conn := range conns {
		wg.Go(func() { roundTrip(t, conn, fmt.Sprintf("stream %d", i)) })
	}
	wg.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.conns) != 2 {
		t.Errorf("%d TCP connections, want 1", len(r.conns)/2)
	}
}

// Bytes are neither lost nor changed, whatever their number.
func TestBulk(t *testing.T) {
	s := startSSHD(t, []string{"ed25519"})
	c := start(t, s.host(t, s.port))
	conn, err := c.Dial(testContext(t), "unix", listenUnix(t, echo))
	ok(t, err)
	defer conn.Close()
	const size = 8<<20 + 7
	sent := make([]byte, size)
	for i := range sent {
		sent[i] = byte(i * 31 >> 3)
	}
	go func() {
		conn.Write(sent)
		conn.(*stream).CloseWrite()
	}()
	got, err := io.ReadAll(conn)
	if err != nil || string(got) != string(sent) {
		t.Fatalf("%d of %d bytes came back, %v", len(got), size, err)
	}
}

func TestTargetErrors(t *testing.T) {
	s := startSSHD(t, []string{"ed25519"})
	forbids := startSSHD(t, []string{"ed25519"}, "AllowTcpForwarding no", "AllowStreamLocalForwarding no")
	free, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	closed := free.Addr().String()
	free.Close()
	for _, tt := range []struct {
		name          string
		s             *sshd
		network, addr string
		want          string
	}{
		{"missing socket", s, "unix", filepath.Join(t.TempDir(), "no.sock"), "is the model server running"},
		{"closed port", s, "tcp", closed, "Connection refused"},
		{"unix forbidden", forbids, "unix", listenUnix(t, echo), "AllowStreamLocalForwarding"},
		{"tcp forbidden", forbids, "tcp", listenTCP(t, echo), "AllowTcpForwarding"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := start(t, tt.s.host(t, tt.s.port))
			_, err := c.Dial(testContext(t), tt.network, tt.addr)
			var target *TargetError
			var open *ssh.OpenChannelError
			if !errors.As(err, &target) || !errors.As(err, &open) || errors.Is(err, ErrLinkDown) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v; want a TargetError with %q", err, tt.want)
			}
			t.Log(err)
			if !c.State().Up {
				t.Error("the link went down for a target's fault")
			}
		})
	}
}

func TestProhibitedNamesSettings(t *testing.T) {
	for network, want := range map[string][]string{"unix": {"AllowStreamLocalForwarding", "AllowTcpForwarding", "PermitOpen"}, "tcp": {"AllowTcpForwarding", "PermitOpen"}} {
		err := targetError("gpu", network, "/m.sock", &ssh.OpenChannelError{Reason: ssh.Prohibited, Message: "no"})
		for _, setting := range want {
			if !strings.Contains(err.Error(), setting) {
				t.Errorf("%s: %v", network, err)
			}
		}
	}
}

func TestDialRefusesNonsense(t *testing.T) {
	s := startSSHD(t, []string{"ed25519"})
	c := start(t, s.host(t, s.port))
	for _, bad := range [][2]string{{"udp", "127.0.0.1:1"}, {"tcp", "127.0.0.1"}, {"tcp", "127.0.0.1:0"}, {"tcp", "127.0.0.1:65536"}, {"unix", ""}} {
		if _, err := c.Dial(testContext(t), bad[0], bad[1]); err == nil {
			t.Errorf("Dial%q succeeded", bad)
		}
	}
}

// hung answers nothing and reads nothing.
func hung(t *testing.T) func(net.Conn) {
	return func(net.Conn) { <-t.Context().Done() }
}

func TestDeadlines(t *testing.T) {
	s := startSSHD(t, []string{"ed25519"})
	c := start(t, s.host(t, s.port))
	stuck := listenTCP(t, hung(t))
	conn, err := c.Dial(testContext(t), "tcp", stuck)
	ok(t, err)
	defer conn.Close()
	timeout := func(what string, err error) {
		t.Helper()
		var n net.Error
		if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &n) || !n.Timeout() {
			t.Errorf("%s: %v", what, err)
		}
	}
	ok(t, conn.SetReadDeadline(time.Now().Add(20*time.Millisecond)))
	_, err = conn.Read(make([]byte, 1))
	timeout("read", err)
	for patience, n := 50*time.Millisecond, 0; n == 0; patience *= 2 { // on a busy machine it may be over before the first byte
		ok(t, conn.SetWriteDeadline(time.Now().Add(patience)))
		n, err = conn.Write(make([]byte, 64<<20)) // more than all windows and buffers hold
		timeout("write", err)
	}
	ok(t, conn.SetWriteDeadline(time.Time{}))
	if _, err = conn.Write([]byte("x")); err == nil {
		t.Error("a write was allowed after one that was cut short")
	}
	echoed, err := c.Dial(testContext(t), "tcp", listenTCP(t, echo))
	ok(t, err)
	defer echoed.Close()
	ok(t, echoed.SetReadDeadline(time.Now().Add(-time.Second)))
	_, err = echoed.Read(make([]byte, 1))
	timeout("read with a past deadline", err)
	ok(t, echoed.SetDeadline(time.Time{}))
	roundTrip(t, echoed, "a deadline that is over does not spoil the stream")
}

// net/http's Transport works over Dial, event by event, and a cancelled request ends.
func TestHTTP(t *testing.T) {
	s := startSSHD(t, []string{"ed25519"})
	c := start(t, s.host(t, s.port))
	path := filepath.Join(t.TempDir(), "http.sock")
	l, err := net.Listen("unix", path)
	ok(t, err)
	more := make(chan bool)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "data: 1\n\n")
		w.(http.Flusher).Flush()
		select {
		case <-more:
			io.WriteString(w, "data: 2\n\n")
		case <-r.Context().Done():
		}
	})}
	go srv.Serve(l)
	defer srv.Close()
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return c.Dial(ctx, "unix", path) }}
	defer tr.CloseIdleConnections()
	get := func(ctx context.Context) io.ReadCloser {
		req, err := http.NewRequestWithContext(ctx, "GET", "http://model/", nil)
		ok(t, err)
		resp, err := tr.RoundTrip(req)
		ok(t, err)
		one := make([]byte, 9)
		_, err = io.ReadFull(resp.Body, one)
		ok(t, err)
		return resp.Body
	}
	body := get(testContext(t))
	more <- true
	rest, err := io.ReadAll(body)
	if err != nil || string(rest) != "data: 2\n\n" {
		t.Errorf("rest %q, %v", rest, err)
	}
	ctx, cancel := context.WithCancel(testContext(t))
	body = get(ctx)
	cancel()
	if _, err := io.ReadAll(body); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled request: %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	for name, h := range map[string]Host{
		"zero":      {},
		"no user":   {Name: "x", Addr: "x", Port: 22},
		"no port":   {Name: "x", Addr: "x", User: "me"},
		"bad key":   {Name: "x", Addr: "x", Port: 22, User: "me", Keys: []Key{{Path: "k", PEM: []byte("nonsense")}}},
		"bad known": {Name: "x", Addr: "x", Port: 22, User: "me", KnownHosts: "nonsense"},
		"bad hop":   {Name: "x", Addr: "x", Port: 22, User: "me", Jump: []Host{{Name: "j"}}},
	} {
		if _, err := New(h, testLogger(t)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := New(Host{Name: "x", Addr: "x", Port: 22, User: "me"}, nil); err == nil {
		t.Error("no logger: no error")
	}
}
