package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/containers"
	"github.com/sallyport/sallyport/machine"
	"github.com/sallyport/sallyport/models"
)

// fakeEngine is an engine with at most one container of each name.
type fakeEngine struct {
	calls      []string // what changed something
	images     []string
	there      map[string]containers.ServerState // by name
	spec       containers.ServerSpec
	createErr  error
	startErr   error
	beforeMake func() // runs before CreateServer: what another launcher does meanwhile
}

func (e *fakeEngine) ImageExists(_ context.Context, image string) (bool, error) {
	return slices.Contains(e.images, image), nil
}

func (e *fakeEngine) PullImage(_ context.Context, ref string, report func(containers.ImageProgress)) error {
	report(containers.ImageProgress{Status: "Downloading"})
	e.images = append(e.images, ref)
	return nil
}

func (e *fakeEngine) CreateServer(_ context.Context, spec containers.ServerSpec) (string, error) {
	if f := e.beforeMake; f != nil {
		e.beforeMake = nil
		f()
	}
	if _, ok := e.there[spec.Name]; ok {
		return "", &containers.NameTakenError{Name: spec.Name, Err: errors.New("taken")}
	}
	if e.createErr != nil {
		return "", e.createErr
	}
	e.spec = spec
	id := fmt.Sprintf("id%d", len(e.calls))
	e.calls = append(e.calls, "create "+id)
	e.there[spec.Name] = containers.ServerState{ID: id, State: "created", Network: spec.Network, Labels: spec.Labels}
	return id, nil
}

func (e *fakeEngine) change(id, call string, change func(*containers.ServerState)) {
	for name, st := range e.there {
		if st.ID == id {
			e.calls = append(e.calls, call+" "+id)
			change(&st)
			e.there[name] = st
		}
	}
}

func (e *fakeEngine) Start(_ context.Context, id string) error {
	if e.startErr != nil {
		return e.startErr
	}
	e.change(id, "start", func(st *containers.ServerState) { st.State = "running" })
	return nil
}

func (e *fakeEngine) ServerByName(_ context.Context, name string) (containers.ServerState, error) {
	st, ok := e.there[name]
	if !ok {
		return st, containers.ErrNoContainer
	}
	return st, nil
}

func (e *fakeEngine) StopContainer(_ context.Context, id string, grace time.Duration) error {
	e.change(id, "stop", func(st *containers.ServerState) { st.State = "exited" })
	return nil
}

func (e *fakeEngine) Remove(_ context.Context, id string) error {
	for name, st := range e.there {
		if st.ID == id {
			e.calls = append(e.calls, "remove "+id)
			delete(e.there, name)
		}
	}
	return nil
}

func (e *fakeEngine) FollowLogs(_ context.Context, id string, _ bool, _ int) (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader("log of " + id)), nil
}

// launch is one for the tests' container.
func launch() models.Launch {
	return models.Launch{
		Name: "gpt-oss", Container: true, Image: "docker.io/kyuz0/vllm-therock-gfx1151:stable",
		Runner: []string{"/run/sallyport/gateway", "model-run", "--folder", "/run/sallyport/model", "--idle-stop", "30m", "--by", "me@laptop", "--"},
		Argv:   []string{"vllm", "serve", "openai/gpt-oss-120b"},
		Env:    []string{"HF_HUB_OFFLINE=1"},
		Mounts: []models.Mount{
			{Source: "/home/me/.cache/sallyport/models/gpt-oss", Target: "/run/sallyport/model"},
			{Source: "/home/me/.cache/huggingface", Target: "/weights", ReadOnly: true},
			{Source: "/home/me/.cache/sallyport/bin/gateway-1", Target: "/run/sallyport/gateway", ReadOnly: true},
		},
		Devices: []string{"/dev/kfd", "/dev/dri"}, Groups: []int{44, 105}, UID: 1000, GID: 1001, WorkDir: "/run/sallyport/model",
		Socket: "/home/me/.cache/sallyport/models/gpt-oss/model.sock", SeccompUnconfined: true, IPCHost: true, ShmMB: 64,
	}
}

