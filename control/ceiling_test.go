package control

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/sallyport/sallyport/sandbox"
)

// What the gateway says that it holds at once.
const (
	mostConns   = 512
	mostStreams = 384
)

// descriptors counts those of this process.
func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// kept is a connection that has asked for the status, and stays.
func kept(t *testing.T, socket string) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	if response := ask(t, c, "GET /v1/status"); response.StatusCode != http.StatusOK {
		t.Fatalf("%s", response.Status)
	}
	return c
}

// ask sends a request without a body and reads its answer whole.
func ask(t *testing.T, c net.Conn, line string) *http.Response {
	t.Helper()
	_, _ = io.WriteString(c, line+" HTTP/1.1\r\nHost: gateway\r\n\r\n") // it may be turned away already
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	response.Body = io.NopCloser(strings.NewReader(string(body)))
	return response
}

func TestConnectionsAreBounded(t *testing.T) {
	fds, goroutines := descriptors(t), runtime.NumGoroutine()
	g := newGateway(t)
	var conns []net.Conn
	for range mostConns {
		conns = append(conns, kept(t, g.socket))
	}
	for range 100 {
		c, err := net.Dial("unix", g.socket)
		if err != nil {
			t.Fatal(err)
		}
		response := ask(t, c, "GET /v1/status")
		if text, _ := io.ReadAll(response.Body); response.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(text), "hint: ") {
			t.Fatalf("one more connection: %s %s", response.Status, text)
		}
		c.Close()
	}
	// Both ends of each connection are ours, and it has a goroutine here.
	if n := descriptors(t); n > fds+2*mostConns+20 {
		t.Errorf("%d descriptors, %d before", n, fds)
	}
	if n := runtime.NumGoroutine(); n > goroutines+2*mostConns+20 {
		t.Errorf("%d goroutines, %d before", n, goroutines)
	}
	conns[0].Close()
	for { // until the server has seen it
		c, err := net.Dial("unix", g.socket)
		if err != nil {
			t.Fatal(err)
		}
		response := ask(t, c, "GET /v1/status")
		c.Close()
		if response.StatusCode == http.StatusOK {
			break
		}
	}
	for _, c := range conns {
		c.Close()
	}
	g.stop()
	runtime.GC()
	if n := descriptors(t); n > fds+2 { // the poller's own, once
		t.Errorf("%d descriptors, %d before", n, fds)
	}
}

// Watches that stay leave room for calls.
func TestStreamsAreBounded(t *testing.T) {
	g := newGateway(t)
	g.states = []sandbox.State{secretState}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wait sync.WaitGroup
	begun := make(chan struct{}, mostStreams)
	for range mostStreams {
		wait.Go(func() {
			_ = g.client.Watch(ctx, "x", func(sandbox.State) error { begun <- struct{}{}; return nil }) // it ends with ctx
		})
	}
	for range mostStreams {
		<-begun
	}
	none := func(sandbox.State) error { return nil }
	if err := g.client.Watch(t.Context(), "x", none); err == nil || !strings.Contains(err.Error(), "hint: ") {
		t.Errorf("one watch more: %v", err)
	}
	if err := g.client.Pull(t.Context(), PullRequest{Name: "m"}, func(context.Context, PullReady) error { return nil }, nil); err == nil || !strings.Contains(err.Error(), "hint: ") {
		t.Errorf("one pull more: %v", err)
	}
	if _, err := g.client.Status(t.Context()); err != nil {
		t.Errorf("a call beside them: %v", err)
	}
	cancel()
	wait.Wait()
	enough := context.Canceled
	for g.client.Watch(t.Context(), "x", func(sandbox.State) error { return enough }) != enough { // until the server has seen it
		if t.Context().Err() != nil {
			t.Fatal("no room again")
		}
	}
}

// inMemory serves one connection in a bubble of its own time.
func inMemory(t *testing.T, h Handlers, client func(net.Conn)) {
	t.Helper()
	ours, its := net.Pipe()
	l := &single{conns: make(chan net.Conn, 1), done: make(chan struct{})}
	l.conns <- its
	server := &http.Server{Handler: timed((&Server{Handlers: h, Log: slog.New(slog.DiscardHandler)}).mux()), ReadHeaderTimeout: readTime, IdleTimeout: idleTime}
	var wait sync.WaitGroup
	wait.Go(func() { _ = server.Serve(l) })
	client(ours)
	ours.Close()
	server.Close()
	wait.Wait()
	synctest.Wait()
}

// single is a listener in memory.
type single struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (l *single) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *single) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *single) Addr() net.Addr { return &net.UnixAddr{} }

// A client that promises a body and sends none is answered, and let go.
func TestABodyThatStops(t *testing.T) {
	for _, line := range []string{"POST /v1/sandboxes", "PUT /v1/hosts", "POST /v1/pulls", "POST /v1/reload", "GET /v1/status"} {
		synctest.Test(t, func(t *testing.T) {
			inMemory(t, (&noted{}).handlers(), func(c net.Conn) {
				go func() { _, _ = io.WriteString(c, line+" HTTP/1.1\r\nHost: g\r\nContent-Length: 100\r\n\r\n{") }()
				if _, err := io.ReadAll(c); err != nil {
					t.Errorf("%s: %v", line, err)
				}
			})
		})
	}
}

// A client that does not read its watch loses it.
func TestAWatchThatIsNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := (&noted{}).handlers()
		ended := make(chan error, 1)
		h.Watch = func(ctx context.Context, _ string, each func(sandbox.State) error) error {
			for {
				if err := each(secretState); err != nil {
					ended <- err
					return err
				}
			}
		}
		inMemory(t, h, func(c net.Conn) {
			_, _ = io.WriteString(c, "GET /v1/sandboxes/x/watch HTTP/1.1\r\nHost: g\r\n\r\n")
			if err := <-ended; err == nil {
				t.Error("no error")
			}
		})
	})
}
