package containers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/client"
	"golang.org/x/sys/unix"
)

// Info is what Check learnt of an engine.
type Info struct {
	Version         string // of the engine: "20.10.24"
	API             string // version agreed on: "1.41"
	UsernsRemap     bool   // containers' ids are remapped unless they opt out
	NoNewPrivileges bool   // the daemon's default forbids gaining privileges; an engine that does not tell, as 20.10, gives false
	SELinux         bool
	LiveRestore     bool // containers go on while the daemon restarts
}

// errUnchecked is returned by whatever creates a container before Check passed.
var errUnchecked = errors.New("containers: Check has not passed on this engine")

// Check asks the engine what it is. An *UnsupportedError says that no sandbox
// can be started on it.
func (e *Engine) Check(ctx context.Context) (Info, error) {
	if e.socket == "" {
		return Info{}, unsupported("remote engines", "sandboxes run on this machine only")
	}
	version, res, err := e.describe(ctx)
	if err != nil {
		return Info{}, err
	}
	kernel, err := ownKernel()
	if err != nil {
		return Info{}, err
	}
	if refused := classify(version, res.Info, kernel); refused != nil {
		return Info{}, refused
	}
	info := Info{
		Version:         version.Version,
		API:             e.api.ClientVersion(),
		UsernsRemap:     hasOption(res.Info, "userns"),
		NoNewPrivileges: hasOption(res.Info, "no-new-privileges"),
		SELinux:         hasOption(res.Info, "selinux"),
		LiveRestore:     res.Info.LiveRestoreEnabled,
	}
	e.info.Store(&info)
	return info, nil
}

// describe asks both questions at once: each takes an engine some milliseconds.
func (e *Engine) describe(ctx context.Context) (version client.ServerVersionResult, info client.SystemInfoResult, err error) {
	var infoErr error
	var asked sync.WaitGroup
	asked.Go(func() { info, infoErr = e.api.Info(ctx, client.InfoOptions{}) })
	version, err = e.api.ServerVersion(ctx, client.ServerVersionOptions{})
	asked.Wait()
	switch {
	case err != nil:
		err = fmt.Errorf("ask the Docker engine for its version: %w", err)
	case infoErr != nil:
		err = fmt.Errorf("ask the Docker engine what it is: %w", infoErr)
	}
	return version, info, err
}

// classify returns why an engine cannot run sandboxes; nil: it can.
func classify(v client.ServerVersionResult, info system.Info, kernel string) *UnsupportedError {
	switch {
	case info.OSType != "linux":
		return unsupported("Windows containers", "the engine runs %q containers; switch it to Linux containers on a Linux machine", plain(info.OSType))
	case isPodman(v):
		return unsupported("Podman", "use rootful Docker Engine on this machine")
	case isDesktop(v, info):
		return unsupported("Docker Desktop", "its containers run in a virtual machine; use Docker Engine on this machine")
	case hasOption(info, "rootless"):
		return unsupported("rootless Docker", "use the system's Docker Engine (%s)", DefaultHost)
	case info.KernelVersion != kernel:
		return unsupported("remote engines", "its kernel is %q, this machine's is %q", plain(info.KernelVersion), kernel)
	}
	return nil
}

func isPodman(v client.ServerVersionResult) bool {
	podman := func(c system.ComponentVersion) bool { return strings.Contains(c.Name, "Podman") }
	return slices.ContainsFunc(v.Components, podman) || strings.Contains(v.Platform.Name, "Podman")
}

func isDesktop(v client.ServerVersionResult, info system.Info) bool {
	return strings.Contains(info.OperatingSystem, "Docker Desktop") || strings.Contains(v.Platform.Name, "Docker Desktop") || info.Name == "docker-desktop"
}

// hasOption reports whether the engine names a security option, written
// "seccomp" by old engines and "name=seccomp,profile=…" by the others.
func hasOption(info system.Info, name string) bool {
	return slices.ContainsFunc(info.SecurityOptions, func(option string) bool {
		option, _, _ = strings.Cut(option, ",")
		return strings.TrimPrefix(option, "name=") == name
	})
}

func ownKernel() (string, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", fmt.Errorf("read this machine's kernel version: %w", err)
	}
	return unix.ByteSliceToString(u.Release[:]), nil
}

// checked returns what Check learnt.
func (e *Engine) checked() (Info, error) {
	info := e.info.Load()
	if info == nil {
		return Info{}, errUnchecked
	}
	return *info, nil
}
