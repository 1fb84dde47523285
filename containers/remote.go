package containers

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/moby/moby/client"
)

// OpenDial connects to an engine of another machine, whose socket dial opens,
// and agrees on an API version. name says which engine it is, in messages: a GPU
// host's. Model servers run there and nothing else: Check refuses it, and with
// that whatever makes sandboxes. Nothing is ever sent over TCP, nor by a proxy:
// dial alone leads there.
func OpenDial(ctx context.Context, name string, dial func(ctx context.Context) (net.Conn, error)) (*Engine, error) {
	if dial == nil {
		return nil, fmt.Errorf("open the container engine of %s: %w", name, errors.New("there is no way to it"))
	}
	// The client hides why a connection failed: ask the socket first.
	conn, err := dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("open the container engine of %s: %w", name, err)
	}
	conn.Close()
	// The client's settings for a unix socket, which know no proxy; the path is
	// never opened.
	api, err := client.New(client.WithHost(DefaultHost),
		client.WithDialContext(func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }))
	if err != nil {
		return nil, fmt.Errorf("open the container engine of %s: %w", name, err)
	}
	if _, err := api.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true}); err != nil {
		api.Close()
		return nil, fmt.Errorf("open the container engine of %s: %w\nhint: Docker 20.10 or Podman 4 or newer is needed", name, err)
	}
	return &Engine{api: api}, nil
}
