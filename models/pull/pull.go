// Package pull downloads a model's weights on the machine that will run it: it
// starts the downloader there, in a container or namespace without a network,
// feeds it its job and reads what it tells. The one way out is a socket that it is
// given; whose that is, and what passes it, is its caller's matter.
package pull

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path"
	"strings"

	"github.com/sallyport/sallyport/containers"
	"github.com/sallyport/sallyport/machine"
	"github.com/sallyport/sallyport/models/hub"
)

// Where things are in the downloader's container.
const (
	weightsTarget = "/weights"
	socketFolder  = "/run/sallyport/pull"
)

// command is gateway's hidden one that downloads.
const command = "fetch-weights"

// Options say what is pulled, where, and how.
type Options struct {
	Machine *machine.Machine // where the weights will lie; required
	Name    string           // of the model; required
	Weights string           // the weights' folder there, absolute; made if it is not there; required
	UID     int              // of the login there, whose files they become
	GID     int
	Job     hub.Job // Dir is set by Run
	Token   string  // HF_TOKEN; empty: none

	Engine      *containers.Engine // of that machine; nil: a process in a namespace of its own
	HelperImage string             // from EnsureHelper; with Engine
	Binary      string             // path of our binary there; without Engine

	// ProxySocket is the way out: a unix socket there, in a folder that holds
	// nothing else. Empty only with Direct, where the machine's own network is used
	// and nothing is recorded.
	ProxySocket string
	Direct      bool

	Report func(hub.Progress) // is told how far it is, by one goroutine; nil: nobody
}

// Run pulls and returns when all is there. When ctx ends the downloader is ended
// and what came so far is kept. Errors are those of hub.Fetch, or say that the
// downloader could not be run.
func Run(ctx context.Context, o Options) (hub.Result, error) {
	if err := o.check(); err != nil {
		return hub.Result{}, err
	}
	folder, err := o.makeFolder(ctx)
	if err != nil {
		return hub.Result{}, err
	}
	o.Weights = folder
	d := &downloader{Options: o}
	if o.Engine != nil {
		d.engine = o.Engine
		return d.inContainer(ctx)
	}
	return d.asProcess(ctx)
}

func (o Options) check() error {
	switch {
	case o.Machine == nil || o.Name == "":
		return errors.New("pull weights: no machine or no name is given")
	case strings.ContainsFunc(o.Name, func(r rune) bool { return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789._-", r) }):
		return fmt.Errorf("pull weights: %q is no name of a model server", o.Name)
	case !path.IsAbs(o.Weights) || path.Clean(o.Weights) == "/":
		return fmt.Errorf("pull weights: %q is no folder for weights; hint: set weights to an absolute path", o.Weights)
	case o.Direct == (o.ProxySocket != ""):
		return errors.New("pull weights: the way out must be either a socket or the machine's own network")
	case o.ProxySocket != "" && !path.IsAbs(o.ProxySocket):
		return fmt.Errorf("pull weights: the socket %q is no absolute path", o.ProxySocket)
	case o.Engine != nil && o.HelperImage == "", o.Engine == nil && o.Binary == "":
		return errors.New("pull weights: there is nothing to run the downloader from")
	case strings.ContainsAny(o.Token, "\r\n\x00") || len(o.Token) > hub.MaxToken:
		return errors.New("pull weights: HF_TOKEN has more than one line, or is too long")
	}
	return nil
}

// makeScript makes the weights' folder and prints where it really is.
const makeScript = `mkdir -p -- "$1" && cd -- "$1" && [ -w . ] && pwd -P`

func (o Options) makeFolder(ctx context.Context) (string, error) {
	out, err := o.Machine.Sh(ctx, makeScript, nil, o.Weights)
	if err != nil {
		return "", fmt.Errorf("make the weights' folder %s on %s: %w; hint: it must be writable for you, or set weights to another folder", o.Weights, o.Machine, err)
	}
	folder := strings.TrimSuffix(string(out), "\n")
	if !path.IsAbs(folder) || strings.Contains(folder, "\n") {
		return "", fmt.Errorf("make the weights' folder %s on %s: it is not told where it is", o.Weights, o.Machine)
	}
	return folder, nil
}

// job is what the downloader is fed; dir is the weights' folder as it sees it.
func (o Options) job(dir string) ([]byte, error) {
	o.Job.Dir, o.Job.Shown = dir, o.Weights
	data, err := json.Marshal(o.Job)
	return append(data, '\n'), err
}

// args are the downloader's; socket is the way out as it sees it.
func (o Options) args(socket string, more ...string) []string {
	if o.Direct {
		return append([]string{command, "--direct"}, more...)
	}
	return append([]string{command, "--proxy", socket}, more...)
}

// Bridge passes each connection that comes to l on to one that dial opens, until
// ctx ends: from a socket on a GPU host to that of the gateway here. It closes l.
func Bridge(ctx context.Context, l net.Listener, dial func(context.Context) (net.Conn, error)) error {
	return hub.Relay(ctx, l, dial)
}
