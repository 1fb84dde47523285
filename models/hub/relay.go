package hub

import (
	"context"
	"io"
	"net"
	"sync"
)

// maxRelayed bounds the connections of a relay at once; more are closed at once.
// A pull has a handful.
const maxRelayed = 64

// Relay accepts on l and passes bytes between each connection and one that dial
// opens, until ctx ends; then it closes all and returns nil once they have ended.
// It closes l, and looks at nothing that passes.
func Relay(ctx context.Context, l net.Listener, dial func(context.Context) (net.Conn, error)) error {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	defer l.Close()
	unhook := context.AfterFunc(ctx, func() { l.Close() })
	defer unhook()
	room := make(chan struct{}, maxRelayed)
	for {
		c, err := l.Accept()
		if err == nil && ctx.Err() != nil {
			c.Close()
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		}
		select {
		case room <- struct{}{}:
		default:
			c.Close()
			continue
		}
		running.Go(func() {
			defer func() { <-room }()
			relay(ctx, c, dial)
		})
	}
}

// relay serves one connection.
func relay(ctx context.Context, c net.Conn, dial func(context.Context) (net.Conn, error)) {
	defer c.Close()
	far, err := dial(ctx)
	if err != nil {
		return // the other side sees its connection end, and says what it was for
	}
	defer far.Close()
	unhook := context.AfterFunc(ctx, func() { c.Close(); far.Close() })
	defer unhook()
	var both sync.WaitGroup
	both.Go(func() { pass(far, c) })
	both.Go(func() { pass(c, far) })
	both.Wait()
}

// pass copies until from ends, and tells to so. Where something fails, both ends
// go: half of a broken connection is of no use.
func pass(to, from net.Conn) {
	_, err := io.Copy(to, from)
	half, ok := to.(interface{ CloseWrite() error })
	if err != nil || !ok || half.CloseWrite() != nil {
		to.Close()
		from.Close()
	}
}
