//go:build lab

package lab_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/containers"
	"github.com/sallyport/sallyport/internal/lab"
)

// gpuHosts are the labs whose GPU host has an engine, which the tests share.
var gpuHosts = map[lab.GPUEngine]*lab.Shared{
	lab.GPUDocker28: {Options: lab.Options{GPUEngine: lab.GPUDocker28, GPUDevices: true}},
	lab.GPUPodman:   {Options: lab.Options{GPUEngine: lab.GPUPodman, GPUDevices: true}},
}

// onGPUEngines runs a test on a GPU host with each kind of engine, as a launcher
// elsewhere would reach it.
func onGPUEngines(t *testing.T, f func(t *testing.T, l *lab.Lab, e *containers.Engine)) {
	for _, kind := range []lab.GPUEngine{lab.GPUDocker28, lab.GPUPodman} {
		t.Run(string(kind), func(t *testing.T) {
			l := gpuHosts[kind].Get(t, lab.Engine28)
			e, err := containers.OpenDial(t.Context(), "gpuhost", l.GPUHost.DialEngine)
			if err != nil {
				t.Fatal(err)
			}
			defer e.Close()
			f(t, l, e)
		})
	}
}

func probe(t *testing.T, e *containers.Engine) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "probe")
	build := exec.Command("go", "build", "-trimpath", "-o", path, "../../containers/testdata/probe")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	image, err := e.EnsureHelper(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	again, err := e.EnsureHelper(t.Context(), path)
	if err != nil || again != image {
		t.Fatalf("EnsureHelper again: %q, %v; want %q", again, err, image)
	}
	return image
}

func server(name, image string, args ...string) containers.ServerSpec {
	return containers.ServerSpec{Name: name, Image: image, Cmd: args, UID: lab.UserID, GID: lab.UserID, Labels: map[string]string{
		containers.LabelRole: containers.RoleServer, containers.LabelOwner: "1000", containers.LabelModel: "m"}}
}

