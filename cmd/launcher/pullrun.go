package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path"
	"strings"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/config"
	"github.com/sallyport/sallyport/control"
	"github.com/sallyport/sallyport/models/hub"
	"github.com/sallyport/sallyport/models/pull"
)

// runPull runs the downloader on the machine. way is the gateway's, on this
// machine: the only way out; the zero one with pull: direct.
func (a *modelCommand) runPull(ctx context.Context, v *served, job hub.Job, way control.PullReady, report func(hub.Progress)) (hub.Result, error) {
	direct := a.model.pull == config.PullDirect
	if direct == (way.Socket != "") {
		return hub.Result{}, fmt.Errorf("pull %s: the gateway opened no way out", v.model.Name)
	}
	binary, err := v.onMachine()
	if err != nil {
		return hub.Result{}, err
	}
	o := pull.Options{Machine: v.site.Machine, Name: v.model.server(), Weights: v.site.weights(), UID: v.site.facts.UID, GID: v.site.facts.GID,
		Job: job, Token: a.options.getenv("HF_TOKEN"), Engine: v.hosting.engine, Binary: binary,
		ProxySocket: way.Socket, Direct: direct, Report: report}
	if o.Engine != nil {
		if o.HelperImage, err = o.Engine.EnsureHelper(ctx, v.binary); err != nil {
			return hub.Result{}, err
		}
	}
	if direct || v.site.name == "" {
		return pull.Run(ctx, o)
	}
	return v.overSSH(ctx, o, way.ID)
}

// maxSocket is the longest path of a unix socket in bytes: sun_path of unix(7),
// less its NUL.
const maxSocket = 107

// wayOut is where the socket of one pull lies on the machine, in a folder of its
// own: several laptops may pull one model to one machine.
func (s *site) wayOut(id string) (string, error) {
	if id == "" || strings.ContainsFunc(id, func(r rune) bool { return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789-", r) }) {
		return "", fmt.Errorf("make a way out for the pull on %s: the gateway calls it %q", s.title(), id)
	}
	socket := path.Join(s.base(), "pull", id, "proxy.sock")
	if len(socket) > maxSocket {
		return "", fmt.Errorf("make a way out for the pull on %s: the path of its socket has %d bytes, and no more than %d fit: %s; hint: set %s to a shorter path",
			s.title(), len(socket), maxSocket, socket, s.setting("folder"))
	}
	return socket, nil
}

const (
	makeWay   = `umask 077; mkdir -p -- "${1%/*}" && chmod 700 -- "${1%/*}" && mkdir -- "$1"`
	removeWay = `rm -f -- "$1/proxy.sock"; rmdir -- "$1"`
)

// listen opens the socket of one pull on the machine, where nobody else may enter.
// remove removes it with its folder, once the listener is closed.
func (s *site) listen(ctx context.Context, socket string) (l net.Listener, remove func() error, err error) {
	folder := path.Dir(socket)
	if _, err := s.Sh(ctx, makeWay, nil, folder); err != nil {
		return nil, nil, fmt.Errorf("make a way out for the pull on %s: %w", s.title(), err)
	}
	remove = func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
		defer cancel()
		if _, err := s.Sh(ctx, removeWay, nil, folder); err != nil {
			return fmt.Errorf("remove the pull's way out on %s: %w", s.title(), err)
		}
		return nil
	}
	if l, err = s.ListenUnix(ctx, socket); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("make a way out for the pull on %s: %w", s.title(), err), remove())
	}
	return l, remove, nil
}

// overSSH runs a pull on a GPU host, where a socket leads back to this machine's
// gateway for as long as it runs.
func (v *served) overSSH(ctx context.Context, o pull.Options, id string) (result hub.Result, err error) {
	there, err := v.site.wayOut(id)
	if err != nil {
		return result, err
	}
	l, remove, err := v.site.listen(ctx, there)
	if err != nil {
		return result, err
	}
	defer func() {
		if gone := remove(); err == nil && gone != nil {
			v.options.newProgress().warn("%v", gone) // the weights are there all the same
		}
	}()
	local := o.ProxySocket
	o.ProxySocket = there
	bridge, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	running, lost := context.WithCancelCause(ctx)
	go func() {
		err := pull.Bridge(bridge, l, func(ctx context.Context) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", local)
		})
		if err != nil {
			lost(err) // without it the downloader only waits
		}
		ended <- err
	}()
	result, err = pull.Run(running, o)
	stop()
	bridgeErr := <-ended
	lost(nil)
	if err != nil && bridgeErr != nil && ctx.Err() == nil {
		return result, fmt.Errorf("the way from %s to this machine's gateway was lost: %w; hint: launcher pull %s goes on where it ended", v.site.title(), errors.Join(bridgeErr, err), v.model.Name)
	}
	return result, err
}

// pullingScript prints who holds the lock of a pull, if anybody does. It asks the
// kernel's list: to try the lock would be to hold it.
const pullingScript = `[ -e "$1" ] || exit 0
inode=$(stat -c %i -- "$1") && grep -q "FLOCK.*:$inode " /proc/locks || exit 0
printf 'pulled by '
head -c 200 -- "$1"`

// pulling says whether the weights are being fetched, and by whom.
func (v *served) pulling(ctx context.Context) (string, bool) {
	repo := v.model.Weights().Repo
	lock := path.Join(v.site.weights(), "hub/.locks", "models--"+strings.ReplaceAll(repo, "/", "--"), "sallyport-pull.lock")
	out, err := v.site.Sh(ctx, pullingScript, nil, lock)
	if err != nil || len(out) == 0 {
		return "", false
	}
	return audit.Printable(strings.TrimSpace(string(out))), true
}
