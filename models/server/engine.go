package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"time"

	"github.com/sallyport/sallyport/containers"
	"github.com/sallyport/sallyport/machine"
	"github.com/sallyport/sallyport/models"
)

// Labels of a server's container, besides those of package containers. They say
// to another launcher what runs there.
const (
	labelLaunch = "dev.sallyport.launch" // LaunchHash
	labelBy     = "dev.sallyport.by"     // who started it
	labelFolder = "dev.sallyport.folder" // the server's own, on the machine
	labelIdle   = "dev.sallyport.idle"   // it stops by itself after so long
)

// gatewayTarget is where a container has our binary, whose version does not
// count when settings are compared.
const gatewayTarget = "/run/sallyport/gateway"

// engine is what is used of *containers.Engine.
type engine interface {
	ImageExists(ctx context.Context, image string) (bool, error)
	PullImage(ctx context.Context, ref string, report func(containers.ImageProgress)) error
	CreateServer(ctx context.Context, spec containers.ServerSpec) (string, error)
	Start(ctx context.Context, id string) error
	ServerByName(ctx context.Context, name string) (containers.ServerState, error)
	StopContainer(ctx context.Context, id string, grace time.Duration) error
	Remove(ctx context.Context, id string) error
	FollowLogs(ctx context.Context, id string, follow bool, lines int) (io.ReadCloser, error)
}

// shell runs a script on the server's machine, as machine.Machine.Sh.
type shell func(ctx context.Context, script string, stdin io.Reader, args ...string) ([]byte, error)

// EngineRuntime runs a server in a container without a network. The container's
// name is unique, and so is a lock between launchers.
type EngineRuntime struct {
	engine  engine
	sh      shell
	kind    string // docker or podman
	machine string // for people
	name    string
	uid     int
}

// NewEngineRuntime returns the runtime of one server on m, whose engine e is, as
// CheckServer found it. uid is the login's there.
func NewEngineRuntime(e *containers.Engine, info containers.ServerInfo, m *machine.Machine, name string, uid int) *EngineRuntime {
	return &EngineRuntime{engine: e, sh: m.Sh, kind: info.Kind, machine: m.String(), name: name, uid: uid}
}

func (r *EngineRuntime) String() string { return r.kind + " on " + r.machine }

// container is the container's name.
func (r *EngineRuntime) container() string {
	return fmt.Sprintf("sallyport-model-%s-%d", r.name, r.uid)
}

// ImageMissingError says that the engine has not got a server's image.
type ImageMissingError struct {
	Server, Ref, Machine string
}

func (e *ImageMissingError) Error() string {
	return fmt.Sprintf("start model server %s: image %s is not on %s\nhint: `launcher serve %s` fetches it, and starts the server",
		printable(e.Server, maxName), printable(e.Ref, maxText), printable(e.Machine, maxName), printable(e.Server, maxName))
}

// PullImage fetches the server's image to its machine, on the engine's own
// network, from its registry.
func (r *EngineRuntime) PullImage(ctx context.Context, l models.Launch, report func(containers.ImageProgress)) error {
	return r.engine.PullImage(ctx, l.Image, report)
}

// Start makes the container and starts it. One of that name that has ended is
// removed; one that runs is ErrRunning. Without the image it is an
// *ImageMissingError: fetching it is PullImage's.
func (r *EngineRuntime) Start(ctx context.Context, l models.Launch) error {
	spec, err := r.spec(l)
	if err != nil {
		return err
	}
	// What runs is found before anything is said to be missing.
	if err := r.clear(ctx, l); err != nil {
		return err
	}
	have, err := r.engine.ImageExists(ctx, l.Image)
	switch {
	case err != nil:
		return fmt.Errorf("start model server %s: %w", r.name, err)
	case !have:
		return &ImageMissingError{Server: r.name, Ref: l.Image, Machine: r.machine}
	}
	if err := r.prepare(ctx, l); err != nil {
		return err
	}
	// Another launcher may make or remove one at the same moment.
	for range 3 {
		id, err := r.engine.CreateServer(ctx, spec)
		var taken *containers.NameTakenError
		if errors.As(err, &taken) {
			if err := r.clear(ctx, l); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return fmt.Errorf("start model server %s: %w", r.name, err)
		}
		return r.run(ctx, id)
	}
	return fmt.Errorf("start model server %s: other launchers start and remove it at the same time\nhint: try again", r.name)
}

