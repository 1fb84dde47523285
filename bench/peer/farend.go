package peer

import (
	"context"
	"errors"
	"flag"
	"net"
	"sync"

	"github.com/sallyport/sallyport/bench/load"
)

// FarEnd answers load.Calls at addresses.
func FarEnd(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("farend", flag.ContinueOnError)
	var at addresses
	flags.Var(&at, "listen", "tcp:ADDR or unix:PATH; may be repeated")
	if err := flags.Parse(args); err != nil {
		return err
	}
	var listeners []net.Listener
	for _, address := range at {
		l, err := listenAt(ctx, address)
		if err != nil {
			return err
		}
		listeners = append(listeners, l)
	}
	return serveAll(ctx, listeners, func(_ context.Context, c net.Conn) error { return answer(c) })
}

// answer does what one caller asks for.
func answer(c net.Conn) error {
	call, err := load.ReadCall(c)
	if err != nil {
		return err
	}
	switch call.Kind {
	case load.CallSource:
		return load.NewPattern(call.Seed).Send(c, call.Length)
	case load.CallSink:
		if err := load.NewPattern(call.Seed).Take(c, call.Length); err != nil {
			return err
		}
		_, err := c.Write([]byte{load.SinkTaken})
		return err
	default:
		return echo(c)
	}
}

// echo returns what comes. It does not splice: a model server does not either.
func echo(c net.Conn) error {
	buf := make([]byte, 64<<10)
	for {
		n, err := c.Read(buf)
		if n > 0 {
			if _, err := c.Write(buf[:n]); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
	}
}

// serveAll answers each connection of listeners with f, which ends when c is
// closed, until ctx ends. A connection that fails is that connection's matter: who
// made it sees it end.
func serveAll(ctx context.Context, listeners []net.Listener, f func(ctx context.Context, c net.Conn) error) error {
	var wg sync.WaitGroup
	for _, l := range listeners {
		stop := context.AfterFunc(ctx, func() { _ = l.Close() }) // the accept fails then
		defer stop()
		wg.Go(func() {
			for {
				c, err := l.Accept()
				if errors.Is(err, net.ErrClosed) {
					return
				}
				if err != nil {
					continue
				}
				wg.Go(func() {
					end := context.AfterFunc(ctx, func() { _ = c.Close() })
					defer end()
					defer func() { _ = c.Close() }() // done with
					_ = f(ctx, c)
				})
			}
		})
	}
	wg.Wait()
	return nil
}
