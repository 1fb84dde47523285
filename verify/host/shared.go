package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/sallyport/sallyport/verify"
	"github.com/sallyport/sallyport/verify/probe"
	"golang.org/x/sys/unix"
)

// sharedProbes look for what the host and a container might have in common.
func sharedProbes() []probe.Probe {
	return []probe.Probe{
		{Name: "engine-socket", Group: probe.Host, Why: "the engine's socket is root on the host", Source: "dockerd(8)", Try: tryEngineSockets, Own: ownEngineSocket},
		{Name: "gateway-sockets", Group: probe.Host, Why: "the gateway's control socket lets a sandbox register another, or end the gateway", Source: "unix(7)", Try: tryOurSockets, Own: ownOurSocket},
		{Name: "host-buses", Group: probe.Host, Why: "the host's bus, display and keys, for whoever opens their socket", Source: "unix(7), CVE-2017-5226", Try: tryBuses, Own: ownBus},
		{Name: "host-process", Group: probe.Host, Why: "who shares the host's pid namespace sees and ends its processes", Source: "pid_namespaces(7)", Try: seeProcess, Own: ownProcess},
		{Name: "host-shared-memory", Group: probe.Host, Why: "shared memory of the host's programs", Source: "ipc_namespaces(7)", Try: seeSegment, Own: ownSegment},
		{Name: "host-dev-shm", Group: probe.Host, Why: "shared memory of the host's programs, by name", Source: "shm_overview(7)", Try: seeFile(shmFile), Own: ownFile(shmFile)},
		{Name: "host-tmp", Group: probe.Host, Why: "sockets, keys and half-written files of the host's programs", Source: "CWE-377", Try: seeFile(tmpFile), Own: ownFile(tmpFile)},
		{Name: "secrets-in-environment", Group: probe.Host, Why: "tokens that a container was not to have: whoever has one is somebody else", Source: "CWE-526", Try: seeVariables, Own: ownVariable},
	}
}

// firstSocket connects to each path, and counts every answer but that there is
// nothing.
func firstSocket(paths []string) probe.Finding {
	refused := error(unix.ENOENT)
	for _, path := range paths {
		if _, err := os.Lstat(path); err != nil {
			refused = err
			continue
		}
		conn, err := net.Dial("unix", path)
		if err != nil {
			return probe.Reached("%s is there (%v)", path, err)
		}
		_ = conn.Close()
		return probe.Reached("%s was connected to", path)
	}
	return probe.Stopped(refused, fmt.Sprintf("%d paths", len(paths)))
}

var engineSockets = []string{"/var/run/docker.sock", "/run/docker.sock", "/run/containerd/containerd.sock", "/run/podman/podman.sock",
	"/run/crio/crio.sock", "/run/buildkit/buildkitd.sock", "/run/docker/containerd/containerd.sock", "/run/docker/metrics.sock"}

func tryEngineSockets(context.Context, probe.Target) probe.Finding {
	return firstSocket(append(ofUser("docker.sock", "podman/podman.sock"), engineSockets...))
}

// ofUser returns paths in the runtime folder of whoever this is.
func ofUser(names ...string) []string {
	var list []string
	for _, name := range names {
		list = append(list, fmt.Sprintf("/run/user/%d/%s", os.Getuid(), name))
	}
	return list
}

func tryOurSockets(_ context.Context, t probe.Target) probe.Finding {
	if len(t.Host.Sockets) == 0 {
		return probe.Missing("socket of the gateway that is known")
	}
	return firstSocket(t.Host.Sockets)
}

func tryBuses(context.Context, probe.Target) probe.Finding {
	paths := append(ofUser("bus", "systemd/private", "wayland-0", "keyring/ssh", "gnupg/S.gpg-agent", "pipewire-0", "pulse/native"),
		"/run/dbus/system_bus_socket", "/run/systemd/private", "/run/systemd/journal/socket", "/dev/log", "/run/snapd.socket", "/tmp/.X11-unix/X0", "/tmp/.X11-unix/X1")
	return firstSocket(paths)
}

func ownEngineSocket(ctx context.Context, _ *probe.Target) error {
	return ownSocket(ctx, engineSockets[1])
}
func ownBus(ctx context.Context, _ *probe.Target) error {
	return ownSocket(ctx, "/run/dbus/system_bus_socket")
}

func ownOurSocket(ctx context.Context, t *probe.Target) error {
	path := filepath.Join(os.TempDir(), "sallyport-probe-"+t.Run, "control.sock")
	t.Host.Sockets = []string{path}
	return ownSocket(ctx, path)
}

// ownSocket listens at a path of the container's own.
func ownSocket(ctx context.Context, path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("make a folder for a socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return fmt.Errorf("listen at %s: %w", path, err)
	}
	context.AfterFunc(ctx, func() { _ = l.Close() })
	return nil
}

// seeProcess looks for verify's own process on the host, by its number there.
func seeProcess(_ context.Context, t probe.Target) probe.Finding {
	if t.Host.PID <= 0 {
		return probe.Missing("process of the host that is known")
	}
	started, err := verify.Started(t.Host.PID)
	switch {
	case err != nil:
		return probe.Stopped(err, "look for process "+strconv.Itoa(t.Host.PID)+" of the host")
	case started != t.Host.Started:
		return probe.Stopped(unix.ESRCH, "process "+strconv.Itoa(t.Host.PID)+" is one of this container's own")
	}
	return probe.Reached("process %d of the host is to be seen", t.Host.PID)
}

