package dnsblock

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// mostTCP is how many DNS connections of a sandbox are held at once.
const mostTCP = 16

// descriptors counts those of this process.
func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// One sandbox can hold mostTCP connections and no more, however many it
// makes and in whichever state it leaves them; all come back.
func TestCeilingTCP(t *testing.T) {
	fds, goroutines := descriptors(t), runtime.NumGoroutine()
	s, b := newServer()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := s.Serve(ctx, l); err != nil {
			t.Error(err)
		}
	})
	query := wire("a", "example")
	framed := append(binary.BigEndian.AppendUint16(nil, uint16(len(query))), query...)
	var conns []net.Conn
	for range mostTCP {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write(append(framed, 0)); err != nil { // and the first byte of another one
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 2+headerSize)); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	const more = 500
	for range more {
		c, err := net.Dial("tcp", l.Addr().String())
		if err == nil { // else it was reset already
			_, err = io.ReadAll(c)
			c.Close()
		}
		if err == nil {
			t.Fatal("a connection more ended as if it were served")
		}
	}
	// Both ends of each connection are ours.
	if n := descriptors(t) - fds; n > 2*(mostTCP+maxRefusing)+10 {
		t.Errorf("%d descriptors are held", n)
	}
	if n := runtime.NumGoroutine() - goroutines; n > 2*mostTCP+maxRefusing+10 {
		t.Errorf("%d goroutines are held", n)
	}
	for _, c := range conns {
		c.Close()
	}
	cancel()
	serving.Wait()
	refused := 0
	for _, e := range b.all() {
		if strings.Contains(e.Reason, tooMany) {
			refused++
		}
	}
	if refused != more {
		t.Errorf("%d of %d connections beyond have an event", refused, more)
	}
	if n := descriptors(t); n > fds+2 { // the poller's own, once
		t.Errorf("%d descriptors, %d before", n, fds)
	}
	if n := runtime.NumGoroutine(); n > goroutines+1 {
		t.Errorf("%d goroutines, %d before", n, goroutines)
	}
}

// Queries over UDP are answered by a few goroutines: a flood of them takes no other
// and no descriptor.
func TestCeilingUDP(t *testing.T) {
	for name, make := range map[string]func() (*Server, *book){"one by one": newServer, "together": newBatchServer} {
		t.Run(name, func(t *testing.T) {
			s, _ := make()
			testCeilingUDP(t, s)
		})
	}
}

func testCeilingUDP(t *testing.T, s *Server) {
	fds, goroutines := descriptors(t), runtime.NumGoroutine()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := s.ServeUDP(ctx, conn); err != nil {
			t.Error(err)
		}
	})
	c, err := net.Dial("udp", conn.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	query, buf := wire("a", "example"), make([]byte, 512)
	for range 100 {
		for range 50 {
			if _, err := c.Write(query); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal(err)
			}
		}
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := c.Read(buf); err != nil { // of some of them
			t.Fatal(err)
		}
		if n := runtime.NumGoroutine() - goroutines; n > 5 {
			t.Fatalf("%d goroutines are held", n)
		}
		if n := descriptors(t) - fds; n > 5 {
			t.Fatalf("%d descriptors are held", n)
		}
	}
	c.Close()
	cancel()
	serving.Wait()
	if n := descriptors(t); n > fds+2 { // the poller's own, once
		t.Errorf("%d descriptors, %d before", n, fds)
	}
}
