package tunnel

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// slowConn takes one write for each of turns, and says what that was.
type slowConn struct {
	net.Conn
	turns chan error
	wrote [][]byte
}

func (c *slowConn) Write(p []byte) (int, error) {
	if err := <-c.turns; err != nil {
		return 0, err
	}
	c.wrote = append(c.wrote, bytes.Clone(p))
	return len(p), nil
}

// gatherInBubble runs a gatherer over a connection whose writes the test lets pass.
func gatherInBubble(t *testing.T, f func(g *gatherer, c *slowConn, failed *[]error)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := &slowConn{turns: make(chan error)}
		var failed []error
		g := newGatherer(c, func(err error) { failed = append(failed, err) })
		go g.run()
		defer func() {
			g.stop(net.ErrClosed)
			close(c.turns)
			synctest.Wait()
		}()
		f(g, c, &failed)
	})
}

func mustGather(t *testing.T, g *gatherer, p []byte) {
	t.Helper()
	if n, err := g.Write(p); n != len(p) || err != nil {
		t.Fatalf("Write: %d, %v", n, err)
	}
}

func TestGathererWritesAtOnceWhatCameMeanwhile(t *testing.T) {
	gatherInBubble(t, func(g *gatherer, c *slowConn, _ *[]error) {
		mustGather(t, g, []byte("a"))
		synctest.Wait() // "a" is being written
		for _, s := range []string{"b", "c", "d"} {
			mustGather(t, g, []byte(s))
		}
		for range 2 {
			c.turns <- nil
			synctest.Wait()
		}
		if got := string(bytes.Join(c.wrote, []byte("|"))); got != "a|bcd" {
			t.Errorf("wrote %q", got)
		}
	})
}

func TestGathererTakesNoMoreThanItsBound(t *testing.T) {
	gatherInBubble(t, func(g *gatherer, c *slowConn, _ *[]error) {
		piece := bytes.Repeat([]byte("x"), maxGathered)
		mustGather(t, g, piece)
		synctest.Wait() // is being written
		mustGather(t, g, piece)
		taken := false
		go func() {
			mustGather(t, g, []byte("y"))
			taken = true
		}()
		synctest.Wait()
		if taken {
			t.Errorf("more than %d bytes waited", maxGathered)
		}
		c.turns <- nil
		synctest.Wait()
		if !taken {
			t.Error("what there was room for was not taken")
		}
		if len(g.spare) != 0 || cap(g.spare) > keptGathered {
			t.Errorf("a buffer of %d bytes is kept", cap(g.spare))
		}
	})
}

func TestGathererTellsOfAFailedWrite(t *testing.T) {
	gatherInBubble(t, func(g *gatherer, c *slowConn, failed *[]error) {
		lost := errors.New("lost")
		mustGather(t, g, []byte("a"))
		c.turns <- lost
		synctest.Wait()
		if len(*failed) != 1 || (*failed)[0] != lost {
			t.Errorf("told of %v", *failed)
		}
		if n, err := g.Write([]byte("b")); n != 0 || err != lost {
			t.Errorf("Write after it: %d, %v", n, err)
		}
	})
}

func TestGathererStopsAWriteThatWaits(t *testing.T) {
	gatherInBubble(t, func(g *gatherer, _ *slowConn, failed *[]error) {
		mustGather(t, g, []byte("a"))
		synctest.Wait()
		mustGather(t, g, bytes.Repeat([]byte("x"), maxGathered))
		var err error
		go func() { _, err = g.Write([]byte("b")) }()
		synctest.Wait()
		g.stop(net.ErrClosed)
		synctest.Wait()
		if err != net.ErrClosed || len(*failed) != 0 {
			t.Errorf("Write that waited: %v, told of %v", err, *failed)
		}
	})
}

// closing is a transport with words that are not on their way yet, and its other side.
func closing(t *testing.T, words string) (w *watched, far net.Conn) {
	t.Helper()
	near, far := net.Pipe()
	w = &watched{Conn: near, out: newGatherer(near, func(error) {})}
	go w.out.run()
	mustGather(t, w.out, []byte(words))
	return w, far
}

// What was taken is written before the connection is closed.
func TestGathererFlushes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, far := closing(t, "last words")
		heard := make(chan string, 1)
		go func() {
			got, _ := io.ReadAll(far)
			heard <- string(got)
		}()
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		if got := <-heard; got != "last words" {
			t.Errorf("the other side heard %q", got)
		}
	})
}

// What the other side does not take is lost after lastWait.
func TestGathererFlushesNoLongerThanItMay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, far := closing(t, "unheard")
		defer far.Close()
		began := time.Now()
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took != lastWait {
			t.Errorf("a close that nobody listens to took %v", took)
		}
	})
}