func ownProcess(_ context.Context, t *probe.Target) error {
	started, err := verify.Started(os.Getpid())
	t.Host.PID, t.Host.Started = os.Getpid(), started
	return err
}

// The things that the traps leave about on the host, by run.
func shmFile(run string) string { return "/dev/shm/sallyport-verify-" + run }
func tmpFile(run string) string { return "/tmp/sallyport-verify-" + run }

// segmentKey is the key of System V shared memory; zero would be no key.
func segmentKey(run string) (int, error) {
	n, err := strconv.ParseUint(run, 16, 32)
	return int(n>>1) | 1, err
}

func seeFile(name func(run string) string) func(context.Context, probe.Target) probe.Finding {
	return func(_ context.Context, t probe.Target) probe.Finding {
		if _, err := os.Lstat(name(t.Run)); err != nil {
			return probe.Stopped(err, "look for a file of the host's")
		}
		return probe.Reached("%s of the host is here", name(t.Run))
	}
}

func seeSegment(_ context.Context, t probe.Target) probe.Finding {
	key, err := segmentKey(t.Run)
	if err != nil {
		return probe.Unproven("run %q: %v", t.Run, err)
	}
	if _, err := unix.SysvShmGet(key, 0, 0); err != nil {
		return probe.Stopped(os.NewSyscallError("shmget", err), "shared memory of the host's")
	}
	return probe.Reached("a segment of the host's shared memory is here")
}

// leaveShared leaves about what only the host's own programs should find, until the
// traps are closed.
func (t *Traps) leaveShared() error {
	return errors.Join(t.leaveFile(shmFile(t.run)), t.leaveFile(tmpFile(t.run)), t.leaveSegment())
}

func (t *Traps) leaveFile(name string) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("leave a file to be looked for: %w", err)
	}
	t.closers = append(t.closers, func() error { return os.Remove(name) })
	return f.Close()
}

func (t *Traps) leaveSegment() error {
	key, err := segmentKey(t.run)
	if err != nil {
		return fmt.Errorf("run %q: %w", t.run, err)
	}
	id, err := unix.SysvShmGet(key, os.Getpagesize(), unix.IPC_CREAT|unix.IPC_EXCL|0o600)
	if errors.Is(err, unix.ENOSYS) { // then a container has none either
		return nil
	}
	if err != nil {
		return fmt.Errorf("leave shared memory to be looked for: %w", err)
	}
	t.closers = append(t.closers, func() error {
		_, err := unix.SysvShmCtl(id, unix.IPC_RMID, nil)
		return os.NewSyscallError("shmctl", err)
	})
	return nil
}

// ownFile leaves the same file in the container itself.
func ownFile(name func(run string) string) func(context.Context, *probe.Target) error {
	return func(ctx context.Context, t *probe.Target) error {
		left := &Traps{}
		context.AfterFunc(ctx, func() { _ = left.Close() }) // of a container that is thrown away
		return left.leaveFile(name(t.Run))
	}
}

func ownSegment(ctx context.Context, t *probe.Target) error {
	left := &Traps{run: t.Run}
	context.AfterFunc(ctx, func() { _ = left.Close() }) // of a container that is thrown away
	return left.leaveSegment()
}

// secret are variables that no agent is given: the wall's and holders' token, and
// what leads to the host's engine, keys and accounts.
var secret = []string{"SALLYPORT_TOKEN", "DOCKER_HOST", "DOCKER_CERT_PATH", "DOCKER_CONTEXT", "CONTAINER_HOST", "SSH_AUTH_SOCK", "SSH_AGENT_PID", "GPG_AGENT_INFO",
	"DBUS_SESSION_BUS_ADDRESS", "XAUTHORITY", "KRB5CCNAME", "KUBECONFIG", "GITHUB_TOKEN", "GH_TOKEN", "GITLAB_TOKEN", "CI_JOB_TOKEN", "NPM_TOKEN", "HF_TOKEN", "VAULT_TOKEN",
	"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "GOOGLE_APPLICATION_CREDENTIALS", "AZURE_CLIENT_SECRET", "OPENAI_API_KEY"}

// seeVariables looks at its own environment, and at that of every process that it
// sees.
func seeVariables(context.Context, probe.Target) probe.Finding {
	environments := map[string][]string{"its own": os.Environ()}
	files, _ := filepath.Glob("/proc/[0-9]*/environ") // the pattern is right
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err == nil { // others have ended, or are not this user's
			environments[file] = strings.Split(string(text), "\x00")
		}
	}
	for where, environment := range environments {
		for _, name := range secret {
			if holds(environment, name) {
				return probe.Reached("%s is in %s", name, where)
			}
		}
	}
	return probe.Stopped(fmt.Errorf("%w", unix.ENOENT), fmt.Sprintf("%d variables in the environments of %d processes", len(secret), len(environments)-1))
}

func holds(environment []string, name string) bool {
	for _, variable := range environment {
		if value, ok := strings.CutPrefix(variable, name+"="); ok && value != "" {
			return true
		}
	}
	return false
}

// ownVariable sets one for as long as ctx lasts.
func ownVariable(ctx context.Context, t *probe.Target) error {
	if err := os.Setenv("SALLYPORT_TOKEN", t.Run); err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { _ = os.Unsetenv("SALLYPORT_TOKEN") })
	return nil
}