// run runs a server to its end and returns what it wrote.
func run(t *testing.T, e *containers.Engine, spec containers.ServerSpec) (output string, exit int) {
	t.Helper()
	id, err := e.CreateServer(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	exit, _, err = e.Wait(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	log, err := e.FollowLogs(t.Context(), id, false, -1)
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(log)
	if err := errors.Join(err, log.Close(), e.Remove(t.Context(), id)); err != nil {
		t.Fatal(err)
	}
	return string(out), exit
}

func wantLines(t *testing.T, got string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains("\n"+got, "\n"+line+"\n") {
			t.Errorf("no line %q in:\n%s", line, got)
		}
	}
}

func TestGPUHostEngine(t *testing.T) {
	onGPUEngines(t, func(t *testing.T, l *lab.Lab, e *containers.Engine) {
		var refused *containers.UnsupportedError
		if _, err := e.Check(t.Context()); !errors.As(err, &refused) {
			t.Errorf("Check of a remote engine: %v", err)
		}
		if _, err := e.StartHelper(t.Context(), containers.HelperSpec{}); err == nil {
			t.Error("a helper was started on a remote engine")
		}
		if _, err := e.CreateServer(t.Context(), server("early", "i")); err == nil {
			t.Error("a server was created before CheckServer")
		}
		info, err := e.CheckServer(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%+v", info)
		podman := strings.HasSuffix(t.Name(), "podman")
		if info.Rootless != podman || (info.Kind == containers.KindPodman) != podman || info.MemTotal == 0 || info.CgroupV == 0 {
			t.Errorf("CheckServer = %+v", info)
		}
		image := probe(t, e)
		folder := ownFolder(t, l, "folder")
		weights := ownFolder(t, l, "weights")
		spec := server("sallyport-model-confined-1000", image, "caps", "raise", "links", "env",
			"write", "/x", "write", "/tmp/x", "execcopy", "/tmp/copy", "write", "/model/made", "write", "/weights/made", "read", "/weights/w",
			"write", "/dev/kfd", "write", "/dev/dri/renderD128", "exit", "5")
		spec.Devices, spec.Groups = []string{"/dev/kfd", "/dev/dri"}, []int{lab.RenderGroupID}
		spec.Env = []string{"HOME=/model/home"}
		if !info.Rootless { // the lab's machine may keep that controller in version 1
			spec.PidsLimit = 100
		}
		spec.Binds = []containers.Bind{{Source: folder, Target: "/model"}, {Source: weights, Target: "/weights", ReadOnly: true}}
		if err := os.WriteFile(l.GPUHost.Outside(weights+"/w"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		out, exit := run(t, e, spec)
		if exit != 5 {
			t.Errorf("exit %d", exit)
		}
		ids := []string{"Uid: 1000 1000 1000 1000", "Gid: 1000 1000 1000 1000"}
		if podman { // the login's own number, in its own user namespace
			ids = []string{"Uid: 0 0 0 0", "Gid: 0 0 0 0"}
		}
		wantLines(t, out, ids...)
		wantLines(t, out, "NoNewPrivs: 1", "Seccomp: 2",
			"CapInh: 0000000000000000", "CapPrm: 0000000000000000", "CapEff: 0000000000000000", "CapBnd: 0000000000000000", "CapAmb: 0000000000000000",
			"raise : operation not permitted", "HOME=/model/home", "link lo", "routes 0",
			"write /x: read-only file system", "write /tmp/x: ok", "execcopy /tmp/copy: ok", "write /model/made: ok", "write /weights/made: read-only file system", "read /weights/w: ok",
			"write /dev/kfd: ok", "write /dev/dri/renderD128: ok")
		for line := range strings.Lines(out) {
			if name, ok := strings.CutPrefix(line, "link "); ok && name != "lo\n" && !isTunnelDefault(strings.TrimSpace(name)) {
				t.Errorf("the server has an interface %s", name)
			}
		}
		spec.Cmd, spec.Groups = []string{"write", "/dev/kfd"}, nil
		out, _ = run(t, e, spec)
		wantLines(t, out, "write /dev/kfd: permission denied")
		owner, err := l.GPUHost.Command(t.Context(), "stat", "-c", "%u:%g", folder+"/made").Output()
		if err != nil || string(owner) != "1000:1000\n" {
			t.Errorf("what the server made belongs to %s, %v", owner, err)
		}
	})
}

// ownFolder makes a folder of the user's on the GPU host and returns its path there.
func ownFolder(t *testing.T, l *lab.Lab, name string) string {
	t.Helper()
	path := "/home/" + lab.UserName + "/" + name
	if _, err := l.GPUHost.Command(t.Context(), "mkdir", "-p", path).Output(); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestGPUHostServerLife(t *testing.T) {
	onGPUEngines(t, func(t *testing.T, l *lab.Lab, e *containers.Engine) {
		if _, err := e.CheckServer(t.Context()); err != nil {
			t.Fatal(err)
		}
		const name = "sallyport-model-m-1000"
		spec := server(name, probe(t, e), "wait", "exit", "3")
		if _, err := e.ServerByName(t.Context(), name); !errors.Is(err, containers.ErrNoContainer) {
			t.Fatalf("ServerByName before: %v", err)
		}
		id, err := e.CreateServer(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		var taken *containers.NameTakenError
		if _, err := e.CreateServer(t.Context(), spec); !errors.As(err, &taken) {
			t.Errorf("a second server of the name: %v", err)
		}
		s, err := e.ServerByName(t.Context(), name)
		if err != nil || s.ID != id || s.State != "created" || s.Network != "none" || !s.Started.IsZero() || !s.Finished.IsZero() || s.Labels[containers.LabelModel] != "m" {
			t.Errorf("created: %+v, %v", s, err)
		}
		if err := e.Start(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		log, err := e.FollowLogs(t.Context(), id, true, -1)
		if err != nil {
			t.Fatal(err)
		}
		first := make([]byte, len("waiting\n"))
		if _, err := io.ReadFull(log, first); err != nil || string(first) != "waiting\n" {
			t.Fatalf("log: %q, %v", first, err)
		}
		s, err = e.ServerByName(t.Context(), name)
		if err != nil || s.State != "running" || s.Started.IsZero() || !s.Finished.IsZero() {
			t.Errorf("running: %+v, %v", s, err)
		}
		if err := e.StopContainer(t.Context(), id, time.Minute); err != nil {
			t.Fatal(err)
		}
		rest, err := io.ReadAll(log)
		if string(rest) != "wait : ok\n" || errors.Join(err, log.Close()) != nil {
			t.Errorf("end of the log: %q, %v", rest, err)
		}
		s, err = e.ServerByName(t.Context(), name)
		if err != nil || s.State != "exited" || s.ExitCode != 3 || s.OOMKilled || s.Finished.Before(s.Started) {
			t.Errorf("ended: %+v, %v", s, err)
		}
		tail, err := e.Logs(t.Context(), id, 1)
		if err != nil || string(tail) != "wait : ok\n" {
			t.Errorf("last line: %q, %v", tail, err)
		}
		if err := errors.Join(e.StopContainer(t.Context(), id, 0), e.Kill(t.Context(), id, ""), e.Remove(t.Context(), id), e.Remove(t.Context(), id),
			e.Kill(t.Context(), id, ""), e.StopContainer(t.Context(), id, 0)); err != nil {
			t.Errorf("ending what has ended: %v", err)
		}
		if _, err := e.ServerByName(t.Context(), name); !errors.Is(err, containers.ErrNoContainer) {
			t.Errorf("ServerByName after: %v", err)
		}
	})
}

// What fetches weights is fed by its standard input.
func TestGPUHostPullSession(t *testing.T) {
	onGPUEngines(t, func(t *testing.T, l *lab.Lab, e *containers.Engine) {
		if _, err := e.CheckServer(t.Context()); err != nil {
			t.Fatal(err)
		}
		spec := server("sallyport-pull-m-1000", probe(t, e), "echo", "exit", "7")
		spec.StdinOpen, spec.Labels[containers.LabelRole] = true, containers.RolePull
		id, err := e.CreateServer(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		var out, errOut bytes.Buffer
		input := strings.Repeat("0123456789abcdef", 64<<10)
		s, err := e.Attach(t.Context(), id, containers.AttachOptions{In: strings.NewReader(input), Out: &out, Err: &errOut})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(s.Start(t.Context()), s.Wait()); err != nil {
			t.Fatal(err)
		}
		if exit, oom, err := e.Wait(t.Context(), id); exit != 7 || oom || err != nil {
			t.Errorf("Wait = %d, %v, %v; want 7", exit, oom, err)
		}
		if out.String() != input+"echo : ok\n" || errOut.String() != "to stderr\n" {
			t.Errorf("stdout has %d bytes, want %d; stderr %q", out.Len(), len(input)+10, &errOut)
		}
	})
}

func TestGPUHostEngineRestarts(t *testing.T) {
	onGPUEngines(t, func(t *testing.T, l *lab.Lab, e *containers.Engine) {
		for _, end := range []func() error{l.GPUHost.StopEngine, l.GPUHost.KillEngine} {
			if err := end(); err != nil {
				t.Fatal(err)
			}
			if e.Ping(t.Context()) == nil {
				t.Error("the engine answers after its end")
			}
			if err := l.GPUHost.StartEngine(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := e.Ping(t.Context()); err != nil {
				t.Errorf("after a restart: %v", err)
			}
		}
	})
}

// llama.cpp's server in a container without a network, on a socket.
func TestGPUHostLlamaImage(t *testing.T) {
	onGPUEngines(t, func(t *testing.T, l *lab.Lab, e *containers.Engine) {
		info, err := e.CheckServer(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(l.GPUHost.LoadLlamaImage(t.Context()), l.GPUHost.LoadLlamaImage(t.Context()), l.GPUHost.LoadBaseImage(t.Context())); err != nil {
			t.Fatal(err)
		}
		if size, err := e.ImageSize(t.Context(), lab.LlamaImage); err != nil || size < 1<<20 {
			t.Errorf("ImageSize = %d, %v", size, err)
		}
		if have, err := e.ImageExists(t.Context(), containers.BaseImage); !have || err != nil {
			t.Errorf("base image: %v, %v", have, err)
		}
		out, exit := run(t, e, server("sallyport-model-version-1000", lab.LlamaImage, "--version"))
		if exit != 0 || !strings.Contains(out, "version") {
			t.Errorf("llama-server --version: %d: %s", exit, out)
		}
		// No registry can be reached: the refusal has to say so.
		var failed *containers.PullError
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := e.PullImage(ctx, "registry.example/llama:1", nil); !errors.As(err, &failed) || !strings.Contains(err.Error(), info.Kind+" load`") {
			t.Errorf("PullImage without a registry: %v", err)
		} else {
			t.Log(err)
		}
	})
}
