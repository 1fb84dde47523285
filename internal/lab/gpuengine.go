package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// GPUEngine says which container engine the GPU host has.
type GPUEngine string

// The GPU host's engines: none; Docker's, root's, whose socket the group docker
// may open; Podman's, which is the user's own, without root, on control groups of
// version 2 that are the user's too, as systemd would give them.
const (
	GPUEngineNone GPUEngine = ""
	GPUDocker28   GPUEngine = "docker-28"
	GPUPodman     GPUEngine = "podman"
)

// podmanSocket is where `systemctl --user start podman.socket` puts it.
const podmanSocket = runtimeDir + "/podman/podman.sock"

// podmanStart bounds the start of Podman's service.
const podmanStart = 30 * time.Second

// gpuEngine is what the GPU host's engine consists of.
type gpuEngine struct {
	kind   GPUEngine
	id     string // of the lab, and of its control groups
	store  *store
	docker *daemon
	podman *Cmd   // the service; containers do not hang on it
	log    string // outside path
}

// newGPUEngine prepares the GPU host's tree for its engine; nothing runs yet. It
// returns nil for a host without one.
func newGPUEngine(kind GPUEngine, p *place, t *tree, user *account) (*gpuEngine, error) {
	switch kind {
	case GPUEngineNone:
		return nil, nil
	case GPUDocker28, GPUPodman:
	default:
		return nil, fmt.Errorf("lab: the GPU host knows no engine %q", kind)
	}
	e := &gpuEngine{kind: kind, id: p.id, log: filepath.Join(p.shared, "gpu-engine.log")}
	var err error
	if e.store, err = takeStore("gpu-" + string(kind)); err != nil {
		return nil, err
	}
	if kind == GPUDocker28 {
		t.binds["/var/lib/docker"] = e.store.dir
		return e, nil
	}
	t.cgroup2 = true
	// Podman's own overlays have to lie on a disk, as the lab's do.
	t.binds[user.home+"/.local/share/containers"] = e.store.dir
	return e, os.Chown(e.store.dir, UserID, UserID)
}

// prepare makes what the engine finds on a machine that a user has logged in to.
func (e *gpuEngine) prepare(h *Host) error {
	if e.kind == GPUDocker28 {
		e.docker = &daemon{host: h, log: e.log, json: map[string]any{"cgroup-parent": "/" + e.id, "shutdown-timeout": 10}}
		return nil
	}
	top := h.Outside("/sys/fs/cgroup/" + e.id)
	errs := []error{
		ownedDir(h.Outside(filepath.Dir(podmanSocket)), 0o700),
		os.MkdirAll(filepath.Join(top, "engine"), 0o755),
	}
	for _, dir := range []string{".local", ".local/share"} {
		errs = append(errs, os.Chown(h.Outside(filepath.Join(h.user.home, dir)), UserID, UserID))
	}
	for _, dir := range []string{top, filepath.Join(top, "engine")} {
		for _, file := range []string{"", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"} {
			errs = append(errs, os.Chown(filepath.Join(dir, file), UserID, UserID))
		}
	}
	return errors.Join(errs...)
}

// StartEngine starts the GPU host's engine, which must not run.
func (g *GPUHost) StartEngine(ctx context.Context) error {
	e := g.engine
	switch {
	case e == nil:
		return errors.New("lab: the GPU host has no engine: see Options.GPUEngine")
	case e.docker != nil:
		return e.docker.start(ctx)
	}
	log, err := os.OpenFile(e.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	group, err := unix.Open(g.Outside("/sys/fs/cgroup/"+e.id+"/engine"), unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("lab: podman's control group: %w", err)
	}
	defer func() { _ = unix.Close(group) }()
	// The lab ends it, not the context of whoever started it.
	e.podman = g.Command(context.WithoutCancel(ctx), "podman", "system", "service", "--time", "0", "unix://"+podmanSocket)
	e.podman.SysProcAttr.UseCgroupFD, e.podman.SysProcAttr.CgroupFD = true, group
	e.podman.Stdout, e.podman.Stderr = log, log
	if err := e.podman.Start(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, podmanStart)
	defer cancel()
	err = until(ctx, func() error {
		c, err := g.DialEngine(ctx)
		if err != nil {
			return err
		}
		return c.Close()
	})
	if err != nil {
		return errors.Join(fmt.Errorf("lab: podman's service: %w; its log:\n%s", err, tail(e.log)), g.KillEngine())
	}
	return nil
}

// StopEngine ends the engine as a service manager would. Docker's containers end
// with it; Podman's, which hang on no service, go on.
func (g *GPUHost) StopEngine() error { return g.endEngine(unix.SIGTERM) }

// KillEngine ends the engine with SIGKILL.
func (g *GPUHost) KillEngine() error { return g.endEngine(unix.SIGKILL) }

func (g *GPUHost) endEngine(signal unix.Signal) error {
	e := g.engine
	switch {
	case e == nil:
		return nil
	case e.docker != nil && signal == unix.SIGKILL:
		return e.docker.kill()
	case e.docker != nil:
		return e.docker.stop()
	case e.podman == nil:
		return nil
	}
	err := e.podman.Process.Signal(signal)
	_ = e.podman.Wait() // ended by a signal
	e.podman = nil
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// EngineSocket is where the engine listens, on the GPU host; empty without one.
// The user may open it.
func (g *GPUHost) EngineSocket() string {
	switch {
	case g.engine == nil:
		return ""
	case g.engine.kind == GPUPodman:
		return podmanSocket
	}
	return socketPath
}

// Engine is the engine's address, for the test process; empty without one.
func (g *GPUHost) Engine() string {
	if g.engine == nil {
		return ""
	}
	return "unix://" + g.Outside(g.EngineSocket())
}

// DialEngine connects to the engine, for containers.OpenDial.
func (g *GPUHost) DialEngine(ctx context.Context) (net.Conn, error) {
	return g.Dial(ctx, "unix", g.EngineSocket())
}

// EngineLog is the end of the engine's log.
func (g *GPUHost) EngineLog() string { return tail(g.engine.log) }
