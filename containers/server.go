package containers

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
)

// ServerSpec describes the container of a model server, or of what fetches its
// weights. It has no capability and can gain none, it is never root outside, and
// unless it is said otherwise it has no network and its root file system is
// read-only.
type ServerSpec struct {
	Name       string   // of the container; required
	Image      string   // required
	Entrypoint []string // empty: the image's
	Cmd        []string // empty: the image's
	Env        []string // "NAME=value"
	WorkDir    string   // empty: the image's
	// UID and GID are those of the login on the machine, whose files Binds are;
	// zero or less is refused. See user for what they become inside.
	UID, GID int
	Groups   []int    // numbers of further groups, those of the device files; root's is refused
	Devices  []string // device files, or folders of them, for the GPU: see checkDevice
	GPUs     bool     // every NVIDIA GPU, by the engine's own way for them
	Binds    []Bind   // nothing else of the machine is in the container

	Network  string // "none", or with RolePull "default" for the engine's own network; empty: "none"
	IPCHost  bool   // shares the machine's System V memory and /dev/shm
	ShmMB    int64  // size of its own /dev/shm; zero: the engine's default, 64
	Writable bool   // the root file system can be written; false: only Binds and a /tmp in memory
	TmpMB    int64  // size of that /tmp; zero: 2048

	SeccompUnconfined bool // no system call filter
	StdinOpen         bool // stdin is open; it ends when the attached session's In ends
	MemoryMB          int64
	PidsLimit         int64             // zero of these two: no limit; a rootless engine sets neither
	Labels            map[string]string // LabelRole (RoleServer or RolePull), LabelOwner, LabelModel
}

// NameTakenError says that the engine has a container of that name already.
type NameTakenError struct {
	Name string
	Err  error
}

func (e *NameTakenError) Error() string {
	return fmt.Sprintf("create container %s: the name is taken: %s", e.Name, plain(e.Err.Error()))
}

// Unwrap returns what the engine said.
func (e *NameTakenError) Unwrap() error { return e.Err }

// CreateServer creates a model server's container without starting it and returns
// its id. The name is a lock: it can be used once, and a second use is a
// *NameTakenError. The engine is asked again what it made, and a container that is
// not what was asked for is removed. A Bind's source must exist: Docker refuses it
// otherwise, Podman makes an empty folder.
func (e *Engine) CreateServer(ctx context.Context, spec ServerSpec) (string, error) {
	info, err := e.checkedServer()
	if err != nil {
		return "", err
	}
	if err := spec.check(e.socket); err != nil {
		return "", err
	}
	id, err := e.create(ctx, spec.Name, spec.config(info), spec.hostConfig(info))
	if nameTaken(err) {
		return "", &NameTakenError{Name: spec.Name, Err: err}
	}
	if err != nil {
		return "", err
	}
	if err := e.confirm(ctx, id, spec, info); err != nil {
		return "", errors.Join(err, e.Remove(context.WithoutCancel(ctx), id))
	}
	return id, nil
}

// nameTaken: Podman says it with status 500.
func nameTaken(err error) bool {
	return err != nil && (cerrdefs.IsConflict(err) ||
		strings.Contains(err.Error(), "name is already in use") || strings.Contains(err.Error(), "is already in use by"))
}

// confirm compares what the engine made with what was asked for, in what matters
// most: engines pass over fields that they do not know.
func (e *Engine) confirm(ctx context.Context, id string, spec ServerSpec, info ServerInfo) error {
	res, err := e.api.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
	if err != nil {
		return fmt.Errorf("look at container %s: %w", spec.Name, err)
	}
	got := res.Container
	if got.Config == nil || got.HostConfig == nil {
		return fmt.Errorf("create container %s: the engine does not say what it made", spec.Name)
	}
	switch {
	case spec.network() == "none" && got.HostConfig.NetworkMode != "none":
		return fmt.Errorf("create container %s: the engine gave it network %q, not none", spec.Name, plain(string(got.HostConfig.NetworkMode)))
	case got.HostConfig.Privileged:
		return fmt.Errorf("create container %s: the engine made it privileged", spec.Name)
	case got.Config.User != spec.user(info):
		return fmt.Errorf("create container %s: the engine made it run as %q, not %s", spec.Name, plain(got.Config.User), spec.user(info))
	}
	return nil
}

