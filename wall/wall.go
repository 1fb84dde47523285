// Package wall is the privileged part of Sallyport: a network namespace with no
// uplink, in which every packet of every sandbox ends (Wall), and each sandbox's
// side of it (Holder). It plugs veths by namespace descriptor, opens the
// listeners that are bound to them, hands these to the gateway and closes its
// own copies, reports what its rules refused, and puts back what somebody else
// changes in the namespace. It stops there: it reads no byte of what a sandbox
// sends but the headers of refused packets, it decides nothing, and it reaches
// neither an engine nor a network.
package wall

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/sallyport/sallyport/wall/wire"
	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"
)

const (
	snapLen    = wire.SnapLen
	retryFirst = 20 * time.Millisecond // between attempts to reach the gateway
	retryMost  = 500 * time.Millisecond
)

// Wall is the process of the wall container. All fields are required.
type Wall struct {
	Socket string // path of the gateway's wall socket
	Token  string // proves to the gateway that this is the wall
	Log    *slog.Logger
}

// Run prepares the namespace and serves the gateway, again and again when it
// comes back, until ctx ends. It fails if the namespace is not as it must be: an
// interface other than lo, a sysctl that was not set, a missing kernel module.
func (w *Wall) Run(ctx context.Context) error {
	ipv6, err := w.prepare()
	if err != nil {
		return err
	}
	packets := newPacketQueue()
	keeper, err := newKeeper(ctx, packets, ipv6)
	if err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	for group := uint16(groupFirst); group < groupEnd; group++ {
		g.Go(func() error { return packets.read(gctx, group) })
	}
	g.Go(func() error { return keeper.run(gctx) })
	g.Go(func() error {
		plugged := plugs{}
		return reconnect(gctx, w.Socket, w.Log, func(conn *wire.Conn) error {
			return w.serve(gctx, conn, plugged, packets, keeper)
		})
	})
	return ignoreEnd(ctx, g.Wait())
}

func (w *Wall) prepare() (ipv6 bool, err error) {
	if w.Socket == "" || w.Token == "" || w.Log == nil {
		return false, errors.New("the wall needs a socket, a token and a log")
	}
	if err := raiseNetAdmin(); err != nil {
		return false, err
	}
	if err := onlyLoopback(); err != nil {
		return false, err
	}
	return checkSysctls(Sysctls(HasIPv6()))
}

// serve works for one connection of the gateway until it ends.
func (w *Wall) serve(ctx context.Context, conn *wire.Conn, plugged plugs, packets *packetQueue, keeper *keeper) error {
	if err := conn.Send(wire.Message{Hello: &wire.Hello{Role: wire.RoleWall, Token: w.Token, IPv6: keeper.ipv6}}); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	taken := make(chan struct{}, 1)
	var sender sync.WaitGroup
	sender.Go(func() { packets.send(ctx, conn, taken) })
	defer sender.Wait()
	defer cancel()
	for {
		m, files, err := conn.Receive()
		if err != nil {
			return err
		}
		switch {
		case m.Taken != nil:
			select {
			case taken <- struct{}{}:
			default: // nothing was sent that it could answer
			}
		case m.Settled != nil:
			packets.settled(*m.Settled)
		default:
			err = w.handle(conn, m, files, plugged, packets, keeper)
		}
		wire.CloseAll(files)
		if err != nil {
			return err
		}
	}
}

func (w *Wall) handle(conn *wire.Conn, m wire.Message, files []*os.File, plugged plugs, packets *packetQueue, keeper *keeper) error {
	switch {
	case m.Refused != nil:
		return &refusedError{m.Refused.Reason}
	case m.Plug != nil && len(files) == 1:
		answer := wire.Plugged{Sandbox: m.Plug.Sandbox}
		tcp, udp, err := plugged.plug(*m.Plug, files[0], keeper.ipv6)
		if err == nil {
			defer tcp.Close()
			defer udp.Close()
			err = keeper.plugged(m.Plug.Sandbox)
		}
		if err != nil {
			answer.Error = err.Error()
			return conn.Send(wire.Message{Plugged: &answer})
		}
		if err := packets.plugged(m.Plug.Sandbox); err != nil {
			return err
		}
		return conn.Send(wire.Message{Plugged: &answer}, tcp, udp)
	case m.Unplug != nil:
		if err := errors.Join(plugged.unplug(m.Unplug.Sandbox), keeper.unplugged(m.Unplug.Sandbox)); err != nil {
			w.Log.Warn("unplug", "sandbox", m.Unplug.Sandbox, "err", err)
		}
		return nil
	}
	return errors.New("the gateway sent a message that is not for a wall")
}

// refusedError ends the process: the gateway does not want it.
type refusedError struct{ reason string }

func (e *refusedError) Error() string { return "the gateway refused this connection: " + e.reason }

// reconnect calls serve with a connection to the gateway, again and again, until
// ctx ends or the gateway refuses.
func reconnect(ctx context.Context, socket string, log *slog.Logger, serve func(*wire.Conn) error) error {
	wait, away := retryFirst, false
	for ctx.Err() == nil {
		conn, err := wire.Dial(socket)
		if err != nil && !away {
			away = true
			log.Info("the gateway is not there yet", "err", err)
		}
		if err == nil {
			wait, away = retryFirst, false
			stop := context.AfterFunc(ctx, func() { conn.Close() })
			err = serve(conn)
			stop()
			conn.Close()
			var refused *refusedError
			if errors.As(err, &refused) {
				return err
			}
			log.Info("the gateway went away", "err", err)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
		wait = min(2*wait, retryMost)
	}
	return ctx.Err()
}

func ignoreEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// onlyLoopback fails if the namespace has any way out. The fallback devices that
// the kernel makes in each namespace (tunl0, sit0, …) lead nowhere while down.
func onlyLoopback() error {
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("list interfaces: %w", err)
	}
	for _, link := range links {
		name := link.Attrs().Name
		if name != "lo" && !isFallback(link) {
			return fmt.Errorf("the wall's namespace has an interface %q; hint: its container must have network none", name)
		}
	}
	return nil
}
