package containers

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// check refuses a specification that would give a model server more than one
// needs. socket is the engine's on this machine; empty: unknown.
func (s ServerSpec) check(socket string) error {
	refuse := func(format string, args ...any) error {
		return fmt.Errorf("create server %q: %s", plain(s.Name), fmt.Sprintf(format, args...))
	}
	if s.Name == "" || s.Image == "" {
		return refuse("name and image are required")
	}
	if s.UID <= 0 || s.GID <= 0 {
		return refuse("uid %d, gid %d: a model server never runs as root\nhint: log in to the machine as another user than root", s.UID, s.GID)
	}
	if n := s.network(); n != "none" && n != "default" {
		return refuse("network %q: must be none or default", n)
	}
	if s.MemoryMB < 0 || s.PidsLimit < 0 || s.ShmMB < 0 || s.TmpMB < 0 {
		return refuse("a limit is negative")
	}
	if role := s.Labels[LabelRole]; role != RoleServer && role != RolePull {
		return refuse("label %s is %q: must be %s or %s", LabelRole, role, RoleServer, RolePull)
	}
	if s.network() != "none" && s.Labels[LabelRole] != RolePull {
		return refuse("network %q: a model server has none; only a pull may be given one", s.Network)
	}
	for _, id := range s.Groups {
		if id <= 0 {
			return refuse("group %d: root's group is for nobody", id)
		}
	}
	for _, v := range s.Env {
		// Podman takes a name alone from its own environment.
		if name, _, ok := strings.Cut(v, "="); !ok || name == "" {
			return refuse("environment %q: must be NAME=value", plain(v))
		}
	}
	for _, device := range s.Devices {
		if !deviceAllowed(device) {
			return refuse("device %q is no GPU's", plain(device))
		}
	}
	for _, b := range s.Binds {
		if why := b.refusal(socket); why != "" {
			return refuse("%s: %s", plain(b.Source), why)
		}
	}
	return checkLabels(s.Name, s.Labels)
}

// gpuDevices are the device files that a GPU has: AMD's compute interface, the
// kernel's graphics and accelerator devices, NVIDIA's.
var gpuDevices = regexp.MustCompile(`^/dev/(kfd|dri|dri/[A-Za-z0-9]+|accel|accel/[a-z0-9]+|nvidia[a-z0-9-]*|nvidia-caps/[a-z0-9-]+)$`)

func deviceAllowed(device string) bool { return gpuDevices.MatchString(device) }

// refusal says why a folder or file of the machine is not put into a model
// server's container; empty: it may be. Names alone are judged: the machine may
// be another one. socket is the engine's; empty: unknown.
func (b Bind) refusal(socket string) string {
	for _, p := range []string{b.Source, b.Target} {
		switch {
		case !path.IsAbs(p) || path.Clean(p) != p || p == "/":
			return fmt.Sprintf("%q is not the absolute path of a file or folder", plain(p))
		// Podman reads a mount as a line of comma-separated options.
		case strings.ContainsAny(p, ",\"\n\r\x00"):
			return fmt.Sprintf("%q has a comma, a quotation mark or a line break in it", plain(p))
		}
	}
	for _, tree := range []string{"/proc", "/sys", "/dev", "/etc"} {
		if within(b.Source, tree) {
			return "it lies in " + tree + ", which is the system's"
		}
	}
	for _, s := range append(engineSockets(), socket) {
		if s != "" && within(s, b.Source) {
			return "it is or contains a container engine's socket (" + s + "), which is root on the machine"
		}
	}
	if slices.Contains([]string{"docker.sock", "podman.sock", "containerd.sock"}, path.Base(b.Source)) {
		return "it is called as a container engine's socket is"
	}
	if strings.HasPrefix(b.Source, "/run/user/") && strings.Count(b.Source, "/") <= 3 {
		return "it contains the sockets of everything that the user runs"
	}
	return ""
}

// engineSockets are where engines listen, with the folders that hold them.
func engineSockets() []string {
	return []string{"/run/docker.sock", "/var/run/docker.sock", "/run/podman/podman.sock", "/var/run/podman/podman.sock",
		"/run/containerd/containerd.sock", "/var/run/containerd/containerd.sock", "/var/lib/docker/x", "/var/lib/containers/x"}
}

// within reports whether path p is folder or lies in it.
func within(p, folder string) bool { return p == folder || strings.HasPrefix(p, folder+"/") }
