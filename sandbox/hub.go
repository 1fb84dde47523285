package sandbox

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/wall/wire"
	"golang.org/x/sys/unix"
)

const (
	helloTimeout = 5 * time.Second // that a connection has to say who it is
	endTimeout   = 2 * time.Second // that a refused one has to end by itself
	maxStrangers = 64              // connections that have shown no token that is known
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
	h.running.Go(func() { h.reportOften(ctx) })
	err := h.accept(ctx, l)
	cancel()
	h.closeAll()
	h.running.Wait()
	return err
}

func (h *Hub) accept(ctx context.Context, l *net.UnixListener) error {
	for {
		c, err := l.AcceptUnix()
		switch {
		case err == nil && h.strangers.Add(1) > maxStrangers:
			h.strangers.Add(-1)
			h.Log.Debug("a connection on the wall socket was closed: too many have not said who they are")
			c.Close()
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
	if h.Serve == nil || h.Append == nil || h.AppendAll == nil || h.Log == nil || h.WallToken == "" || h.StateFile == "" || h.ClaimTimeout <= 0 {
		return errors.New("sandbox.Hub: a required field is missing")
	}
	registry, err := loadRegistry(h.StateFile, h.Pool4, h.Pool6)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.registry, h.sandboxes, h.changed = registry, map[string]*sandbox{}, make(chan struct{})
	h.leaving, h.flows = map[string]*sandbox{}, flows{append: h.AppendAll}
	for _, reg := range registry.Sandboxes {
		h.track(*reg)
	}
	return nil
}

// closeAll ends the servers and connections but keeps the registrations, for the
// next gateway. The wall's connection is the last: it is told what is settled.
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
		s.diag.Close() // nil too
		s.diag = nil
	}
	wall := h.wall
	h.mu.Unlock()
	for _, stop := range stops {
		stop()
	}
	h.telling.Lock() // what was told is recorded, and answered
	h.ended = true
	h.telling.Unlock()
	h.report(time.Now(), true)
	if wall != nil { // it reads what was sent, ends, and keeps what was not taken
		wall.CloseWrite()
		time.AfterFunc(endTimeout, func() { wall.Close() })
	}
}

// handle serves one connection on the wall socket.
func (h *Hub) handle(ctx context.Context, c *net.UnixConn) {
	conn := wire.NewConn(c)
	defer conn.Close()
	known := sync.OnceFunc(func() { h.strangers.Add(-1) })
	defer known()
	stop := context.AfterFunc(ctx, func() {
		if !h.isWall(conn) { // which closeAll closes
			conn.Close()
		}
	})
	defer stop()
	timer := time.AfterFunc(helloTimeout, func() { conn.Close() })
	m, files, err := conn.Receive()
	timer.Stop()
	wire.CloseAll(files)
	if err == nil && h.knows(m.Hello) {
		known()
	}
	switch {
	case err != nil:
		return
	case m.Hello == nil:
		h.refuse(conn, "the first message was no hello")
	case m.Hello.Role == wire.RoleWall:
		h.handleWall(ctx, conn, *m.Hello)
	case m.Hello.Role == wire.RoleHold:
		h.handleHolder(ctx, conn, *m.Hello, peerPID(c))
	default:
		h.refuse(conn, "its role is unknown")
	}
}

// knows says whether a hello has the token of the wall or of a registration.
func (h *Hub) knows(hello *wire.Hello) bool {
	if hello == nil {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return subtle.ConstantTimeCompare([]byte(hello.Token), []byte(h.WallToken)) == 1 || h.registry.byToken(hello.Token) != nil
}

// peerPID is the process id of who connected; zero: the kernel does not say.
func peerPID(c *net.UnixConn) int {
	pid := 0
	raw, err := c.SyscallConn()
	if err != nil {
		return 0
	}
	_ = raw.Control(func(fd uintptr) {
		if peer, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = int(peer.Pid)
		}
	})
	return pid
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