// newEngineRuntime is on a machine whose shell says out.
func newEngineRuntime(out string) (*EngineRuntime, *fakeEngine, *[]string) {
	e := &fakeEngine{images: []string{launch().Image}, there: map[string]containers.ServerState{}}
	var ran []string
	sh := func(_ context.Context, script string, _ io.Reader, args ...string) ([]byte, error) {
		ran = append(ran, args...)
		return []byte(out), nil
	}
	return &EngineRuntime{engine: e, sh: sh, kind: "docker", machine: "strix", name: "gpt-oss", uid: 1000}, e, &ran
}

func TestEngineStartsExactlyTheLaunch(t *testing.T) {
	r, e, ran := newEngineRuntime("")
	l := launch()
	if err := r.Start(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	want := containers.ServerSpec{
		Name: "sallyport-model-gpt-oss-1000", Image: l.Image, Entrypoint: l.Runner, Cmd: l.Argv, Env: l.Env, WorkDir: l.WorkDir,
		UID: 1000, GID: 1001, Groups: l.Groups, Devices: l.Devices, Network: "none", IPCHost: true, ShmMB: 64, SeccompUnconfined: true,
		Binds: []containers.Bind{
			{Source: "/home/me/.cache/sallyport/models/gpt-oss", Target: "/run/sallyport/model"},
			{Source: "/home/me/.cache/huggingface", Target: "/weights", ReadOnly: true},
			{Source: "/home/me/.cache/sallyport/bin/gateway-1", Target: "/run/sallyport/gateway", ReadOnly: true},
		},
		Labels: map[string]string{
			"dev.sallyport.role": "server", "dev.sallyport.owner": "1000", "dev.sallyport.model": "gpt-oss", "dev.sallyport.launch": LaunchHash(l),
			"dev.sallyport.by": "me@laptop", "dev.sallyport.idle": "30m", "dev.sallyport.folder": "/home/me/.cache/sallyport/models/gpt-oss",
		},
	}
	if diff := cmp.Diff(want, e.spec); diff != "" {
		t.Error(diff)
	}
	if !slices.Equal(e.calls, []string{"create id0", "start id0"}) {
		t.Errorf("calls %v", e.calls)
	}
	if len(*ran) != 4 || (*ran)[0] != "/home/me/.cache/sallyport/models/gpt-oss" {
		t.Errorf("prepared %v", *ran)
	}
}

// Whatever a launch says, the server gets no network.
func TestEngineGivesNoNetwork(t *testing.T) {
	r, _, _ := newEngineRuntime("")
	for _, gpus := range []bool{false, true} {
		l := launch()
		l.GPUs = gpus
		spec, err := r.spec(l)
		if err != nil || spec.Network != "none" {
			t.Errorf("network %q, %v", spec.Network, err)
		}
	}
}

func TestEngineRefusesALaunchThatIsNoneForIt(t *testing.T) {
	for name, change := range map[string]func(*models.Launch){
		"a process":        func(l *models.Launch) { l.Container = false },
		"no command":       func(l *models.Launch) { l.Argv = nil },
		"no runner":        func(l *models.Launch) { l.Runner = nil },
		"unknown snapshot": func(l *models.Launch) { l.Placeholder = true },
		"nothing":          func(l *models.Launch) { *l = models.Launch{} },
	} {
		r, e, _ := newEngineRuntime("")
		l := launch()
		change(&l)
		if err := r.Start(t.Context(), l); err == nil || len(e.calls) != 0 {
			t.Errorf("%s: %v, %v", name, err, e.calls)
		}
	}
}

func TestEngineNeedsTheImageAndTheWeights(t *testing.T) {
	r, e, _ := newEngineRuntime("")
	e.images = nil
	err := r.Start(t.Context(), launch())
	var missing *ImageMissingError
	if !errors.As(err, &missing) || missing.Ref != launch().Image || !strings.Contains(err.Error(), "hint: `launcher serve gpt-oss` fetches it") || len(e.calls) != 0 {
		t.Errorf("got %v, %v", err, e.calls)
	}
	told := 0
	if err := errors.Join(r.PullImage(t.Context(), launch(), func(containers.ImageProgress) { told++ }), r.Start(t.Context(), launch())); err != nil || told != 1 {
		t.Errorf("after the pull: %v, told %d times", err, told)
	}
	r, e, _ = newEngineRuntime("/home/me/.cache/\x1b[2Jhuggingface\n")
	if err := r.Start(t.Context(), launch()); err == nil || !strings.Contains(err.Error(), `/home/me/.cache/\x1b[2Jhuggingface is not on strix`) || len(e.calls) != 0 {
		t.Errorf("got %v, %v", err, e.calls)
	}
}

// existing is a container of the server's name.
func existing(state string, change func(*containers.ServerState)) containers.ServerState {
	st := containers.ServerState{ID: "old", State: state, Network: "none", Started: time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC), Labels: map[string]string{
		containers.LabelRole: containers.RoleServer, containers.LabelOwner: "1000", labelBy: "you@other\x1b[2J", labelLaunch: LaunchHash(launch()),
		labelFolder: "/home/me/.cache/sallyport/models/gpt-oss", labelIdle: "30m"}}
	if change != nil {
		change(&st)
	}
	return st
}

