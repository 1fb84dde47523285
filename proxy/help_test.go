package proxy

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/policy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

// ledger is a Record for tests.
type ledger struct {
	mu     sync.Mutex
	events []audit.Event
	more   chan audit.Event
	fail   bool
}

func newLedger() *ledger { return &ledger{more: make(chan audit.Event, 1000)} }

func (l *ledger) record(e audit.Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fail {
		return errors.New("disk full")
	}
	l.events = append(l.events, e)
	l.more <- e
	return nil
}

func (l *ledger) setFail(v bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fail = v
}

// next waits for the next event.
func (l *ledger) next(t *testing.T) audit.Event {
	t.Helper()
	select {
	case e := <-l.more:
		return e
	case <-time.After(10 * time.Second):
		t.Fatal("no event")
		return audit.Event{}
	}
}

// none fails if an event came that nobody asked for.
func (l *ledger) none(t *testing.T) {
	t.Helper()
	select {
	case e := <-l.more:
		t.Fatalf("unexpected event %+v", e)
	default:
	}
}

type server interface {
	Serve(ctx context.Context, l net.Listener) error
}

// start serves s on a loopback listener until the test ends.
func start(t testing.TB, s server) (addr string) {
	t.Helper()
	addr, stop := startStop(t, s)
	t.Cleanup(stop)
	return addr
}

func startStop(t testing.TB, s server) (addr string, stop func()) {
	t.Helper()
	l := listen(t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	return l.Addr().String(), func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	}
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// origin accepts on loopback and hands each connection to handle.
func origin(t testing.TB, handle func(c *net.TCPConn)) (addr string) {
	t.Helper()
	l := listen(t)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(20 * time.Second))
				handle(c.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	return l.Addr().String()
}

// httpOrigin is an origin that speaks HTTP.
func httpOrigin(t testing.TB, h http.HandlerFunc) (addr string) {
	t.Helper()
	l := listen(t)
	srv := &http.Server{Handler: h, ErrorLog: slog.NewLogLogger(quiet.Handler(), slog.LevelDebug)}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	t.Cleanup(func() {
		_ = srv.Close()
		<-done
	})
	return l.Addr().String()
}

func dialTo(addr string) func(context.Context, string, uint16) (net.Conn, error) {
	return func(ctx context.Context, _ string, _ uint16) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", addr)
	}
}

func allow(t testing.TB, rules ...policy.Rule) func() *policy.Policy {
	t.Helper()
	p, err := policy.New(rules)
	if err != nil {
		t.Fatal(err)
	}
	return func() *policy.Policy { return p }
}

// client is a raw connection to a server under test.
type client struct {
	*net.TCPConn
	t *testing.T
	r *bufio.Reader
}

func connect(t *testing.T, addr string) *client {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return &client{c.(*net.TCPConn), t, bufio.NewReader(c)}
}

func (c *client) send(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		c.t.Fatalf("send: %v", err)
	}
}

// response reads one response and its body.
func (c *client) response(method string) (*http.Response, string) {
	c.t.Helper()
	resp, err := http.ReadResponse(c.r, &http.Request{Method: method})
	if err != nil {
		c.t.Fatalf("read response: %v", err)
	}
	if method == http.MethodConnect && resp.StatusCode == 200 {
		return resp, ""
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatalf("read body: %v", err)
	}
	return resp, string(b)
}

// rest reads until the connection ends.
func (c *client) rest() (string, error) {
	b, err := io.ReadAll(c.r)
	return string(b), err
}

func mustContain(t *testing.T, s string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(s, p) {
			t.Errorf("%q lacks %q", s, p)
		}
	}
}

// refusedAtOnce says whether a new connection to addr is reset before it gets an
// answer to hello.
func refusedAtOnce(addr, hello string) bool {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return true
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	_, _ = io.WriteString(c, hello)
	var b [1]byte
	_, err = c.Read(b[:])
	return err != nil
}
