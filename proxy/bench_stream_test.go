package proxy

import (
	"bufio"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"runtime"
	"testing"
)

// peerProxy is httputil.ReverseProxy in front of addr, as a user would write it.
func peerProxy(b *testing.B, addr string) string {
	b.Helper()
	p := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: addr})
	p.FlushInterval = -1
	transport := &http.Transport{DisableCompression: true}
	p.Transport, p.ErrorLog = transport, slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	b.Cleanup(transport.CloseIdleConnections)
	return httpOrigin(b, func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		p.ServeHTTP(w, r)
	})
}

// fronts are what streams are measured through: ours, a peer, and nothing.
var fronts = []struct {
	name  string
	start func(b *testing.B, addr string) string
}{
	{"sallyport", func(b *testing.B, addr string) string {
		m := modelTo(newLedger(), addr)
		m.MaxConns = 5000
		return start(b, m)
	}},
	{"ReverseProxy", peerProxy},
	{"direct", func(_ *testing.B, addr string) string { return addr }},
}

// BenchmarkModelEvent is the way of one event through the model endpoint, over
// loopback, with one stream.
func BenchmarkModelEvent(b *testing.B) {
	for _, front := range fronts {
		b.Run(front.name, func(b *testing.B) { benchmarkEvent(b, front.start) })
	}
}

func benchmarkEvent(b *testing.B, front func(b *testing.B, addr string) string) {
	event := []byte(eventDelta)
	next := make(chan struct{})
	defer close(next)
	addr := origin(b, func(c *net.TCPConn) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
			return
		}
		_, _ = io.WriteString(c, headSSE)
		piece := []byte(chunk(string(event)))
		for range next {
			_, _ = c.Write(piece)
		}
	})
	body, conn := openEvents(b, front(b, addr))
	defer conn.Close()
	got := make([]byte, len(event))
	b.ReportAllocs()
	for b.Loop() {
		next <- struct{}{}
		if _, err := io.ReadFull(body, got); err != nil {
			b.Fatal(err)
		}
	}
}

// openEvents asks for a stream and returns its body.
func openEvents(b *testing.B, addr string) (io.Reader, net.Conn) {
	b.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := io.WriteString(conn, post("/v1/messages", small)); err != nil {
		b.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || resp.StatusCode != http.StatusOK {
		b.Fatalf("%v, %v", resp, err)
	}
	return resp.Body, conn
}

// BenchmarkIdleStream is the memory of a stream that has begun and says nothing,
// heap and stacks, what the client and the server of this benchmark need included.
func BenchmarkIdleStream(b *testing.B) {
	for _, front := range fronts {
		b.Run(front.name, func(b *testing.B) { benchmarkIdle(b, front.start) })
	}
}

func benchmarkIdle(b *testing.B, front func(b *testing.B, addr string) string) {
	done := make(chan struct{})
	defer close(done)
	addr := origin(b, func(c *net.TCPConn) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
			return
		}
		_, _ = io.WriteString(c, headSSE+chunk(eventStart)+chunk(eventDelta))
		<-done
	})
	at := front(b, addr)
	conns := make([]net.Conn, 0, 1000)
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	open := func() {
		body, conn := openEvents(b, at)
		conns = append(conns, conn)
		if _, err := io.ReadFull(body, make([]byte, len(eventStart+eventDelta))); err != nil {
			b.Fatal(err)
		}
	}
	open() // what is needed once
	heap, stack := inUse()
	opened := 0
	for b.Loop() {
		open()
		opened++
	}
	heapNow, stackNow := inUse()
	b.ReportMetric(float64(heapNow-heap)/float64(opened), "heap-B/stream")
	b.ReportMetric(float64(stackNow-stack)/float64(opened), "stack-B/stream")
}

// inUse is the memory of the heap and of stacks after a collection.
func inUse() (heap, stack int64) {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // the second frees what a pool held
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc), int64(m.StackInuse)
}