func TestEngineStartBesideAnExistingOne(t *testing.T) {
	for _, c := range []struct {
		name    string
		there   containers.ServerState
		calls   string
		running bool
		err     string
	}{
		{"it runs", existing("running", nil), "", true, `model server gpt-oss runs already on strix, started by you@other\x1b[2J at 20`},
		{"it is paused", existing("paused", nil), "", true, "runs already"},
		{"a state that nobody knows", existing("", nil), "", true, "runs already"},
		{"it runs with other settings", existing("running", func(st *containers.ServerState) { st.Labels[labelLaunch] = "x" }), "", true, "with other settings\nhint: `launcher stop gpt-oss` first"},
		{"it has ended", existing("exited", nil), "remove old,create id1,start id1", false, ""},
		{"it is dead", existing("dead", nil), "remove old,create id1,start id1", false, ""},
		{"another launcher is about to start it", existing("created", nil), "start old", true, "runs already"},
		{"it is somebody else's", existing("exited", func(st *containers.ServerState) { st.Labels[containers.LabelOwner] = "1001" }), "", false, "belongs to somebody else"},
		{"it is a pull", existing("exited", func(st *containers.ServerState) { st.Labels[containers.LabelRole] = containers.RolePull }), "", false, "belongs to somebody else"},
	} {
		r, e, _ := newEngineRuntime("")
		e.there[r.container()] = c.there
		err := r.Start(t.Context(), launch())
		if errors.Is(err, ErrRunning) != c.running || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.err)
		}
		if got := strings.Join(e.calls, ","); got != c.calls {
			t.Errorf("%s: calls %s, want %s", c.name, got, c.calls)
		}
	}
}

// Two launchers at the same moment: the name is the lock, and nobody removes what
// the other has made.
func TestEngineStartsAtTheSameMoment(t *testing.T) {
	r, e, _ := newEngineRuntime("")
	e.there[r.container()] = existing("exited", nil)
	e.beforeMake = func() {
		e.there[r.container()] = existing("running", func(st *containers.ServerState) { st.ID = "theirs" })
	}
	if err := r.Start(t.Context(), launch()); !errors.Is(err, ErrRunning) {
		t.Errorf("got %v", err)
	}
	if got := strings.Join(e.calls, ","); got != "remove old" {
		t.Errorf("calls %s", got)
	}
}

// A container that cannot be started is not left behind, and the engine's words
// are understood.
func TestEngineStartFails(t *testing.T) {
	r, e, _ := newEngineRuntime("")
	e.startErr = errors.New("error gathering device information while adding custom device \"/dev/kfd\": no such file or directory \x1b[2J")
	err := r.Start(t.Context(), launch())
	if err == nil || !errors.Is(err, e.startErr) || !strings.Contains(err.Error(), "there is no AMD GPU (/dev/kfd)\nhint: ") || strings.Contains(err.Error(), "\x1b") {
		t.Errorf("got %v", err)
	}
	if len(e.there) != 0 {
		t.Errorf("left behind: %v", e.there)
	}
}

