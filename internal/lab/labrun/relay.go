package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
)

// relay passes connections on from one unix socket, which everybody may open, to
// another, until stop is called, which ends every connection: a command that has ended may
// have left something that holds one.
func relay(from, to string) (stop func(), err error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: from, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("relay the engine's socket: %w", err)
	}
	if err := os.Chmod(from, 0o666); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.AcceptUnix()
			if err != nil {
				return
			}
			running.Go(func() { pass(ctx, c, to) })
		}
	})
	return func() {
		_ = l.Close() // nothing depends on it any more
		cancel()
		running.Wait()
	}, nil
}

// pass copies both ways until both have ended or ctx has; each side's end is
// passed on by itself.
func pass(ctx context.Context, c *net.UnixConn, to string) {
	defer func() { _ = c.Close() }()
	engine, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: to, Net: "unix"})
	if err != nil {
		return // the client sees the end
	}
	defer func() { _ = engine.Close() }()
	defer context.AfterFunc(ctx, func() { _, _ = c.Close(), engine.Close() })()
	var both sync.WaitGroup
	both.Go(func() {
		_, _ = io.Copy(engine, c)
		_ = engine.CloseWrite()
	})
	both.Go(func() {
		_, _ = io.Copy(c, engine)
		_ = c.CloseWrite()
	})
	both.Wait()
}
