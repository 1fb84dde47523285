package runner

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// idler is a server that is watched for idleness, in a bubble with its own clock.
type idler struct {
	activity activity
	x        *exchange
	stopped  chan bool
	began    time.Time
}

func watch(t *testing.T, limit time.Duration, ready func(context.Context) bool) *idler {
	i := &idler{stopped: make(chan bool, 1), began: time.Now()}
	i.x = &exchange{activity: &i.activity}
	go func() { i.stopped <- i.activity.waitIdle(t.Context(), limit, ready) }()
	synctest.Wait()
	return i
}

// after lets time pass, and reports whether the server was stopped.
func (i *idler) after(d time.Duration) bool {
	time.Sleep(d) // the bubble's
	synctest.Wait()
	select {
	case <-i.stopped:
		return true
	default:
		return false
	}
}

func always(context.Context) bool { return true }

const (
	get    = "GET /health HTTP/1.1\r\nHost: model\r\n\r\n"
	post   = "POST /v1/messages HTTP/1.1\r\nHost: model\r\nContent-Length: 2\r\n\r\n{}"
	health = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
	header = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
)

func TestIdleness(t *testing.T) {
	const limit = 30 * time.Minute
	for _, c := range []struct {
		name string
		do   func(t *testing.T, i *idler)
	}{
		{"polls are no work", func(t *testing.T, i *idler) {
			for range 59 { // the first 30 minutes show that it has loaded
				if i.after(time.Minute) {
					t.Fatal("stopped too early")
				}
				i.x.fromClient([]byte(get))
				i.x.fromServer([]byte(health))
			}
			if !i.after(time.Minute) {
				t.Error("not stopped")
			}
		}},
		{"a poll without an answer is no work", func(t *testing.T, i *idler) {
			i.x.fromClient([]byte(get))
			if !i.after(2 * limit) {
				t.Error("not stopped")
			}
		}},
		{"a request without an answer is work", func(t *testing.T, i *idler) {
			i.x.fromClient([]byte(post))
			if i.after(100 * limit) {
				t.Error("stopped")
			}
		}},
		{"a stream that pauses is work", func(t *testing.T, i *idler) {
			i.x.fromClient([]byte(post))
			i.x.fromServer([]byte(header + "5\r\nhello\r\n"))
			if i.after(100 * limit) {
				t.Error("stopped")
			}
		}},
		{"after the answer it is idle", func(t *testing.T, i *idler) {
			i.x.fromClient([]byte(post))
			i.after(2 * limit)
			i.x.fromServer([]byte(header + "5\r\nhello\r\n0\r\n"))
			i.x.fromServer([]byte("\r\n"))
			if i.after(limit - time.Second) {
				t.Error("stopped too early") // it has loaded meanwhile or not
			}
			if !i.after(limit + time.Second) {
				t.Error("not stopped")
			}
		}},
		{"a client that hangs up is idle", func(t *testing.T, i *idler) {
			i.x.fromClient([]byte(post))
			i.after(2 * limit)
			i.x.end()
			if !i.after(2 * limit) {
				t.Error("not stopped")
			}
		}},
		{"one of two requests is enough", func(t *testing.T, i *idler) {
			other := &exchange{activity: &i.activity}
			i.x.fromClient([]byte(post))
			other.fromClient([]byte(post))
			other.fromServer([]byte(health))
			other.end()
			if i.after(100 * limit) {
				t.Error("stopped")
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { c.do(t, watch(t, limit, always)) })
		})
	}
}

// A server that loads for longer than the limit is not stopped for it.
func TestLoadingIsNotIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		i := watch(t, 5*time.Minute, func(context.Context) bool { return time.Since(began) > time.Hour })
		if i.after(time.Hour) {
			t.Error("stopped while it loads")
		}
		if !i.after(11 * time.Minute) {
			t.Error("not stopped")
		}
	})
}

