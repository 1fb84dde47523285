package containers

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"testing"
)

// podmanSays is what Podman 5.8.6 says of itself when it is a user's own.
func podmanSays(t *testing.T) (version, info object) {
	version, info = rootful(t)
	version["Version"], version["Platform"] = "5.8.6", object{"Name": "linux/amd64/debian-unknown"}
	version["Components"] = []object{{"Name": "Podman Engine", "Version": "5.8.6"}, {"Name": "OCI Runtime (crun)"}}
	info["SecurityOptions"] = []string{"name=seccomp,profile=default", "name=rootless"}
	info["CgroupVersion"], info["MemTotal"] = "2", 1<<34
	return version, info
}

func TestEnginesForModelServers(t *testing.T) {
	_, i := rootful(t)
	kernel := i["KernelVersion"].(string)
	tests := []struct {
		name   string
		says   func(*testing.T) (version, info object)
		change func(version, info object)
		want   ServerInfo
		refuse string
	}{
		{"Docker", rootful, func(_, _ object) {}, ServerInfo{Kind: KindDocker, Version: "28.5.2", API: "1.41", Kernel: kernel}, ""},
		{"Docker without root", rootful, func(_, i object) {
			i["SecurityOptions"] = []string{"name=rootless", "name=cgroupns"}
			i["CgroupVersion"] = "2"
		},
			ServerInfo{Kind: KindDocker, Version: "28.5.2", API: "1.41", Kernel: kernel, Rootless: true, CgroupV: 2}, ""},
		{"Docker with remapping and SELinux", rootful, func(_, i object) { i["SecurityOptions"] = []string{"name=userns", "name=selinux"} },
			ServerInfo{Kind: KindDocker, Version: "28.5.2", API: "1.41", Kernel: kernel, UsernsRemap: true, SELinux: true}, ""},
		{"Podman without root", podmanSays, func(_, _ object) {},
			ServerInfo{Kind: KindPodman, Version: "5.8.6", API: "1.41", Kernel: kernel, Rootless: true, CgroupV: 2, MemTotal: 1 << 34}, ""},
		{"Podman", podmanSays, func(_, i object) { i["SecurityOptions"] = []string{"name=seccomp,profile=default"} },
			ServerInfo{Kind: KindPodman, Version: "5.8.6", API: "1.41", Kernel: kernel, CgroupV: 2, MemTotal: 1 << 34}, ""},
		{"what a terminal would obey", rootful, func(v, _ object) { v["Version"] = "28\x1b[2J" },
			ServerInfo{Kind: KindDocker, Version: "28[2J", API: "1.41", Kernel: kernel}, ""},
		{"Docker Desktop", rootful, func(_, i object) { i["OperatingSystem"] = "Docker Desktop" }, ServerInfo{}, "Docker Desktop not supported for model servers yet: "},
		{"Windows", rootful, func(_, i object) { i["OSType"] = "windows" }, ServerInfo{}, "Windows containers not supported for model servers yet: "},
		{"silent", rootful, func(_, i object) { clear(i) }, ServerInfo{}, "Windows containers not supported"},
		{"another machine's by a forwarded socket", rootful, func(_, i object) { i["KernelVersion"] = "6.1.0-other" }, ServerInfo{}, "a forwarded engine not supported for model servers yet: "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			version, info := tt.says(t)
			tt.change(version, info)
			e := fakeEngine{"GET /version": reply(version), "GET /info": reply(info)}.open(t)
			got, err := e.CheckServer(t.Context())
			if tt.refuse == "" {
				if err != nil || got != tt.want {
					t.Errorf("CheckServer = %+v, %v\nwant %+v", got, err, tt.want)
				}
				return
			}
			var refused *UnsupportedError
			if !errors.As(err, &refused) || !strings.HasPrefix(err.Error(), tt.refuse) {
				t.Errorf("CheckServer: %v; want %s", err, tt.refuse)
			}
			if _, err := e.CreateServer(t.Context(), serverSpec()); !errors.Is(err, errServerUnchecked) {
				t.Errorf("CreateServer on a refused engine: %v", err)
			}
		})
	}
}

// dialTo returns a way to the fake engine's socket that counts.
func dialTo(e *Engine, dials *int) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		*dials++
		return (&net.Dialer{}).DialContext(ctx, "unix", e.socket)
	}
}

// An engine that says it is this machine's, by every sign that it gives.
func TestRemoteEnginesMakeNoSandboxes(t *testing.T) {
	// A proxy in the environment must not be asked.
	t.Setenv("HTTP_PROXY", "http://203.0.113.1:3128")
	t.Setenv("DOCKER_HOST", "tcp://203.0.113.1:2375")
	version, info := rootful(t)
	dials := 0
	e, err := OpenDial(t.Context(), "strix", dialTo(fakeEngine{"GET /version": reply(version), "GET /info": reply(info)}.open(t), &dials))
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	var refused *UnsupportedError
	if _, err := e.Check(t.Context()); !errors.As(err, &refused) || refused.Kind != "remote engines" {
		t.Errorf("Check: %v", err)
	}
	if got, err := e.CheckServer(t.Context()); err != nil || got.Kind != KindDocker {
		t.Errorf("CheckServer = %+v, %v", got, err)
	}
	if _, err := e.StartHelper(t.Context(), HelperSpec{}); !errors.Is(err, errUnchecked) {
		t.Errorf("StartHelper: %v", err)
	}
	if _, err := e.CreateAgent(t.Context(), AgentSpec{}); !errors.Is(err, errUnchecked) {
		t.Errorf("CreateAgent: %v", err)
	}
	if e.Socket() != "" || dials == 0 {
		t.Errorf("socket %q, %d connections", e.Socket(), dials)
	}
}

// A remote engine may have any kernel.
func TestRemoteEngineWithAnotherKernel(t *testing.T) {
	version, info := rootful(t)
	info["KernelVersion"] = "6.1.0-other"
	dials := 0
	e, err := OpenDial(t.Context(), "strix", dialTo(fakeEngine{"GET /version": reply(version), "GET /info": reply(info)}.open(t), &dials))
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if got, err := e.CheckServer(t.Context()); err != nil || got.Kernel != "6.1.0-other" {
		t.Errorf("CheckServer = %+v, %v", got, err)
	}
}

func TestOpenDialSaysWhatFailed(t *testing.T) {
	if _, err := OpenDial(t.Context(), "strix", nil); err == nil {
		t.Error("opened without a way to it")
	}
	down := func(context.Context) (net.Conn, error) { return nil, os.ErrPermission }
	if _, err := OpenDial(t.Context(), "strix", down); !errors.Is(err, os.ErrPermission) || !strings.Contains(err.Error(), "of strix") {
		t.Errorf("OpenDial: %v", err)
	}
	dead := func(context.Context) (net.Conn, error) {
		a, b := net.Pipe()
		b.Close()
		return a, nil
	}
	if _, err := OpenDial(t.Context(), "strix", dead); err == nil || !strings.Contains(err.Error(), "hint: Docker 20.10 or Podman 4") {
		t.Errorf("OpenDial of what answers nothing: %v", err)
	}
}