func TestEngineState(t *testing.T) {
	began := existing("", nil).Started
	for _, c := range []struct {
		name  string
		there *containers.ServerState
		said  string
		want  RuntimeState
	}{
		{"none", nil, "", RuntimeState{Phase: PhaseAbsent}},
		{"created", ptr(existing("created", func(st *containers.ServerState) { st.Started = time.Time{} })), "", RuntimeState{Phase: PhaseAbsent, By: `you@other\x1b[2J`, Launch: LaunchHash(launch()), IdleStop: 30 * time.Minute}},
		{"running", ptr(existing("running", nil)), `{"why":"idle","started":"2027-01-01T00:00:00Z"}`, RuntimeState{Phase: PhaseRunning, Started: began, By: `you@other\x1b[2J`, Launch: LaunchHash(launch()), IdleStop: 30 * time.Minute}},
		{"idle", ptr(existing("exited", nil)), `{"why":"idle","started":"2026-11-20T08:00:00.2Z","what":"else"}`, RuntimeState{Phase: PhaseExited, Why: WhyIdle, Started: began, By: `you@other\x1b[2J`, Launch: LaunchHash(launch()), IdleStop: 30 * time.Minute}},
		{"an earlier life's word", ptr(existing("exited", func(st *containers.ServerState) { st.ExitCode = 1 })), `{"why":"idle","started":"2026-11-20T07:00:00Z"}`, RuntimeState{Phase: PhaseExited, ExitCode: 1, Started: began, By: `you@other\x1b[2J`, Launch: LaunchHash(launch()), IdleStop: 30 * time.Minute}},
		{"no word", ptr(existing("exited", func(st *containers.ServerState) { st.ExitCode, st.OOMKilled = 137, true })), `{"why":`, RuntimeState{Phase: PhaseExited, ExitCode: 137, OOMKilled: true, Started: began, By: `you@other\x1b[2J`, Launch: LaunchHash(launch()), IdleStop: 30 * time.Minute}},
		{"killed inside", ptr(existing("exited", func(st *containers.ServerState) { st.ExitCode = 137 })), `{"why":"ended","oom":true,"started":"2026-11-20T08:00:00Z"}`, RuntimeState{Phase: PhaseExited, ExitCode: 137, OOMKilled: true, Why: "ended", Started: began, By: `you@other\x1b[2J`, Launch: LaunchHash(launch()), IdleStop: 30 * time.Minute}},
	} {
		r, e, _ := newEngineRuntime(c.said)
		if c.there != nil {
			e.there[r.container()] = *c.there
		}
		if got, err := r.State(t.Context()); err != nil || cmp.Diff(c.want, got) != "" {
			t.Errorf("%s: %v\n%s", c.name, err, cmp.Diff(c.want, got))
		}
	}
	r, e, _ := newEngineRuntime("")
	e.there[r.container()] = existing("running", func(st *containers.ServerState) { st.Labels = nil })
	if _, err := r.State(t.Context()); err == nil {
		t.Error("somebody else's container has a state")
	}
}

func ptr[T any](v T) *T { return &v }

func TestEngineStopAndLogs(t *testing.T) {
	r, e, _ := newEngineRuntime("")
	if err := r.Stop(t.Context(), time.Second); err != nil {
		t.Errorf("none to stop: %v", err)
	}
	if _, err := r.Logs(t.Context(), false, 10); !errors.Is(err, containers.ErrNoContainer) {
		t.Errorf("none to read: %v", err)
	}
	e.there[r.container()] = existing("running", nil)
	log, err := r.Logs(t.Context(), true, 10)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(log); err != nil || string(text) != "log of old" {
		t.Errorf("log %q, %v", text, err)
	}
	if err := errors.Join(log.Close(), r.Stop(t.Context(), time.Second)); err != nil || strings.Join(e.calls, ",") != "stop old" {
		t.Errorf("%v, calls %v", err, e.calls)
	}
	e.there[r.container()] = existing("running", func(st *containers.ServerState) { st.Labels[containers.LabelOwner] = "0" })
	if err := r.Stop(t.Context(), time.Second); err == nil || len(e.calls) != 1 {
		t.Errorf("somebody else's is stopped: %v, calls %v", err, e.calls)
	}
}

