package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"

	"github.com/sallyport/sallyport/confine"
	"github.com/sallyport/sallyport/tunnel"
)

// Tunnel forwards TCP connections to a unix socket on an SSH host, through the
// client that the gateway has, on as many processors. Its arguments are the address to listen at, the
// host's name in the user's ssh configuration, and the socket's path there.
func Tunnel(ctx context.Context, args []string) error {
	if len(args) != 3 {
		return errors.New("tunnel: needed are HOST:PORT to listen at, an ssh host and a socket's path there")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return fmt.Errorf("tunnel: %w", err)
	}
	host, err := tunnel.Resolve(ctx, args[1], tunnel.Options{Home: home})
	if err != nil {
		return fmt.Errorf("tunnel: %w", err)
	}
	client, err := tunnel.New(host, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		return fmt.Errorf("tunnel: %w", err)
	}
	confine.Processors()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- client.Run(ctx) }()
	if err := listenOver(ctx, client, args[0], args[2]); err != nil {
		cancel()
		return errors.Join(fmt.Errorf("tunnel: %w", err), <-ended)
	}
	return <-ended
}

// listenOver forwards what comes to address. It listens once the socket can be
// reached: who waits for the port does not measure the first connection.
func listenOver(ctx context.Context, client *tunnel.Client, address, socket string) error {
	first, err := client.Dial(ctx, "unix", socket)
	if err != nil {
		return err
	}
	if err := first.Close(); err != nil {
		return err
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	return serveAll(ctx, []net.Listener{l}, func(ctx context.Context, c net.Conn) error {
		far, err := client.Dial(ctx, "unix", socket)
		if err != nil {
			return err
		}
		end := context.AfterFunc(ctx, func() { _ = far.Close() })
		defer end()
		return join(c, far)
	})
}

// join passes on what either side sends, and its end, until both have ended.
func join(a, b net.Conn) error {
	var wg sync.WaitGroup
	errs := make(chan error, 2)
	for _, way := range [][2]net.Conn{{a, b}, {b, a}} {
		wg.Go(func() {
			_, err := io.Copy(way[0], way[1])
			if end, ok := way[0].(interface{ CloseWrite() error }); err == nil && ok {
				err = end.CloseWrite()
			}
			if err != nil { // the other direction is of no use any more
				_ = a.Close()
				_ = b.Close()
			}
			errs <- err
		})
	}
	wg.Wait()
	return errors.Join(<-errs, <-errs, b.Close())
}
