package containers

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

type object = map[string]any

// rootful is what a supported engine says of itself.
func rootful(t *testing.T) (version, info object) {
	t.Helper()
	kernel, err := ownKernel()
	if err != nil {
		t.Fatal(err)
	}
	version = object{"Version": "28.5.2", "ApiVersion": "1.41", "Platform": object{"Name": "Docker Engine - Community"},
		"Components": []object{{"Name": "Engine", "Version": "28.5.2"}, {"Name": "containerd", "Version": "2.1.9"}}}
	info = object{"OSType": "linux", "OperatingSystem": "Debian GNU/Linux 12 (bookworm)", "Name": "laptop", "KernelVersion": kernel,
		"SecurityOptions": []string{"name=seccomp,profile=builtin", "name=cgroupns"}}
	return version, info
}

func TestUnsupportedEnginesAreToldApart(t *testing.T) {
	tests := []struct {
		name   string
		change func(version, info object)
		want   string // the whole line; "" = supported
	}{
		{"rootful", func(_, _ object) {}, ""},
		{"rootful 20.10 names options bare", func(_, info object) { info["SecurityOptions"] = []string{"seccomp"} }, ""},
		{"a label called rootless is no option", func(_, info object) { info["SecurityOptions"] = []string{"name=seccomp,profile=rootless"} }, ""},
		{"rootless", func(_, info object) {
			info["SecurityOptions"] = []string{"name=seccomp,profile=builtin", "name=rootless"}
		},
			"rootless Docker not supported for sandboxes yet: use the system's Docker Engine (unix:///var/run/docker.sock)"},
		{"podman by component", func(v, _ object) { v["Components"] = []object{{"Name": "Podman Engine", "Version": "5.8.0"}} },
			"Podman not supported for sandboxes yet: use rootful Docker Engine on this machine"},
		{"podman rootless is podman first", func(v, info object) {
			v["Components"] = []object{{"Name": "Podman Engine"}}
			info["SecurityOptions"] = []string{"name=rootless"}
		}, "Podman not supported for sandboxes yet: use rootful Docker Engine on this machine"},
		{"desktop by system", func(_, info object) { info["OperatingSystem"] = "Docker Desktop" },
			"Docker Desktop not supported for sandboxes yet: its containers run in a virtual machine; use Docker Engine on this machine"},
		{"desktop by name", func(_, info object) { info["Name"] = "docker-desktop" },
			"Docker Desktop not supported for sandboxes yet: its containers run in a virtual machine; use Docker Engine on this machine"},
		{"desktop by platform", func(v, _ object) { v["Platform"] = object{"Name": "Docker Desktop 4.49.0 (208003)"} },
			"Docker Desktop not supported for sandboxes yet: its containers run in a virtual machine; use Docker Engine on this machine"},
		{"windows containers", func(_, info object) { info["OSType"] = "windows" },
			`Windows containers not supported for sandboxes yet: the engine runs "windows" containers; switch it to Linux containers on a Linux machine`},
		{"forwarded socket", func(_, info object) { info["KernelVersion"] = "5.4.0-evil\x1b[2J" },
			`remote engines not supported for sandboxes yet: its kernel is "5.4.0-evil[2J", this machine's is `},
		{"silent engine", func(_, info object) { clear(info) },
			`Windows containers not supported for sandboxes yet: the engine runs "" containers; switch it to Linux containers on a Linux machine`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			version, info := rootful(t)
			tt.change(version, info)
			e := fakeEngine{"GET /version": reply(version), "GET /info": reply(info)}.open(t)
			_, err := e.Check(t.Context())
			if tt.want == "" {
				if err != nil {
					t.Fatalf("Check: %v", err)
				}
				return
			}
			var refused *UnsupportedError
			if !errors.As(err, &refused) || !strings.HasPrefix(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("Check: %v\nwant: %s", err, tt.want)
			}
			if _, err := e.StartHelper(t.Context(), HelperSpec{}); !errors.Is(err, errUnchecked) {
				t.Errorf("StartHelper on an unsupported engine: %v, want %v", err, errUnchecked)
			}
			if _, err := e.CreateAgent(t.Context(), AgentSpec{}); !errors.Is(err, errUnchecked) {
				t.Errorf("CreateAgent on an unsupported engine: %v, want %v", err, errUnchecked)
			}
		})
	}
}

func TestCheckReportsWhatContainersMustMind(t *testing.T) {
	version, info := rootful(t)
	info["SecurityOptions"] = []string{"name=seccomp,profile=builtin", "name=userns", "name=selinux", "name=no-new-privileges"}
	info["LiveRestoreEnabled"] = true
	e := fakeEngine{"GET /version": reply(version), "GET /info": reply(info)}.open(t)
	got, err := e.Check(t.Context())
	want := Info{Version: "28.5.2", API: "1.41", UsernsRemap: true, NoNewPrivileges: true, SELinux: true, LiveRestore: true}
	if err != nil || got != want {
		t.Errorf("Check = %+v, %v; want %+v", got, err, want)
	}
}

func TestOpenRefusesRemoteEnginesWithoutCallingThem(t *testing.T) {
	for _, host := range []string{"tcp://203.0.113.1:2375", "ssh://me@strix", "npipe:////./pipe/docker_engine", "http://203.0.113.1", "unix://", "unix://relative.sock", "/var/run/docker.sock"} {
		_, err := Open(t.Context(), host)
		var refused *UnsupportedError
		if !errors.As(err, &refused) || !strings.HasPrefix(err.Error(), "remote engines not supported for sandboxes yet: ") {
			t.Errorf("Open(%q): %v", host, err)
		}
	}
}

func TestOpenSaysHowToGetAnEngine(t *testing.T) {
	dir, err := os.MkdirTemp("", "sp")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	dead := filepath.Join(dir, "dead")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: dead, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	tests := []struct {
		socket, hint string
		cause        error
	}{
		{filepath.Join(dir, "none"), "hint: install Docker Engine", fs.ErrNotExist},
		{dead, "hint: the socket is there but nobody listens", syscall.ECONNREFUSED},
		{filepath.Join(dir, "podman.sock"), "hint: start its service: `systemctl --user", fs.ErrNotExist},
	}
	for _, tt := range tests {
		_, err := Open(context.Background(), "unix://"+tt.socket)
		var unavailable *UnavailableError
		if !errors.As(err, &unavailable) || !errors.Is(err, tt.cause) || !strings.Contains(err.Error(), tt.hint) {
			t.Errorf("Open(%s): %v; want %q", tt.socket, err, tt.hint)
		}
	}
	// Tests may run as root, whom no socket refuses.
	denied := &UnavailableError{Host: DefaultHost, Err: &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EACCES)}}
	if want := "usermod -aG docker"; !strings.Contains(denied.Error(), want) {
		t.Errorf("denied: %v; want %q", denied, want)
	}
}
