package wall

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/sallyport/sallyport/wall/wire"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Holder is the process of a holder container: it keeps a sandbox's network
// namespace, gives its interface address and routes, and removes every interface
// that the wall did not plug. All fields are required.
type Holder struct {
	Socket string // path of the gateway's wall socket
	Token  string // names and proves the sandbox, to the gateway
	Log    *slog.Logger
}

// Run holds the namespace until ctx ends or the gateway refuses the token. It
// fails if it can no longer watch the namespace.
func (h *Holder) Run(ctx context.Context) error {
	if h.Socket == "" || h.Token == "" || h.Log == nil {
		return errors.New("a holder needs a socket, a token and a log")
	}
	if err := raiseNetAdmin(); err != nil {
		return err
	}
	if _, err := checkSysctls(Sysctls(HasIPv6())); err != nil {
		return err
	}
	guard := newGuard(h.Log)
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return guard.run(gctx) })
	g.Go(func() error {
		return reconnect(gctx, h.Socket, h.Log, func(conn *wire.Conn) error { return h.serve(conn, guard) })
	})
	return ignoreEnd(ctx, g.Wait())
}

// serve works for one connection of the gateway until it ends.
func (h *Holder) serve(conn *wire.Conn, guard *guard) error {
	if err := conn.Send(wire.Message{Hello: &wire.Hello{Role: wire.RoleHold, Token: h.Token}}); err != nil {
		return err
	}
	if err := h.sendNamespace(conn); err != nil {
		return err
	}
	guard.reportTo(conn)
	defer guard.reportTo(nil)
	for {
		m, files, err := conn.Receive()
		if err != nil {
			return err
		}
		wire.CloseAll(files)
		if err := h.handle(conn, m, guard); err != nil {
			return err
		}
	}
}

func (h *Holder) handle(conn *wire.Conn, m wire.Message, guard *guard) error {
	switch {
	case m.Refused != nil:
		return &refusedError{m.Refused.Reason}
	case m.Address != nil:
		var ready wire.Ready
		if err := guard.plugged(*m.Address); err != nil {
			ready.Error = err.Error()
		}
		return conn.Send(wire.Message{Ready: &ready})
	case m.Taken != nil:
		guard.taken()
		return nil
	case m.Replug != nil:
		if err := guard.unplug(); err != nil {
			return err
		}
		return h.sendNamespace(conn)
	}
	return errors.New("the gateway sent a message that is not for a holder")
}

func (h *Holder) sendNamespace(conn *wire.Conn) error {
	ns, err := os.Open("/proc/self/ns/net")
	if err != nil {
		return fmt.Errorf("open our network namespace: %w", err)
	}
	defer ns.Close()
	files := []*os.File{ns}
	// It tells of this namespace's sockets wherever it is, sock_diag(7).
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		h.Log.Warn("the gateway is sent no socket of NETLINK_SOCK_DIAG: it reads the tables of /proc instead", "err", err)
	} else {
		diag := os.NewFile(uintptr(fd), "sock_diag")
		defer diag.Close()
		files = append(files, diag)
	}
	return conn.Send(wire.Message{Netns: &wire.Netns{}}, files...)
}
