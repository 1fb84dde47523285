package tunnel

import (
	"net"
	"runtime"
	"sync"
	"time"
)

const (
	// maxGathered is how much, in bytes, can wait to be written before a Write waits:
	// about two of the library's largest packets. One more may be on its way to it.
	maxGathered = 64 << 10
	// lastWait is how long the end of a link waits for what was taken to be written. The
	// kernel takes it at once, unless the other side has long stopped to read.
	lastWait = 100 * time.Millisecond
	// keptGathered is the largest buffer that is kept between two writes, in bytes.
	keptGathered = 4 << 10
)

// gatherer writes to a connection at once what came from several goroutines at nearly
// the same time. The library writes each packet on its own, and a packet of more than
// 4 kB in pieces: each piece would be a system call, a segment, and a wakeup of the
// other side.
type gatherer struct {
	to   net.Conn
	fail func(error)

	mu    sync.Mutex
	moved sync.Cond // with mu: something was written, came, or went wrong
	buf   []byte    // waits to be written
	busy  bool      // something is being written
	spare []byte    // was written, and is empty
	err   error     // why nothing is written any more
}

func newGatherer(to net.Conn, fail func(error)) *gatherer {
	g := &gatherer{to: to, fail: fail}
	g.moved.L = &g.mu
	return g
}

// Write takes p, which run writes soon. Its error is that of an earlier write.
func (g *gatherer) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for len(g.buf) >= maxGathered && g.err == nil {
		g.moved.Wait()
	}
	if g.err != nil {
		return 0, g.err
	}
	if len(g.buf) == 0 {
		g.moved.Broadcast()
	}
	g.buf = append(g.buf, p...)
	return len(p), nil
}

// flush waits until all that was taken is written, for lastWait at most. After it
// nothing more can be written than that.
func (g *gatherer) flush() {
	_ = g.to.SetWriteDeadline(time.Now().Add(lastWait)) // one that is closed fails the write as well
	g.mu.Lock()
	defer g.mu.Unlock()
	for (g.busy || len(g.buf) > 0) && g.err == nil {
		g.moved.Wait()
	}
}

// stop has run end, and each Write fail with err. What still waits is lost.
func (g *gatherer) stop(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err == nil {
		g.err = err
	}
	g.moved.Broadcast()
}

// run writes what was taken, until stop or an error, which it tells fail.
func (g *gatherer) run() {
	for {
		out, ok := g.next()
		if !ok {
			return
		}
		if _, err := g.to.Write(out); err != nil {
			g.stop(err)
			g.fail(err)
			return
		}
		g.wrote(out)
	}
}

// next waits for something to write, and lets every goroutine that is ready to run
// add to it.
func (g *gatherer) next() (out []byte, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for len(g.buf) == 0 && g.err == nil {
		g.moved.Wait()
	}
	if len(g.buf) < maxGathered && g.err == nil {
		g.mu.Unlock()
		runtime.Gosched()
		g.mu.Lock()
	}
	if g.err != nil {
		return nil, false
	}
	out, g.buf, g.spare, g.busy = g.buf, g.spare, nil, true
	g.moved.Broadcast() // there is room
	return out, true
}

// wrote gives the buffer of what was written back.
func (g *gatherer) wrote(out []byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.busy = false
	if cap(out) <= keptGathered || len(g.buf) > 0 {
		g.spare = out[:0]
	}
	g.moved.Broadcast()
}