func TestExchange(t *testing.T) {
	for _, c := range []struct {
		name, client, server string
		counts, open         bool
	}{
		{"poll", get, health, false, false},
		{"HEAD", "HEAD / HTTP/1.1\r\n\r\n", health, false, false},
		{"message", post, header, true, true},
		{"lower case is not understood", "get / HTTP/1.1\r\n\r\n", "", true, true},
		{"OPTIONS is not a poll", "OPTIONS / HTTP/1.1\r\n\r\n", "", true, true},
		{"GET with a body", get + "x", "", true, true},
		{"a request behind a poll", get + post, "", true, true},
		{"by length", post, "HTTP/1.1 200 OK\r\ncontent-LENGTH: 5\r\n\r\nhello", true, false},
		{"by length, not all", post, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello", true, true},
		{"chunked", post, header + "5\r\nhello\r\n0\r\n\r\n", true, false},
		{"chunked, empty", post, header + "0\r\n\r\n", true, false},
		{"a zero that ends nothing", post, header + "10\r\n0\r\n\r\n0\r\n\r\n", true, true},
		{"trailers", post, header + "1;x=y\r\na\r\n0\r\nA: b\r\n\r\n", true, false},
		{"trailers, not all", post, header + "0\r\nA: b\r\n", true, true},
		{"no chunk", post, header + "hello\r\n0\r\n\r\n", true, true},
		{"length and chunked", post, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n", true, true},
		{"interim", post, "HTTP/1.1 100 Continue\r\n\r\n", true, true},
		{"interim and final", post, "HTTP/1.1 103 Early\r\n\r\n" + health, true, false},
		{"no content", post, "HTTP/1.1 204 No Content\r\n\r\n", true, false},
		{"until close", post, "HTTP/1.1 200 OK\r\n\r\nhello", true, true},
		{"upgrade", post, "HTTP/1.1 101 Switching\r\n\r\n", true, true},
		{"no HTTP", post, "SSH-2.0\r\n\r\n", true, true},
		{"negative length", post, "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", true, true},
	} {
		// However the bytes come, the result is the same.
		for _, size := range []int{1, 2, 3, 7, 1 << 20} {
			a := &activity{}
			x := &exchange{activity: a}
			first := c.client
			if strings.HasPrefix(first, "GET ") {
				first = first[:10]
				x.fromClient([]byte(first))
				first = c.client[10:]
			}
			x.fromClient([]byte(first))
			counts := a.busy > 0
			for s := c.server; s != ""; {
				n := min(size, len(s))
				x.fromServer([]byte(s[:n]))
				s = s[n:]
			}
			if counts != c.counts || (a.busy > 0) != c.open {
				t.Errorf("%s, by %d: counts %v, open %v", c.name, size, counts, a.busy > 0)
			}
			if x.end(); a.busy != 0 {
				t.Errorf("%s: %d are busy after the end", c.name, a.busy)
			}
		}
	}
}

// On a connection that is kept, each request counts by itself.
func TestExchangeKeptConnection(t *testing.T) {
	a := &activity{}
	x := &exchange{activity: a}
	for range 3 {
		x.fromClient([]byte(get))
		x.fromServer([]byte(health))
		if a.busy != 0 {
			t.Fatal("a poll counts")
		}
		x.fromClient([]byte(post))
		if a.busy != 1 {
			t.Fatal("a request does not count")
		}
		x.fromServer([]byte(header + "2\r\nhi\r\n0\r\n\r\n"))
		if a.busy != 0 {
			t.Fatal("an answered request counts")
		}
	}
}

// Nothing that either side sends makes the count wrong.
func FuzzExchange(f *testing.F) {
	f.Add([]byte(get), []byte(health), uint8(3))
	f.Add([]byte(post), []byte(header+"5\r\nhello\r\n0\r\n\r\n"), uint8(1))
	f.Fuzz(func(t *testing.T, client, server []byte, size uint8) {
		a := &activity{}
		x := &exchange{activity: a}
		n := int(size) + 1
		for len(client) > 0 || len(server) > 0 {
			if k := min(n, len(client)); k > 0 {
				x.fromClient(client[:k])
				client = client[k:]
			}
			if k := min(n, len(server)); k > 0 {
				x.fromServer(server[:k])
				server = server[k:]
			}
			if a.busy < 0 || a.busy > 1 || (a.busy == 1) != x.open {
				t.Fatalf("%d busy, open %v", a.busy, x.open)
			}
		}
		if x.end(); a.busy != 0 {
			t.Fatalf("%d busy after the end", a.busy)
		}
	})
}
