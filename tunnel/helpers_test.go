package tunnel

import (
	"context"
	"io"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// patience bounds what must happen soon; no test waits for it to pass.
const patience = 20 * time.Second

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// runClient runs c until the test ends.
func runClient(t testing.TB, c *Client) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

// serve answers each connection of l with f until the test ends.
func serve(t testing.TB, l net.Listener, f func(net.Conn)) {
	t.Helper()
	var wg sync.WaitGroup
	var mu sync.Mutex
	conns := map[net.Conn]bool{}
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns[c] = true
			mu.Unlock()
			wg.Go(func() {
				defer c.Close()
				f(c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for c := range conns {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
}

// echo returns what it gets, and ends when the other side ends.
func echo(c net.Conn) { io.Copy(c, c) }

// listenTCP serves f on the loopback; listenUnix on a socket.
func listenTCP(t testing.TB, f func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	serve(t, l, f)
	return l.Addr().String()
}

func listenUnix(t testing.TB, f func(net.Conn)) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "model.sock")
	l, err := net.Listen("unix", path)
	ok(t, err)
	serve(t, l, f)
	return path
}

// roundTrip sends a line over conn, which must come back.
func roundTrip(t testing.TB, conn net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != text {
		t.Fatalf("got %q, %v; want %q", got, err, text)
	}
}

// relay is a TCP link that can break.
type relay struct {
	port   uint16
	target string

	mu     sync.Mutex
	conns  []net.Conn
	frozen chan struct{} // closed: nothing is forwarded any more
}

func newRelay(t testing.TB, target string) *relay {
	t.Helper()
	r := &relay{target: target, frozen: make(chan struct{})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	r.port = uint16(l.Addr().(*net.TCPAddr).Port)
	serve(t, l, r.forward)
	t.Cleanup(r.drop)
	return r
}

func (r *relay) forward(in net.Conn) {
	out, err := net.Dial("tcp", r.target)
	if err != nil {
		return
	}
	r.mu.Lock()
	r.conns = append(r.conns, in, out)
	frozen := r.frozen
	r.mu.Unlock()
	var wg sync.WaitGroup
	for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
		wg.Go(func() {
			defer way[0].Close()
			defer way[1].Close()
			buf := make([]byte, 32<<10)
			for {
				n, err := way[0].Read(buf)
				if err != nil {
					return
				}
				select {
				case <-frozen: // swallowed: the link looks alive and is not
					continue
				default:
				}
				if _, err := way[1].Write(buf[:n]); err != nil {
					return
				}
			}
		})
	}
	wg.Wait()
}

// drop breaks all present connections.
func (r *relay) drop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.conns {
		c.Close()
	}
	r.conns = nil
}

// freeze makes present connections carry nothing more; new ones work.
func (r *relay) freeze() {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.frozen)
	r.frozen = make(chan struct{})
}
