package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/wall/wire"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// handleHolder serves the connection of a holder. Its end is the sandbox's end.
func (h *Hub) handleHolder(ctx context.Context, conn *wire.Conn, hello wire.Hello, pid int) {
	h.mu.Lock()
	reg := h.registry.byToken(hello.Token)
	var s *sandbox
	if reg != nil {
		s = h.sandboxes[reg.Sandbox]
	}
	switch {
	case h.closed || ctx.Err() != nil: // a holder is back before the socket is closed: it tries the next gateway
		h.mu.Unlock()
		return
	case s == nil:
		h.mu.Unlock()
		h.refuse(conn, "a holder's token is not known")
		return
	case s.holder != nil:
		h.mu.Unlock()
		h.refuse(conn, "a holder's token was used a second time")
		return
	}
	s.claim.Stop()
	s.holder, s.Phase, s.origin.Holder = conn, Held, pid
	h.notify()
	h.mu.Unlock()
	err := h.receiveHolder(s, conn)
	if ctx.Err() == nil { // otherwise it comes back to the next gateway
		h.Log.Info("a holder went away", "sandbox", s.Sandbox, "err", err)
		h.end(s, "its holder ended")
	}
}

func (h *Hub) receiveHolder(s *sandbox, conn *wire.Conn) error {
	for {
		m, files, err := conn.Receive()
		if err != nil {
			return err
		}
		switch {
		case m.Netns != nil && len(files) > 0:
			h.namespace(s, files[0], h.diag(s, files[1:]))
			files = nil
		case m.Ready != nil:
			h.ready(s, *m.Ready)
		case m.Foreign != nil:
			h.foreign(s, conn, *m.Foreign)
		default:
			err = errors.New("the holder sent a message that is not for a gateway")
		}
		wire.CloseAll(files)
		if err != nil {
			return err
		}
	}
}

// diag is the socket that came with a namespace and tells of its sockets; nil: an
// older holder sends none, and what is something else is closed.
func (h *Hub) diag(s *sandbox, files []*os.File) *os.File {
	if len(files) == 1 && isDiag(files[0]) {
		return files[0]
	}
	if len(files) > 0 {
		h.Log.Warn("a holder sent something else than a socket of NETLINK_SOCK_DIAG; the tables of /proc are read", "sandbox", s.Sandbox)
	}
	wire.CloseAll(files)
	return nil
}

// isDiag asks the kernel what f is.
func isDiag(f *os.File) (is bool) {
	conn, err := f.SyscallConn()
	if err != nil {
		return false
	}
	err = conn.Control(func(fd uintptr) {
		family, err1 := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DOMAIN)
		protocol, err2 := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PROTOCOL)
		is = errors.Join(err1, err2) == nil && family == unix.AF_NETLINK && protocol == unix.NETLINK_SOCK_DIAG
	})
	return err == nil && is
}

// namespace takes the descriptor of a sandbox's network namespace, and diag, which
// may be nil. What was served over an earlier plug ends first.
func (h *Hub) namespace(s *sandbox, ns, diag *os.File) {
	h.mu.Lock()
	stop := h.unserve(s)
	h.mu.Unlock()
	stop()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.gone(s) {
		ns.Close()
		diag.Close()
		return
	}
	if s.netns != nil {
		s.netns.Close()
	}
	s.diag.Close() // nil too
	s.netns, s.diag, s.origin.Netns = ns, diag, inode(ns)
	h.plug(s)
}

// inode is that of f; zero where it cannot be told.
func inode(f *os.File) uint64 {
	var stat unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &stat); err != nil {
		return 0
	}
	return stat.Ino
}

func (h *Hub) ready(s *sandbox, ready wire.Ready) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if ready.Error != "" {
		h.plugFailed(s, ready.Error)
		return
	}
	if s.stop != nil {
		s.Phase, s.retries = Ready, 0
		h.notify()
	}
}