// user is whom the server runs as, in the container's numbers. It is the login
// in every case: on a rootless engine that user is number 0 inside, and with no
// capability it may do there what the login may do outside, and no more. Docker
// maps no other number to it; Podman would (keep-id), but copies the whole image
// first to change its owners: 94 MB took 4 s more, and these images have 15 GB.
func (s ServerSpec) user(info ServerInfo) string {
	if info.Rootless {
		return "0:0"
	}
	return fmt.Sprintf("%d:%d", s.UID, s.GID)
}

func (s ServerSpec) network() string {
	if s.Network == "" {
		return "none"
	}
	return s.Network
}

func (s ServerSpec) config(info ServerInfo) *container.Config {
	return &container.Config{
		Image:        s.Image,
		User:         s.user(info),
		Entrypoint:   s.Entrypoint,
		Cmd:          s.Cmd,
		Env:          s.Env,
		WorkingDir:   s.WorkDir,
		Labels:       s.Labels,
		OpenStdin:    s.StdinOpen,
		StdinOnce:    s.StdinOpen,
		AttachStdin:  s.StdinOpen,
		AttachStdout: true,
		AttachStderr: true,
		// Readiness is asked of the server; an image's own check would run unasked.
		Healthcheck: &container.HealthConfig{Test: []string{"NONE"}},
	}
}

func (s ServerSpec) hostConfig(info ServerInfo) *container.HostConfig {
	host := confined(Info{UsernsRemap: info.UsernsRemap}, 0, 0, s.Binds)
	host.Resources = s.resources(info)
	host.NetworkMode = container.NetworkMode(s.network())
	host.ReadonlyRootfs = !s.Writable
	if !s.Writable {
		host.Tmpfs = map[string]string{"/tmp": fmt.Sprintf("rw,exec,nosuid,nodev,mode=1777,size=%dm", orDefault(s.TmpMB, 2048))}
	}
	host.ShmSize = s.ShmMB << 20
	if s.IPCHost {
		host.IpcMode, host.ShmSize = "host", 0
	}
	if s.SeccompUnconfined {
		host.SecurityOpt = append(host.SecurityOpt, "seccomp=unconfined")
	}
	if info.SELinux {
		// Relabelling the user's weights would reach further than leaving this off.
		host.SecurityOpt = append(host.SecurityOpt, "label=disable")
	}
	s.setGroups(host, info)
	// The server's words, of which the last are enough. Podman keeps one such file.
	host.LogConfig = container.LogConfig{Type: "json-file", Config: map[string]string{"max-size": "20m"}}
	if info.Kind == KindDocker {
		host.LogConfig.Config["max-file"] = "3"
	}
	return host
}

// setGroups: a rootless engine has no number for the machine's groups. Podman can
// have the server keep those of the login instead; Docker cannot, and the device
// files must be open to the login itself.
func (s ServerSpec) setGroups(host *container.HostConfig, info ServerInfo) {
	switch {
	case len(s.Groups) == 0 || info.Rootless && info.Kind == KindDocker:
	case info.Rootless:
		// What `podman run --group-add keep-groups` sets; the API does not know that
		// word. crun obeys it, other runtimes do not know it.
		host.Annotations = map[string]string{"run.oci.keep_original_groups": "1"}
	default:
		for _, id := range s.Groups {
			host.GroupAdd = append(host.GroupAdd, strconv.Itoa(id))
		}
	}
}

func (s ServerSpec) resources(info ServerInfo) container.Resources {
	var r container.Resources
	if !info.Rootless { // it has only the controllers that were delegated to the login, and fails without
		r.Memory, r.MemorySwap = s.MemoryMB<<20, s.MemoryMB<<20
		if s.PidsLimit > 0 {
			r.PidsLimit = &s.PidsLimit
		}
	}
	for _, path := range s.Devices {
		r.Devices = append(r.Devices, container.DeviceMapping{PathOnHost: path, PathInContainer: path, CgroupPermissions: "rw"})
	}
	if s.GPUs && info.Kind == KindPodman {
		// podman pkg/api/handlers/compat/containers_create.go@01688e7: it takes no
		// request but CDI's.
		r.DeviceRequests = []container.DeviceRequest{{Driver: "cdi", DeviceIDs: []string{"nvidia.com/gpu=all"}}}
	} else if s.GPUs {
		r.DeviceRequests = []container.DeviceRequest{{Count: -1, Capabilities: [][]string{{"gpu"}}}} // as docker run --gpus all
	}
	return r
}