// run starts a container that we made. One that cannot be started is removed.
func (r *EngineRuntime) run(ctx context.Context, id string) error {
	err := r.engine.Start(ctx, id)
	if err == nil {
		return nil
	}
	// It may have been started all the same, as when the connection broke: then
	// it is not removed, and whoever looks finds it running.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	st, stateErr := r.engine.ServerByName(ctx, r.container())
	if stateErr == nil && st.ID == id && phaseOf(st) != PhaseRunning {
		err = errors.Join(err, r.engine.Remove(ctx, id))
	}
	text := fmt.Sprintf("start model server %s on %s: %s", r.name, r.machine, printable(err.Error(), maxText))
	if d := Diagnose(r.name, []string{err.Error()}, RuntimeState{}); d.Text != "" {
		text += fmt.Sprintf(": %s\nhint: %s", d.Text, d.Hint)
	}
	return &wrapped{text, err}
}

// cleanupTime bounds what is undone after a failure.
const cleanupTime = 10 * time.Second

// wrapped is an error with a text of its own.
type wrapped struct {
	text string
	err  error
}

func (e *wrapped) Error() string { return e.text }
func (e *wrapped) Unwrap() error { return e.err }

// clear makes the name free, or says who has it. A container that was made and
// never started is started in its maker's name: the maker may be about to, and
// starting twice is no harm.
func (r *EngineRuntime) clear(ctx context.Context, l models.Launch) error {
	st, err := r.find(ctx)
	switch {
	case errors.Is(err, containers.ErrNoContainer):
		return nil
	case err != nil:
		return err
	}
	if why := refused(st); why != "" {
		return fmt.Errorf("start model server %s on %s: one of that name runs there, and %s\nhint: `launcher stop %s` ends it", r.name, r.machine, why, r.name)
	}
	if st.State == "created" && st.Network == noNetwork && r.engine.Start(ctx, st.ID) == nil || phaseOf(st) == PhaseRunning {
		return &RunningError{Server: r.name, Machine: r.machine, By: st.Labels[labelBy], Since: st.Started,
			Other: st.Labels[labelLaunch] != LaunchHash(l)}
	}
	// By its id: what another launcher made meanwhile is not touched.
	if err := r.engine.Remove(ctx, st.ID); err != nil {
		return fmt.Errorf("start model server %s: %w", r.name, err)
	}
	return nil
}

// find returns the server's container, and nobody else's.
func (r *EngineRuntime) find(ctx context.Context) (containers.ServerState, error) {
	st, err := r.engine.ServerByName(ctx, r.container())
	if err != nil {
		return st, fmt.Errorf("model server %s on %s: %w", r.name, r.machine, err)
	}
	if st.Labels[containers.LabelRole] != containers.RoleServer || st.Labels[containers.LabelOwner] != strconv.Itoa(r.uid) {
		return st, fmt.Errorf("model server %s on %s: container %s belongs to somebody else\nhint: give the model another name in the configuration",
			r.name, r.machine, r.container())
	}
	return st, nil
}

// spec maps a launch to the container.
func (r *EngineRuntime) spec(l models.Launch) (containers.ServerSpec, error) {
	if !l.Container || len(l.Argv) == 0 || len(l.Runner) == 0 || l.Placeholder {
		return containers.ServerSpec{}, fmt.Errorf("start model server %s: this command is not one for a container", r.name)
	}
	s := containers.ServerSpec{
		Name: r.container(), Image: l.Image, Entrypoint: l.Runner, Cmd: l.Argv, Env: l.Env, WorkDir: l.WorkDir,
		UID: l.UID, GID: l.GID, Groups: l.Groups, Devices: l.Devices, GPUs: l.GPUs,
		Network: noNetwork, IPCHost: l.IPCHost, ShmMB: l.ShmMB, SeccompUnconfined: l.SeccompUnconfined,
		Labels: map[string]string{
			containers.LabelRole:  containers.RoleServer,
			containers.LabelOwner: strconv.Itoa(r.uid),
			containers.LabelModel: r.name,
			labelLaunch:           LaunchHash(l),
			labelBy:               flag(l.Runner, "--by"),
			labelIdle:             flag(l.Runner, "--idle-stop"),
			labelFolder:           path.Dir(l.Socket),
		},
	}
	for _, m := range l.Mounts {
		s.Binds = append(s.Binds, containers.Bind{Source: m.Source, Target: m.Target, ReadOnly: m.ReadOnly})
	}
	return s, nil
}

// flag returns the value of one of the runner's flags; empty: it has none.
func flag(runner []string, name string) string {
	if i := slices.Index(runner, name); i >= 0 && i+1 < len(runner) {
		return runner[i+1]
	}
	return ""
}

// LaunchHash stands for the settings that a server runs with. Who starts it and
// our binary's version are no settings.
func LaunchHash(l models.Launch) string {
	l.Runner = []string{flag(l.Runner, "--idle-stop")}
	l.Mounts = slices.DeleteFunc(slices.Clone(l.Mounts), func(m models.Mount) bool { return m.Target == gatewayTarget })
	text, err := json.Marshal(l)
	if err != nil {
		return "" // plain fields: it does not happen, and then differs from all others
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}