// unserve takes a sandbox out of service and returns what ends its servers and
// waits for them, to be called without h.mu, which is held.
func (h *Hub) unserve(s *sandbox) (stop func()) {
	stop = s.stop
	if stop == nil {
		return func() {}
	}
	s.stop = nil
	if s.Phase == Ready {
		s.Phase = Held
		h.notify()
	}
	return stop
}

// foreign records an interface that somebody else put into a sandbox. Where that
// cannot be recorded, or the interface not be deleted, the sandbox ends.
func (h *Hub) foreign(s *sandbox, conn *wire.Conn, f wire.Foreign) {
	reason := fmt.Sprintf("an interface that the wall did not plug (%q) was removed", f.Kind)
	if !f.Removed {
		reason = fmt.Sprintf("an interface that the wall did not plug (%q) was set down; it could not be deleted: %q", f.Kind, f.Error)
	}
	if _, err := h.Append(audit.Event{Subject: s.currentSubject(), Layer: audit.LayerControl, Proto: "link", Host: f.Name,
		Verdict: policy.Deny.String(), Rule: "foreign-interface", Reason: reason, Count: 1 + max(f.More, 0)}); err != nil {
		h.Log.Error("record a foreign interface", "sandbox", s.Sandbox, "err", err)
		h.end(s, "a foreign interface could not be recorded")
		return
	}
	h.send(conn, wire.Message{Taken: &wire.Taken{}})
	if !f.Removed {
		h.end(s, "a foreign interface could not be deleted")
	}
}

// start serves the sockets of a sandbox; h.mu is held.
func (h *Hub) start(ctx context.Context, s *sandbox, tcp, udp *os.File) error {
	if s.stop != nil {
		return errors.New("it is served already")
	}
	l, err := net.FileListener(tcp)
	if err != nil {
		return fmt.Errorf("take the TCP listener: %w", err)
	}
	listener, ok := l.(*net.TCPListener)
	if !ok {
		l.Close()
		return errors.New("the wall handed over a listener that is not TCP")
	}
	packetConn, err := net.FilePacketConn(udp)
	if err != nil {
		l.Close()
		return fmt.Errorf("take the UDP socket: %w", err)
	}
	udpConn, ok := packetConn.(*net.UDPConn)
	if !ok {
		l.Close()
		packetConn.Close()
		return errors.New("the wall handed over a socket that is not UDP")
	}
	ctx, cancel := context.WithCancel(ctx)
	// The servers learn of the end once every connection is reset, so that they
	// cannot close one as if it were complete.
	serving, ended := context.WithCancel(context.WithoutCancel(ctx))
	mux := newMux(l.Addr(), s.Addresses.Gate4, s.Addresses.Gate6)
	s.mux, s.listener = mux, listener
	mux.accepted = func(c net.Conn) { s.half.accept(c, time.Now()) }
	mux.dropped = func(c net.Conn) { s.half.drop(c, time.Now()) }
	g, gctx := errgroup.WithContext(ctx)
	plugged := Plugged{Registration: s.Registration, Origin: s.origin, Subject: s.currentSubject, Listeners: mux.Listeners, UDP: udpConn, Diag: s.diag, Meter: &s.meter}
	g.Go(func() error {
		defer ended()
		return mux.serve(gctx, l)
	})
	g.Go(func() error {
		defer udpConn.Close()
		err := h.Serve(serving, plugged)
		if err == nil && serving.Err() == nil {
			err = errors.New("the servers ended by themselves")
		}
		return err
	})
	done := make(chan struct{})
	h.running.Go(func() {
		defer close(done)
		// After stop, a server may see its listener closed before its context ends.
		if err := g.Wait(); err != nil && ctx.Err() == nil {
			h.Log.Error("the servers of a sandbox failed; it is closed", "sandbox", plugged.Sandbox, "err", err)
			h.running.Go(func() { h.end(s, "its servers failed") })
		}
	})
	s.stop = func() { cancel(); <-done }
	return nil
}
