// Package machine is a machine that runs model servers: this one, or a GPU host
// by SSH. It runs short sh scripts there, says what the machine has, puts files
// and opens sockets. It knows nothing of models, engines or servers, and installs
// nothing.
package machine

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/sallyport/sallyport/tunnel"
)

// Machine is one machine, and one user there. Make it with Local or Remote; the
// zero Machine does nothing. Its methods may be called from any goroutine.
type Machine struct {
	name   string
	remote *tunnel.Client
	local  *LocalOptions
}

// LocalOptions say as whom things are done on this machine.
type LocalOptions struct {
	Home     string   // HOME of what runs; absolute
	UID, GID int      // who it runs as; only root may name another user
	Environ  []string // environment of what runs, HOME apart; nil: empty
}

// Local is this machine.
func Local(o LocalOptions) *Machine { return &Machine{local: &o} }

// Remote is the machine at the other end of c, for the user who logs in. name is
// for messages.
func Remote(name string, c *tunnel.Client) *Machine { return &Machine{name: name, remote: c} }

// Name is the host's name; empty: this machine.
func (m *Machine) Name() string { return m.name }

// String names the machine in messages.
func (m *Machine) String() string {
	if m.name == "" {
		return "this machine"
	}
	return m.name
}

var errZero = errors.New("no machine was named")

// Dial connects to addr as the machine sees it: host:port for "tcp", a path for
// "unix".
func (m *Machine) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	switch {
	case m.remote != nil:
		return m.remote.Dial(ctx, network, addr)
	case m.local == nil:
		return nil, errZero
	case network != "tcp" && network != "unix":
		return nil, fmt.Errorf("dial %s %q on %s: only tcp and unix are possible", network, addr, m)
	}
	return (&net.Dialer{}).DialContext(ctx, network, addr)
}
