package sandbox

import (
	"errors"
	"io"
	"net"
	"runtime"
	"sync"
	"testing"

	"github.com/sallyport/sallyport/wall/wire"
)

// The mux keeps one entry and one descriptor for each connection that a server
// holds, and none of those that it has closed or that no server took.
func TestMuxCeiling(t *testing.T) {
	fds, goroutines := descriptors(t), runtime.NumGoroutine()
	m, addr, stop := served(t)
	var serving sync.WaitGroup
	held := make(chan net.Conn, 1000)
	serving.Go(func() { // as a server that holds every second one
		for i := 0; ; i++ {
			c, err := m.Intercept.Accept()
			if err != nil {
				return
			}
			if i%2 == 0 {
				held <- c
				continue
			}
			c.Close()
		}
	})
	const rounds, most = 20, 50
	var ours []net.Conn
	for range rounds {
		for range most {
			c := dial(t, addr)
			ours = append(ours, c)
		}
		for range most / 2 {
			(<-held).Close()
		}
	}
	if n := runtime.NumGoroutine() - goroutines; n > 10 {
		t.Errorf("%d goroutines for %d connections", n, rounds*most)
	}
	m.mu.Lock()
	kept := len(m.conns)
	m.mu.Unlock()
	if kept > 2 { // all were closed, but for the last that may be about to be
		t.Errorf("%d connections are kept", kept)
	}
	for _, c := range ours {
		c.Close()
	}
	stop()
	serving.Wait()
	if n := descriptors(t); n > fds+2 { // the poller's own, once
		t.Errorf("%d descriptors, %d before", n, fds)
	}
	if n := runtime.NumGoroutine(); n > goroutines+1 {
		t.Errorf("%d goroutines, %d before", n, goroutines)
	}
}

// mostStrangers is how many connections that nobody knows are held at once.
const mostStrangers = 64

// Connections on the wall socket that say nothing are so many and no more; those
// of the wall and of holders are not among them.
func TestStrangersAreBounded(t *testing.T) {
	w := newWorld(t, nil)
	w.wall()
	w.register(1)
	w.holder(1)
	w.await(1, Held)
	for w.hub.strangers.Load() > 0 { // until the wall is known too
		runtime.Gosched()
	}
	fds := descriptors(t)
	var strangers []*wire.Conn
	dial := func() *wire.Conn {
		c, err := wire.Dial(w.socket)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	for range mostStrangers {
		strangers = append(strangers, dial())
	}
	for range 100 {
		one := dial()
		if _, _, err := one.Receive(); !errors.Is(err, io.EOF) {
			t.Fatalf("one more: %v", err)
		}
		one.Close()
		if n := w.hub.strangers.Load(); n != mostStrangers { // else their time was over
			t.Fatalf("%d strangers", n)
		}
	}
	if n := descriptors(t) - fds; n > 2*mostStrangers+5 { // both ends are ours
		t.Errorf("%d descriptors are held", n)
	}
	for _, c := range strangers {
		c.Close()
	}
	for w.hub.strangers.Load() > 0 {
		runtime.Gosched()
	}
	w.register(2)
	w.holder(2)
	w.await(2, Held)
}
