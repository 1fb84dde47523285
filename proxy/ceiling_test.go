package proxy

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// mostConns is what one server of a sandbox holds at once.
const mostConns = 256

// descriptors counts those of this process.
func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// One sandbox can hold mostConns connections of each server and no more, in
// whichever way it holds them; the server's descriptors and goroutines are
// bounded with them, and all come back.
func TestCeilings(t *testing.T) {
	for name, c := range map[string]struct {
		server func(*kept, *far) server
		hold   func(*testing.T, net.Conn) // returns once the server is busy with it
	}{
		"the model endpoint, idle": {func(k *kept, f *far) server { return fuzzModel(k, f) }, func(t *testing.T, c net.Conn) { say(t, c, "GET /health HTTP/1.1\r\nHost: m\r\n\r\n", 200) }},
		"the model endpoint, a body that stops": {func(k *kept, f *far) server { return fuzzModel(k, f) }, func(t *testing.T, c net.Conn) {
			say(t, c, "POST /v1/messages HTTP/1.1\r\nHost: m\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n", 100)
		}},
		"the model endpoint, half a head": {func(k *kept, f *far) server { return fuzzModel(k, f) }, func(t *testing.T, c net.Conn) {
			say(t, c, "GET /health HTTP/1.1\r\nHost: m\r\n\r\nGET /", 200)
		}},
		"the proxy, tunnels": {func(k *kept, f *far) server {
			return &Forward{Policy: fuzzPolicy(t), Dial: f.dial, Record: k.record, Log: quiet}
		}, func(t *testing.T, c net.Conn) { say(t, c, "CONNECT a.example:80 HTTP/1.1\r\n\r\n", 200) }},
		"the proxy, refused": {func(k *kept, f *far) server {
			return &Forward{Policy: fuzzPolicy(t), Dial: f.dial, Record: k.record, Log: quiet}
		}, func(t *testing.T, c net.Conn) {
			say(t, c, "GET http://c.example/ HTTP/1.1\r\nHost: c.example\r\n\r\n", 403)
		}},
		"intercept": {func(k *kept, _ *far) server {
			return &Intercept{Record: k.record, Log: quiet, HelloTimeout: time.Hour, firstByte: time.Hour}
		}, func(*testing.T, net.Conn) {}},
	} {
		t.Run(name, func(t *testing.T) {
			k, behind := &kept{}, &far{}
			fds, goroutines := descriptors(t), runtime.NumGoroutine()
			addr, stop := startStop(t, c.server(k, behind))
			var conns []net.Conn
			for range mostConns {
				conn := dialHeld(t, addr)
				c.hold(t, conn)
				conns = append(conns, conn)
			}
			for range 2 * maxAway {
				if !refusedAtOnce(addr, "") {
					t.Fatal("one connection more was served")
				}
			}
			// Both ends of each connection are ours.
			if n := descriptors(t) - fds; n > 2*mostConns+2*maxAway+20 {
				t.Errorf("%d descriptors are held", n)
			}
			if n := runtime.NumGoroutine() - goroutines; n > 6*mostConns+maxAway+20 {
				t.Errorf("%d goroutines are held", n)
			}
			for _, conn := range conns {
				_ = conn.Close()
			}
			stop()
			behind.wg.Wait()
			if n := k.with(tooMany); n != 2*maxAway {
				t.Errorf("%d of %d connections beyond have an event", n, 2*maxAway)
			}
			if n := descriptors(t); n > fds+2 { // the poller's own, once
				t.Errorf("%d descriptors, %d before", n, fds)
			}
			// Those of goproxy have closed their tunnel before they end.
			n := runtime.NumGoroutine()
			for end := time.Now().Add(10 * time.Second); n > goroutines+2 && time.Now().Before(end); n = runtime.NumGoroutine() {
				runtime.Gosched()
			}
			if n > goroutines+2 { // of a test before that ends
				t.Errorf("%d goroutines, %d before", n, goroutines)
			}
		})
	}
}

// with counts the events whose reason has part.
func (k *kept) with(part string) (n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, e := range k.events {
		if strings.Contains(e.Reason, part) {
			n++
		}
	}
	return n
}

func dialHeld(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	return c
}

// say sends a request and waits for the head of its answer.
func say(t *testing.T, c net.Conn, request string, status int) {
	t.Helper()
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	method, _, _ := strings.Cut(request, " ")
	response, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil || response.StatusCode != status {
		t.Fatalf("%v, %v", response, err)
	}
}
