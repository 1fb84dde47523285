package main

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
)

// target is a listener on the host that the demo's script aims at: what reaches
// it has got out.
type target struct {
	listener net.Listener
	reached  atomic.Int64
}

// startTarget listens where a container on Docker's own bridge would find this
// host, or on loopback if there is no such bridge.
func startTarget(ctx context.Context) (t *target, stop func() error, err error) {
	var lc net.ListenConfig
	t = &target{}
	if t.listener, err = lc.Listen(ctx, "tcp", net.JoinHostPort(bridgeAddress(), "0")); err != nil {
		return nil, nil, fmt.Errorf("listen for the demo: %w", err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := t.listener.Accept()
			if err != nil {
				return
			}
			t.reached.Add(1)
			fmt.Fprintln(c, "reached")
			c.Close()
		}
	}()
	return t, func() error {
		err := t.listener.Close()
		<-done
		return err
	}, nil
}

// Address is where the target listens, as address:port.
func (t *target) Address() string { return t.listener.Addr().String() }

func bridgeAddress() string {
	const loopback = "127.0.0.1"
	bridge, err := net.InterfaceByName("docker0")
	if err != nil {
		return loopback
	}
	addrs, err := bridge.Addrs()
	if err != nil {
		return loopback
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil {
			return n.IP.String()
		}
	}
	return loopback
}
