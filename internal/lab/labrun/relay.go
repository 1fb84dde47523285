package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
)

// relay passes connections on from one unix socket, which everybody may open, to
// another, until stop is called and every connection has ended.
func relay(from, to string) (stop func(), err error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: from, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("relay the engine's socket: %w", err)
	}
	if err := os.Chmod(from, 0o666); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.AcceptUnix()
			if err != nil {
				return
			}
			running.Go(func() { pass(c, to) })
		}
	})
	return func() {
		_ = l.Close() // nothing depends on it any more
		running.Wait()
	}, nil
}

// pass copies both ways; each side's end is passed on by itself.
func pass(c *net.UnixConn, to string) {
	defer func() { _ = c.Close() }()
	engine, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: to, Net: "unix"})
	if err != nil {
		return // the client sees the end
	}
	defer func() { _ = engine.Close() }()
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
