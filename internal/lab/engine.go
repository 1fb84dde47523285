package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Engine says which Docker engine the laptop has.
type Engine string

// The engines: Debian 12's, and the one of Debian's newest packages.
const (
	Engine20 Engine = "20.10"
	Engine28 Engine = "28"
)

// suite is the Debian release that has the engine.
func (e Engine) suite() string {
	if e == Engine20 {
		return "bookworm"
	}
	return "sid"
}

// EngineOptions are settings of the laptop's engine that users have.
type EngineOptions struct {
	LiveRestore     bool // containers survive the engine
	UsernsRemap     bool // root in a container is another user outside
	NoNewPrivileges bool // the daemon's default for containers
}

// engineStart bounds the start of an engine, and engineStop its end, which lets
// containers end first.
const (
	engineStart = 60 * time.Second
	engineStop  = 60 * time.Second
)

// socketPath is where the engine listens, on the host.
const socketPath = "/run/docker.sock"

// daemon is a running engine.
type daemon struct {
	host  *Host
	extra []string // command line
	json  map[string]any
	cmd   *Cmd
	log   string // outside path
}

// start starts the engine and waits until it says that it is ready.
func (d *daemon) start(ctx context.Context) error {
	if err := d.configure(); err != nil {
		return fmt.Errorf("lab: configure the engine: %w", err)
	}
	ready, err := d.host.notifySocket()
	if err != nil {
		return err
	}
	defer func() { _ = ready.Close() }()
	log, err := os.OpenFile(d.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	// The lab ends it, not the context of whoever started it.
	d.cmd = d.host.CommandRoot(context.WithoutCancel(ctx), "dockerd", d.extra...)
	d.cmd.Env = append(d.cmd.Env, "NOTIFY_SOCKET="+notifyPath)
	d.cmd.Stdout, d.cmd.Stderr = log, log
	if err := d.cmd.Start(); err != nil {
		return err
	}
	if err := d.waitReady(ctx, ready); err != nil {
		return errors.Join(fmt.Errorf("lab: engine of %s: %w; the end of its log:\n%s", d.host.Name, err, tail(d.log)), d.kill())
	}
	return nil
}

func (d *daemon) configure() error {
	content, err := json.MarshalIndent(d.json, "", "\t")
	if err != nil {
		return err
	}
	file := d.host.Outside("/etc/docker/daemon.json")
	// A daemon that was killed leaves a pid file, and a new process may have that pid.
	for _, left := range []string{"/run/docker.pid", "/run/docker/containerd/containerd.pid"} {
		if err := os.Remove(d.host.Outside(left)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, content, 0o644))
}

// waitReady waits for the notice that systemd would get. The daemon's end ends
// the wait too.
func (d *daemon) waitReady(ctx context.Context, ready net.PacketConn) error {
	ctx, cancel := context.WithTimeout(ctx, engineStart)
	defer cancel()
	wake := context.AfterFunc(ctx, func() { _ = ready.SetReadDeadline(time.Unix(1, 0)) })
	defer wake()
	go func() {
		_ = d.cmd.Wait() // its end is told by the deadline that follows
		_ = ready.SetReadDeadline(time.Unix(1, 0))
	}()
	buf := make([]byte, 4096)
	for {
		n, _, err := ready.ReadFrom(buf)
		if err != nil {
			return errors.Join(errors.New("it did not become ready"), ctx.Err(), err)
		}
		if strings.Contains(string(buf[:n]), "READY=1") {
			return nil
		}
	}
}

// stop ends the engine as a service manager would.
func (d *daemon) stop() error {
	if d.cmd == nil {
		return nil
	}
	if err := d.cmd.Process.Signal(unix.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	slow := time.AfterFunc(engineStop, func() { _ = d.cmd.Process.Kill() })
	defer slow.Stop()
	err := d.cmd.Wait()
	d.cmd = nil
	if err != nil {
		return fmt.Errorf("lab: the engine's end: %w; the end of its log:\n%s", err, tail(d.log))
	}
	return nil
}

func (d *daemon) kill() error {
	if d.cmd == nil {
		return nil
	}
	err := d.cmd.Process.Kill()
	_ = d.cmd.Wait() // killed
	d.cmd = nil
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

const notifyPath = "/run/sp-lab-notify"

func (h *Host) notifySocket() (c net.PacketConn, err error) {
	err = h.Do(func() error {
		_ = os.Remove(notifyPath) // an earlier one's
		c, err = net.ListenPacket("unixgram", notifyPath)
		return err
	})
	return c, err
}

// tail is the last few lines of a log.
func tail(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	const keep = 3000
	return string(b[max(0, len(b)-keep):])
}
