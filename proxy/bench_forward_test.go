package proxy

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/policy"
)

// clients are how many load a server in these benchmarks.
const clients = 8

// records are what a benchmark's server has for a Record: none, so that only the
// server is measured, and a store on a disk.
func records(b *testing.B, each func(b *testing.B, record func(audit.Event) error)) {
	b.Run("unrecorded", func(b *testing.B) { each(b, func(audit.Event) error { return nil }) })
	b.Run("recorded", func(b *testing.B) {
		store, err := audit.Open(filepath.Join(b.TempDir(), "audit.db"), audit.Options{})
		if err != nil {
			b.Fatal(err)
		}
		defer store.Close()
		each(b, func(e audit.Event) error {
			_, err := store.Append(e)
			return err
		})
	})
}

// share has the clients do b.N things together. each starts one client and
// returns what it does again and again, and how it ends.
func share(b *testing.B, each func() (do func(i int), end func())) {
	var wg sync.WaitGroup
	b.ReportAllocs()
	before := cpuTime(b)
	b.ResetTimer()
	for c := range clients {
		wg.Go(func() {
			do, end := each()
			defer end()
			for i := c; i < b.N; i += clients {
				do(i)
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/op")
}

// cpuTime is what this process has used, clients included: unlike time, it says
// something on a machine that others use as well.
func cpuTime(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// target is one of 1,000 names that no rule allows.
func target(i int) string { return fmt.Sprintf("name-%d.refused.example:443", i%1000) }

// asker asks for refused names on a connection.
type asker struct {
	net.Conn
	r   *bufio.Reader
	buf []byte
}

func newAsker(b *testing.B, addr string) *asker {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		b.Error(err)
		runtime.Goexit() // of one client
	}
	return &asker{Conn: c, r: bufio.NewReaderSize(c, 1024)}
}

// ask sends a CONNECT and reads its answer, which begins with status.
func (a *asker) ask(b *testing.B, target, status string) {
	a.buf = append(a.buf[:0], "CONNECT "...)
	a.buf = append(a.buf, target...)
	a.buf = append(a.buf, " HTTP/1.1\r\nHost: "...)
	a.buf = append(a.buf, target...)
	a.buf = append(a.buf, "\r\nUser-Agent: bench\r\n\r\n"...)
	if _, err := a.Write(a.buf); err != nil {
		b.Error(err)
		return
	}
	length := 0
	for first := true; ; first = false {
		line, err := a.r.ReadSlice('\n')
		if err != nil || first && !bytes.HasPrefix(line, []byte("HTTP/1.1 "+status)) {
			b.Errorf("%q %v", line, err)
			return
		}
		if v, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			_, _ = fmt.Sscan(string(v), &length)
		}
		if len(line) == 2 {
			break
		}
	}
	if n, err := a.r.Discard(length); err != nil {
		b.Errorf("%d of %d bytes: %v", n, length, err)
	}
}

func benchForward(b *testing.B, record func(audit.Event) error, origin string) string {
	return start(b, &Forward{
		Policy: allow(b, policy.Rule{Host: "ok.example", Ports: []uint16{8443}}),
		Dial:   dialTo(origin), Record: record, Log: quiet,
	})
}

// BenchmarkRefuseKept is refused CONNECTs on kept-alive connections.
func BenchmarkRefuseKept(b *testing.B) {
	records(b, func(b *testing.B, record func(audit.Event) error) {
		addr := benchForward(b, record, "")
		share(b, func() (func(int), func()) {
			a := newAsker(b, addr)
			return func(i int) { a.ask(b, target(i), "403") }, func() { _ = a.Close() }
		})
	})
}

// BenchmarkRefuseNew is refused CONNECTs, each on a new connection.
func BenchmarkRefuseNew(b *testing.B) {
	records(b, func(b *testing.B, record func(audit.Event) error) {
		addr := benchForward(b, record, "")
		share(b, func() (func(int), func()) {
			return func(i int) {
				a := newAsker(b, addr)
				a.ask(b, target(i), "403")
				reset(a.Conn) // no TIME_WAIT
			}, func() {}
		})
	})
}

// BenchmarkIntercept is refused direct connections that begin with a ClientHello.
func BenchmarkIntercept(b *testing.B) {
	hello := clientHello(b, "name.refused.example")
	records(b, func(b *testing.B, record func(audit.Event) error) {
		addr := start(b, &Intercept{Record: record, Log: quiet})
		share(b, func() (func(int), func()) {
			return func(int) {
				a := newAsker(b, addr)
				_, _ = a.Write(hello)
				if _, err := a.Read(make([]byte, 1)); err == nil || err == io.EOF {
					b.Errorf("no reset: %v", err)
				}
				_ = a.Close()
			}, func() {}
		})
	})
}

// BenchmarkTunnel is allowed CONNECTs, each with a message there and back.
func BenchmarkTunnel(b *testing.B) {
	records(b, func(b *testing.B, record func(audit.Event) error) {
		echo := benchOrigin(b, func(c *net.TCPConn) { _, _ = io.Copy(c, c) })
		addr := benchForward(b, record, echo)
		share(b, func() (func(int), func()) {
			return func(int) {
				a := newAsker(b, addr)
				a.ask(b, "ok.example:8443", "200")
				var got [4]byte
				_, _ = a.Write([]byte("echo"))
				if _, err := io.ReadFull(a.r, got[:]); err != nil || string(got[:]) != "echo" {
					b.Errorf("%q %v", got, err)
				}
				reset(a.Conn)
			}, func() {}
		})
	})
}

// BenchmarkBulk is bytes through one tunnel, to the container.
func BenchmarkBulk(b *testing.B) {
	const chunk = 1 << 20
	source := make([]byte, chunk)
	addr := benchForward(b, func(audit.Event) error { return nil }, benchOrigin(b, func(c *net.TCPConn) {
		for {
			if _, err := c.Write(source); err != nil {
				return
			}
		}
	}))
	a := newAsker(b, addr)
	a.ask(b, "ok.example:8443", "200")
	buf := make([]byte, 256<<10)
	b.SetBytes(chunk)
	b.ReportAllocs()
	before := cpuTime(b)
	for b.Loop() {
		for got := 0; got < chunk; {
			n, err := a.r.Read(buf[:min(len(buf), chunk-got)])
			if err != nil {
				b.Fatal(err)
			}
			got += n
		}
	}
	b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/op")
	reset(a.Conn)
}

// benchOrigin is origin without a time limit.
func benchOrigin(b *testing.B, handle func(*net.TCPConn)) string {
	l := listen(b)
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			stop := context.AfterFunc(ctx, func() { _ = c.Close() })
			wg.Go(func() {
				defer stop()
				defer c.Close()
				handle(c.(*net.TCPConn))
			})
		}
	})
	b.Cleanup(func() {
		cancel()
		_ = l.Close()
		wg.Wait()
	})
	return l.Addr().String()
}
