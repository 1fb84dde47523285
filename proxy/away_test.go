package proxy

import (
	"context"
	"errors"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
)

// slowly is a listener whose connections cannot tell who made them until told.
type slowly struct {
	net.Listener
	tell chan struct{}
}

type slowConn struct {
	*net.TCPConn
	tell chan struct{}
}

func (l slowly) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return slowConn{c.(*net.TCPConn), l.tell}, nil
}

func (c slowConn) Process() *audit.Process {
	<-c.tell
	return &audit.Process{PID: 7, Exe: "/bin/x"}
}

// Those beyond the bound hold nobody up while it is looked who they are.
func TestTurnedAwayHoldNobodyUp(t *testing.T) {
	for _, layer := range []audit.Layer{audit.LayerIntercept, audit.LayerProxy} {
		t.Run(string(layer), func(t *testing.T) {
			book := newLedger()
			forward := forwardTo(t, book, "")
			forward.MaxConns = 1
			s := server(forward)
			if layer == audit.LayerIntercept {
				s = &Intercept{Record: book.record, Log: quiet, MaxConns: 1, HelloTimeout: time.Hour, firstByte: time.Hour}
			}
			l := slowly{listen(t), make(chan struct{})}
			tell := sync.OnceFunc(func() { close(l.tell) })
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- s.Serve(ctx, l) }()
			t.Cleanup(func() {
				tell()
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
			var conns []*client
			for range 1 + maxAway {
				conns = append(conns, connect(t, l.Addr().String()))
			}
			// One more finds no place where it could be looked for.
			if !refusedAtOnce(l.Addr().String(), "") {
				t.Error("no reset")
			}
			if e := book.next(t); e.Process == nil || e.Process.Unknown != notLooked {
				t.Errorf("event %+v, process %+v", e, e.Process)
			}
			book.none(t)
			tell()
			for range maxAway {
				if e := book.next(t); e.Process == nil || e.Process.PID != 7 || e.Verdict != "denied" {
					t.Errorf("event %+v, process %+v", e, e.Process)
				}
			}
			for _, c := range conns[1:] {
				if _, err := c.rest(); !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("it ended with %v", err)
				}
			}
		})
	}
}

// A request goes to the model server while it is looked who makes it, and its event
// waits for that.
func TestModelIsAskedWhileItIsLookedWhoAsks(t *testing.T) {
	k, server := &kept{}, &far{answer: []byte("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")}
	l := slowly{listen(t), make(chan struct{})}
	m := fuzzModel(k, server)
	dial := m.Dial
	m.Dial = func(ctx context.Context) (net.Conn, error) {
		close(l.tell)
		return dial(ctx)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Serve(ctx, l) }()
	c := dialHeld(t, l.Addr().String())
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	say(t, c, post("/v1/messages", small), 200)
	_ = c.Close()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	server.wg.Wait()
	if len(k.events) != 1 || k.events[0].Process == nil || k.events[0].Process.PID != 7 || k.events[0].Verdict != "allowed" {
		t.Errorf("events %+v", k.events)
	}
}
