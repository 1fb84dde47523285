package proxy

import (
	"net"
	"sync"

	"github.com/sallyport/sallyport/audit"
)

// maxAway is how many connections are turned away at a time with a look at who
// made them.
const maxAway = 64

// notLooked is why it is unknown who made a connection beyond those.
const notLooked = "too many attempts at once to look"

// away records and resets connections for which there is no room. To learn who
// made one can take a while, in which others must be accepted.
type away struct {
	rec   *recorder
	slots chan struct{}
}

func newAway(rec *recorder) *away { return &away{rec: rec, slots: make(chan struct{}, maxAway)} }

// take turns conn away for reason: in a goroutine of wg's where one is free, else
// at once and without a look at who made it.
func (a *away) take(wg *sync.WaitGroup, conn net.Conn, reason string) {
	select {
	case a.slots <- struct{}{}:
	default:
		e := denied(struct{ net.Conn }{conn}, reason) // which cannot tell who made it
		if _, ok := conn.(knowing); ok {
			e.Process = &audit.Process{Unknown: notLooked}
		}
		a.end(conn, e)
		return
	}
	wg.Go(func() {
		defer func() { <-a.slots }()
		a.end(conn, denied(conn, reason))
	})
}

func (a *away) end(conn net.Conn, e audit.Event) {
	if a.rec.layer == audit.LayerIntercept {
		e.Port = localPort(conn)
	}
	a.rec.record(e)
	reset(conn)
}
