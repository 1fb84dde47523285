package endpoint

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/sallyport/sallyport/verify/probe"
)

// front is a naive proxy before a Server: it looks at each request's path, as it
// reads it, and passes all bytes on as they are. The probes succeed against it.
type front struct {
	reading
	to      string // the server's address
	serial  bool   // one connection at a time, others are closed
	collect bool   // an answer is passed on once it is whole, if there is room for it
}

// room is what a front that collects has for an answer, in bytes.
const room = endless / 2

// converse relays one connection.
func (f front) converse(c net.Conn) {
	up, err := net.Dial("tcp", f.to)
	if err != nil || c.SetDeadline(time.Now().Add(busyTime)) != nil {
		return
	}
	var wait sync.WaitGroup
	defer wait.Wait()
	defer up.Close()
	wait.Go(func() {
		defer c.Close() // ends the loop below
		if f.collect {
			answer, err := io.ReadAll(io.LimitReader(up, room))
			switch {
			case err == nil && len(answer) < room:
				_, _ = c.Write(answer)
			case err == nil:
				send(c, 502, "text/plain", "naive: no room\n")
			}
			return
		}
		_, _ = io.Copy(c, up)
	})
	br := bufio.NewReader(c)
	for {
		m, err := f.request(br)
		if err != nil {
			return
		}
		if path, _ := m.path(); !slices.Contains(expected, m.method+" "+path) {
			send(c, 403, "text/plain", "naive: not that\n")
			return
		}
		if _, err := up.Write(m.raw); err != nil {
			return
		}
	}
}

// begin listens at addr and serves in the background until ctx ends.
func begin(ctx context.Context, addr string, serve func(ctx context.Context, l net.Listener) error) (netip.AddrPort, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return netip.AddrPort{}, err
	}
	at, err := netip.ParseAddrPort(l.Addr().String())
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("listen at %s: %w", l.Addr(), err)
	}
	go func() { _ = serve(ctx, l) }() // ends with ctx
	return at, nil
}

// anywhere is a port of the container's own.
const anywhere = "127.0.0.1:0"

// open points t at a server that nobody guards: it does whatever it is asked to.
func open(ctx context.Context, t *probe.Target) error {
	at, err := begin(ctx, anywhere, NewServer(t.Run).Serve)
	if err != nil {
		return err
	}
	t.Model, t.OtherModel, t.ModelName = at, at, "demo"
	return nil
}

// behind returns an Own that points the target at a server behind a front.
func behind(f front, as reading) func(ctx context.Context, t *probe.Target) error {
	return func(ctx context.Context, t *probe.Target) error {
		s := NewServer(t.Run)
		s.reading = as
		at, err := begin(ctx, anywhere, s.Serve)
		if err != nil {
			return err
		}
		f := f
		f.to = at.String()
		t.Model, err = begin(ctx, anywhere, f.serve)
		t.ModelName = "demo"
		return err
	}
}

func (f front) serve(ctx context.Context, l net.Listener) error {
	if !f.serial {
		return serve(ctx, l, f.converse)
	}
	var turn sync.Mutex
	return serve(ctx, l, func(c net.Conn) {
		if turn.TryLock() {
			defer turn.Unlock()
			f.converse(c)
		}
	})
}
