package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/models"
	"github.com/sallyport/sallyport/models/server"
)

// checkNetwork sees to it that a server of ours reaches nothing.
func (p *patient) checkNetwork(ctx context.Context) finding {
	if p.status.State != server.Ready {
		return skipped("it does not run")
	}
	engine := p.served.hosting.engine
	if engine == nil {
		return p.checkNamespace(ctx)
	}
	name := models.ContainerName(p.model.server(), p.site.facts.UID)
	state, err := engine.ServerByName(ctx, name)
	if err != nil {
		return failed(err)
	}
	if state.Network != "none" {
		return failed(fmt.Errorf("container %s has network %q: it is not closed; hint: launcher stop %s, and start it again", name, state.Network, p.model.Name))
	}
	return fine("none: container %s", name)
}

// interfacesScript prints the interfaces of the process $1, and fails where it is
// in the login's own network namespace.
const interfacesScript = `its=$(readlink "/proc/$1/ns/net") && mine=$(readlink /proc/self/ns/net) || exit 1
[ "$its" != "$mine" ] || { echo "it has the network of the machine" >&2; exit 1; }
sed -n 's/^ *\([^ :]*\):.*/\1/p' "/proc/$1/net/dev"`

// checkNamespace looks at the network of a server that is a process.
func (p *patient) checkNamespace(ctx context.Context) finding {
	out, err := p.site.Sh(ctx, `sed -n 's/.*"server_pid":\([0-9]*\).*/\1/p' "$1/state.json"`, nil, p.site.folder(p.model.server()))
	if err != nil {
		return failed(err)
	}
	pid := strings.TrimSpace(string(out))
	if pid == "" {
		return skipped("its runner does not name its process")
	}
	out, err = p.site.Sh(ctx, interfacesScript, nil, pid)
	if err != nil {
		f := failed(fmt.Errorf("look at the network of process %s: %w", pid, err))
		f.Hints = append(f.Hints, "launcher stop "+p.model.Name+", and start it again")
		return f
	}
	if names := strings.Fields(string(out)); !slices.Equal(names, []string{"lo"}) {
		return failed(fmt.Errorf("process %s has interfaces besides lo: %q; hint: launcher stop %s", pid, names, p.model.Name))
	}
	return fine("none but lo: process %s", pid)
}
