// Package containers talks to the Docker engine: images (the helper made of our
// own binary, the agent's), the wall's and holders' containers, agents with
// their attached terminal, and which host folders they may see. It stops at the
// engine: what runs inside the containers, the network between them and what is
// said to the user are other packages' business. It alone imports the Docker
// client.
package containers

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/moby/moby/client"
)

// DefaultHost is the engine that Open connects to when none is named.
const DefaultHost = "unix:///var/run/docker.sock"

// Engine is a connection to one container engine. It is safe for concurrent use.
// Sandboxes' containers can be created only once Check has passed, and model
// servers' only once CheckServer has.
type Engine struct {
	api    *client.Client
	socket string                     // of this machine; empty: the engine is not this machine's
	info   atomic.Pointer[Info]       // what Check learnt; nil until it has passed
	server atomic.Pointer[ServerInfo] // what CheckServer learnt; nil until it has passed
}

// Open connects to the engine at host, a "unix://" address as in DOCKER_HOST,
// and agrees on an API version. An empty host means DefaultHost; reading
// DOCKER_HOST is the caller's. Any other kind of address is an
// *UnsupportedError, before a packet is sent; an engine that cannot be reached
// is an *UnavailableError.
func Open(ctx context.Context, host string) (*Engine, error) {
	if host == "" {
		host = DefaultHost
	}
	socket, ok := strings.CutPrefix(host, "unix://")
	if !ok || !strings.HasPrefix(socket, "/") {
		return nil, unsupported("remote engines", "%q is not a unix socket of this machine", host)
	}
	// The client hides why a connection failed: ask the socket first.
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, &UnavailableError{Host: host, Err: err}
	}
	conn.Close()
	api, err := client.New(client.WithHost(host))
	if err != nil {
		return nil, fmt.Errorf("open Docker engine %s: %w", host, err)
	}
	if _, err := api.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true}); err != nil {
		api.Close()
		return nil, fmt.Errorf("open Docker engine %s: %w\nhint: engine 20.10 or newer is needed", host, err)
	}
	return &Engine{api: api, socket: socket}, nil
}

// Close ends idle connections. Attached sessions and event streams end with
// their own context.
func (e *Engine) Close() error { return e.api.Close() }

// Socket returns the path of the engine's socket, which no container may see;
// empty for an engine of another machine.
func (e *Engine) Socket() string { return e.socket }

// UnavailableError says that no engine answered at Host.
type UnavailableError struct {
	Host string
	Err  error
}

func (e *UnavailableError) Error() string {
	what, hint := "Docker engine", "is Docker running? `sudo systemctl start docker`"
	switch {
	case strings.HasSuffix(e.Host, "/podman.sock"):
		what, hint = "Podman", "start its service: `systemctl --user enable --now podman.socket`"
	case errors.Is(e.Err, fs.ErrPermission):
		hint = "add yourself to the group docker (`sudo usermod -aG docker $USER`) and log in again"
	case errors.Is(e.Err, fs.ErrNotExist):
		hint = "install Docker Engine (`sudo apt-get install docker.io`) and start it (`sudo systemctl start docker`)"
	case errors.Is(e.Err, syscall.ECONNREFUSED):
		hint = "the socket is there but nobody listens: `sudo systemctl restart docker`"
	}
	return fmt.Sprintf("no %s at %s: %v\nhint: %s", what, e.Host, e.Err, hint)
}

// Unwrap returns the cause, for errors.Is(err, fs.ErrNotExist) and the like.
func (e *UnavailableError) Unwrap() error { return e.Err }

// UnsupportedError says that an engine is of a kind on which a sandbox, or a
// model server, would not hold what it promises, or was never tried.
type UnsupportedError struct {
	Kind string // "rootless Docker", "Podman", …
	Why  string
	For  string // what it was asked for; empty: "sandboxes"
}

func (e *UnsupportedError) Error() string {
	what := e.For
	if what == "" {
		what = "sandboxes"
	}
	return e.Kind + " not supported for " + what + " yet: " + e.Why
}

func unsupported(kind, format string, args ...any) *UnsupportedError {
	return &UnsupportedError{Kind: kind, Why: fmt.Sprintf(format, args...)}
}
