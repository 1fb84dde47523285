package containers

import (
	"context"
	"errors"
	"fmt"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/client"
)

// Bind puts one file or folder of the host into a container. Mounts below it
// are not visible inside, and none made inside reaches the host.
type Bind struct {
	Source   string // on the host, absolute; must exist
	Target   string // in the container, absolute
	ReadOnly bool
}

// AgentSpec describes an agent's container. Its root file system is read-only,
// it has no capability and can gain none.
type AgentSpec struct {
	Name       string   // of the container; required
	Image      string   // required
	Holder     string   // id or name of the container whose network it joins; required
	UID, GID   int      // it runs as; zero or less is refused
	Entrypoint []string // empty: the image's
	Cmd        []string // empty: the image's
	Env        []string // "NAME=value"
	WorkDir    string   // empty: the image's
	Binds      []Bind
	TTY        bool
	Stdin      bool // stdin is open; it ends when the attached session's In ends
	Labels     map[string]string
	MemoryMB   int64 // zero: 8192; swap is not added to it
	PidsLimit  int64 // zero: 4096
	TmpMB      int64 // size of /tmp, which counts as memory; zero: 2048
}

// CreateAgent creates an agent's container without starting it, so that a
// session can be attached first, and returns its id.
func (e *Engine) CreateAgent(ctx context.Context, spec AgentSpec) (string, error) {
	info, err := e.checked()
	if err != nil {
		return "", err
	}
	if err := spec.check(); err != nil {
		return "", err
	}
	return e.create(ctx, spec.Name, spec.config(), spec.hostConfig(info))
}

func (s AgentSpec) check() error {
	if s.Name == "" || s.Image == "" || s.Holder == "" {
		return fmt.Errorf("create agent %q: name, image and holder are required", s.Name)
	}
	if s.UID <= 0 || s.GID <= 0 {
		return fmt.Errorf("create agent %s: uid %d, gid %d: an agent never runs as root", s.Name, s.UID, s.GID)
	}
	return checkLabels(s.Name, s.Labels)
}

func (s AgentSpec) config() *container.Config {
	return &container.Config{
		Image:        s.Image,
		User:         fmt.Sprintf("%d:%d", s.UID, s.GID),
		Entrypoint:   s.Entrypoint,
		Cmd:          s.Cmd,
		Env:          s.Env,
		WorkingDir:   s.WorkDir,
		Labels:       s.Labels,
		Tty:          s.TTY,
		OpenStdin:    s.Stdin,
		StdinOnce:    s.Stdin,
		AttachStdin:  s.Stdin,
		AttachStdout: true,
		AttachStderr: true,
		// An image's own check would run programs in the sandbox unasked.
		Healthcheck: &container.HealthConfig{Test: []string{"NONE"}},
	}
}

func (s AgentSpec) hostConfig(info Info) *container.HostConfig {
	host := confined(info, orDefault(s.MemoryMB, 8192), orDefault(s.PidsLimit, 4096), s.Binds)
	host.NetworkMode = container.NetworkMode("container:" + s.Holder)
	host.Tmpfs = map[string]string{"/tmp": fmt.Sprintf("rw,exec,nosuid,nodev,mode=1777,size=%dm", orDefault(s.TmpMB, 2048))}
	// What the agent shows on the terminal is kept nowhere.
	host.LogConfig = container.LogConfig{Type: "none"}
	return host
}

// confined returns what all our containers have in common: no capability, no
// way to gain one, a read-only root and limits. Widening it is each kind's own.
func confined(info Info, memoryMB, pids int64, binds []Bind) *container.HostConfig {
	host := &container.HostConfig{
		CapDrop:        []string{"ALL"},
		SecurityOpt:    []string{"no-new-privileges:true"},
		ReadonlyRootfs: true,
		IpcMode:        "private",
		RestartPolicy:  container.RestartPolicy{Name: container.RestartPolicyDisabled},
		Resources: container.Resources{
			Memory:     memoryMB << 20,
			MemorySwap: memoryMB << 20,
			PidsLimit:  &pids,
		},
	}
	if info.UsernsRemap {
		host.UsernsMode = "host"
	}
	for _, b := range binds {
		host.Mounts = append(host.Mounts, mount.Mount{
			Type:        mount.TypeBind,
			Source:      b.Source,
			Target:      b.Target,
			ReadOnly:    b.ReadOnly,
			BindOptions: &mount.BindOptions{Propagation: mount.PropagationPrivate, NonRecursive: true},
		})
	}
	return host
}

func (e *Engine) create(ctx context.Context, name string, config *container.Config, host *container.HostConfig) (string, error) {
	res, err := e.api.ContainerCreate(ctx, client.ContainerCreateOptions{Name: name, Config: config, HostConfig: host})
	if err != nil {
		return "", fmt.Errorf("create container %s: %w", name, err)
	}
	if res.ID == "" {
		return "", fmt.Errorf("create container %s: %w", name, errors.New("the engine gave no id"))
	}
	return res.ID, nil
}

func orDefault(n, otherwise int64) int64 {
	if n > 0 {
		return n
	}
	return otherwise
}
