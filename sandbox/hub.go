package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/wall/wire"
	"golang.org/x/sys/unix"
)

const (
	helloTimeout = 5 * time.Second // that a connection has to say who it is
	endTimeout   = 2 * time.Second // that a refused one has to end by itself
)

// Run serves the wall socket until ctx ends. Registrations of an earlier gateway
// are taken up: their holders have ClaimTimeout to come back.
func (h *Hub) Run(ctx context.Context, l *net.UnixListener) error {
	if err := h.Open(); err != nil {
		return err
	}
	return h.run(ctx, l)
}

func (h *Hub) run(ctx context.Context, l *net.UnixListener) error {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	h.running.Go(func() { h.expireFlows(ctx) })
	err := h.accept(ctx, l)
	cancel()
	h.closeAll()
	h.running.Wait()
	h.recordRepeats(time.Now().Add(flowWindow))
	return err
}

func (h *Hub) accept(ctx context.Context, l *net.UnixListener) error {
	for {
		c, err := l.AcceptUnix()
		switch {
		case err == nil:
			h.running.Go(func() { h.handle(ctx, c) })
		case ctx.Err() != nil:
			return nil
		case !isShortage(err):
			return fmt.Errorf("accept on the wall socket: %w", err)
		default:
			h.Log.Warn("accept on the wall socket", "err", err)
			pause(ctx)
		}
	}
}

// isShortage reports whether err is a lack of descriptors or memory, which may
// end: accept(2) can be tried again.
func isShortage(err error) bool {
	for _, shortage := range []error{unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM} {
		if errors.Is(err, shortage) {
			return true
		}
	}
	return false
}

// pause waits before accept(2) is tried again.
func pause(ctx context.Context) {
	timer := time.NewTimer(50 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// Open takes up the registrations of an earlier gateway. Run does it where it was
// not done before; whoever lets others ask the Hub calls it first, or a sandbox
// that is on disk seems not to be registered.
func (h *Hub) Open() error {
	if h.registry != nil {
		return nil
	}
	if h.Serve == nil || h.Append == nil || h.Log == nil || h.WallToken == "" || h.StateFile == "" || h.ClaimTimeout <= 0 {
		return errors.New("sandbox.Hub: a required field is missing")
	}
	registry, err := loadRegistry(h.StateFile, h.Pool4, h.Pool6)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.registry, h.sandboxes, h.changed = registry, map[string]*sandbox{}, make(chan struct{})
	h.strangers = newFlows(func(id string) audit.Subject { return audit.Subject{Sandbox: id} }, h.Append)
	for _, reg := range registry.Sandboxes {
		h.track(*reg)
	}
	return nil
}

// closeAll ends the servers and connections but keeps the registrations, for the
// next gateway.
func (h *Hub) closeAll() {
	h.mu.Lock()
	h.closed = true
	var stops []func()
	for _, s := range h.sandboxes {
		s.claim.Stop()
		stops = append(stops, h.unserve(s))
		if s.holder != nil {
			s.holder.Close()
		}
		if s.netns != nil {
			s.netns.Close()
			s.netns = nil
		}
	}
	if h.wall != nil {
		h.wall.Close()
	}
	h.mu.Unlock()
	for _, stop := range stops {
		stop()
	}
}

func (h *Hub) expireFlows(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			h.recordRepeats(now)
		}
	}
}

// recordRepeats makes events of the flows whose window has passed, and of what
// could not be recorded before.
func (h *Hub) recordRepeats(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	errs := []error{h.strangers.expire(now), h.recordLost(0)}
	for _, s := range h.sandboxes {
		for _, p := range s.half.overdue(now) {
			errs = append(errs, s.flows.add(p))
		}
		errs = append(errs, s.flows.expire(now))
	}
	if err := errors.Join(errs...); err != nil {
		h.Log.Error("record refused packets; they are counted and tried again", "err", err)
	}
}

// handle serves one connection on the wall socket.
func (h *Hub) handle(ctx context.Context, c *net.UnixConn) {
	conn := wire.NewConn(c)
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	timer := time.AfterFunc(helloTimeout, func() { conn.Close() })
	m, files, err := conn.Receive()
	timer.Stop()
	wire.CloseAll(files)
	switch {
	case err != nil:
		return
	case m.Hello == nil:
		h.refuse(conn, "the first message was no hello")
	case m.Hello.Role == wire.RoleWall:
		h.handleWall(ctx, conn, *m.Hello)
	case m.Hello.Role == wire.RoleHold:
		h.handleHolder(ctx, conn, *m.Hello)
	default:
		h.refuse(conn, "its role is unknown")
	}
}

// refuse records and ends a connection on the wall socket. It reads on until the
// peer has ended: closing with something unread would reset the connection, and
// the peer would come again rather than learn why.
func (h *Hub) refuse(conn *wire.Conn, reason string) {
	h.Log.Warn("a connection on the wall socket was refused", "reason", reason)
	if _, err := h.Append(audit.Event{Layer: audit.LayerControl, Proto: "unix", Verdict: policy.Deny.String(),
		Rule: "wall-socket", Reason: reason}); err != nil {
		h.Log.Error("record a refused connection", "err", err)
	}
	h.dismiss(conn, reason)
	for {
		_, files, err := conn.Receive()
		wire.CloseAll(files)
		if err != nil {
			return
		}
	}
}

// dismiss tells a peer to end, and ends the connection if it does not.
func (h *Hub) dismiss(conn *wire.Conn, reason string) {
	h.send(conn, wire.Message{Refused: &wire.Refused{Reason: reason}})
	time.AfterFunc(endTimeout, func() { conn.Close() })
}