// What the server does is a setting; who starts it and our version are none.
func TestLaunchHash(t *testing.T) {
	base := LaunchHash(launch())
	same := launch()
	same.Runner[7], same.Runner[0] = "you@other", "/run/sallyport/gateway"
	same.Mounts[2].Source = "/home/me/.cache/sallyport/bin/gateway-2"
	if LaunchHash(same) != base {
		t.Error("who starts it, or our version, counts")
	}
	for name, change := range map[string]func(*models.Launch){
		"argument":  func(l *models.Launch) { l.Argv = append(l.Argv, "--max-num-seqs", "2") },
		"image":     func(l *models.Launch) { l.Image += "2" },
		"env":       func(l *models.Launch) { l.Env = nil },
		"mount":     func(l *models.Launch) { l.Mounts[1].Source = "/srv/weights" },
		"idle stop": func(l *models.Launch) { l.Runner[5] = "1h" },
		"device":    func(l *models.Launch) { l.Devices = nil },
		"seccomp":   func(l *models.Launch) { l.SeccompUnconfined = false },
	} {
		l := launch()
		change(&l)
		if LaunchHash(l) == base {
			t.Errorf("another %s has the same hash", name)
		}
	}
	if !reflect.DeepEqual(launch(), func() models.Launch { l := launch(); LaunchHash(l); return l }()) {
		t.Error("LaunchHash changes what it is given")
	}
}

// The scripts, as sh runs them: the folder is private, what is missing is named,
// whatever its name.
func TestEngineScripts(t *testing.T) {
	home := t.TempDir()
	m := machine.Local(machine.LocalOptions{Home: home, UID: os.Getuid(), GID: os.Getgid(), Environ: []string{"PATH=" + os.Getenv("PATH")}})
	r := &EngineRuntime{engine: &fakeEngine{}, sh: m.Sh, kind: "docker", machine: "strix", name: "gpt-oss", uid: 1000}
	l := launch()
	folder := filepath.Join(home, "-a folder", "$(touch x)", "gpt-oss")
	l.Socket = filepath.Join(folder, "model.sock")
	l.Mounts = []models.Mount{{Source: folder}, {Source: home}}
	if err := r.prepare(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{folder, folder + "/home"} {
		if info, err := os.Stat(dir); err != nil || info.Mode() != fs.ModeDir|0o700 {
			t.Errorf("%s: %v, %v", dir, info.Mode(), err)
		}
	}
	if err := errors.Join(os.Chmod(folder, 0o755), r.prepare(t.Context(), l)); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(folder); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("a folder that was open stays so: %v, %v", info.Mode(), err)
	}
	l.Mounts = append(l.Mounts, models.Mount{Source: home + "/no weights"})
	if err := r.prepare(t.Context(), l); err == nil || !strings.Contains(err.Error(), home+"/no weights is not on strix") {
		t.Errorf("got %v", err)
	}
	st := existing("exited", func(st *containers.ServerState) { st.Labels[labelFolder] = folder })
	if got := r.word(t.Context(), st); got != (said{}) {
		t.Errorf("without a state: %+v", got)
	}
	if err := os.WriteFile(folder+"/state.json", []byte(`{"version":1,"why":"idle","started":"2026-11-20T08:00:01Z"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := r.word(t.Context(), st); got.Why != WhyIdle {
		t.Errorf("got %+v", got)
	}
	// The server writes that folder too.
	if err := errors.Join(os.Rename(folder+"/state.json", home+"/other"), os.Symlink(home+"/other", folder+"/state.json")); err != nil {
		t.Fatal(err)
	}
	if got := r.word(t.Context(), st); got != (said{}) {
		t.Errorf("through a link: %+v", got)
	}
	if err := errors.Join(os.Remove(folder+"/state.json"), unix.Mkfifo(folder+"/state.json", 0o600)); err != nil {
		t.Fatal(err)
	}
	written := make(chan error, 1)
	go func() { // until somebody reads
		written <- os.WriteFile(folder+"/state.json", []byte(`{"version":1,"why":"idle","started":"2026-11-20T08:00:01Z"}`), 0o600)
	}()
	if got := r.word(t.Context(), st); got != (said{}) {
		t.Errorf("through a pipe: %+v", got)
	}
	pipe, err := os.OpenFile(folder+"/state.json", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(<-written, pipe.Close()); err != nil {
		t.Error(err)
	}
}
