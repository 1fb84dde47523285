package containers

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/client"
)

// The kinds of engines that run model servers.
const (
	KindDocker = "docker"
	KindPodman = "podman"
)

// ServerInfo is what CheckServer learnt of an engine.
type ServerInfo struct {
	Kind        string // KindDocker or KindPodman
	Version     string // of the engine: "28.5.2", "5.8.0"
	API         string // version agreed on: "1.41"
	Rootless    bool   // it is a user's own, with that user's rights on the machine
	UsernsRemap bool   // containers' ids are remapped unless they opt out
	SELinux     bool
	MemTotal    int64  // bytes
	CgroupV     int    // 1 or 2; zero: it does not tell
	Kernel      string // the machine's, to be compared with what the machine itself says
}

// errServerUnchecked is returned by whatever creates a model server's container
// before CheckServer passed.
var errServerUnchecked = errors.New("containers: CheckServer has not passed on this engine")

// CheckServer asks the engine what it is: Docker or Podman, the system's or a
// user's own (rootless), of this machine or another. An *UnsupportedError says
// that no model server can be started on it. It says nothing of sandboxes, for
// which Check stands.
func (e *Engine) CheckServer(ctx context.Context) (ServerInfo, error) {
	version, err := e.api.ServerVersion(ctx, client.ServerVersionOptions{})
	if err != nil {
		return ServerInfo{}, fmt.Errorf("ask the container engine for its version: %w", err)
	}
	res, err := e.api.Info(ctx, client.InfoOptions{})
	if err != nil {
		return ServerInfo{}, fmt.Errorf("ask the container engine what it is: %w", err)
	}
	kernel := ""
	if e.socket != "" {
		if kernel, err = ownKernel(); err != nil {
			return ServerInfo{}, err
		}
	}
	if refused := classifyServer(version, res.Info, kernel); refused != nil {
		return ServerInfo{}, refused
	}
	info := ServerInfo{
		Kind:        KindDocker,
		Version:     plain(version.Version),
		API:         e.api.ClientVersion(),
		Rootless:    hasOption(res.Info, "rootless"),
		UsernsRemap: hasOption(res.Info, "userns"),
		SELinux:     hasOption(res.Info, "selinux"),
		MemTotal:    max(0, res.Info.MemTotal),
		Kernel:      plain(res.Info.KernelVersion),
	}
	if isPodman(version) {
		info.Kind = KindPodman
	}
	info.CgroupV, _ = strconv.Atoi(res.Info.CgroupVersion) // empty before Docker 20.10
	e.server.Store(&info)
	return info, nil
}

// classifyServer returns why an engine cannot run model servers; nil: it can.
// kernel is this machine's, for an engine that has to be on it; empty: it is
// another machine's.
func classifyServer(v client.ServerVersionResult, info system.Info, kernel string) *UnsupportedError {
	var refused *UnsupportedError
	switch {
	case info.OSType != "linux":
		refused = unsupported("Windows containers", "the engine runs %q containers", plain(info.OSType))
	case isDesktop(v, info):
		refused = unsupported("Docker Desktop", "its containers run in a virtual machine, whose sockets nobody outside can open; use Docker Engine or Podman")
	case kernel != "" && info.KernelVersion != kernel:
		refused = unsupported("a forwarded engine", "its kernel is %q, this machine's is %q; add its machine to hosts instead", plain(info.KernelVersion), kernel)
	default:
		return nil
	}
	refused.For = "model servers"
	return refused
}

// checkedServer returns what CheckServer learnt.
func (e *Engine) checkedServer() (ServerInfo, error) {
	info := e.server.Load()
	if info == nil {
		return ServerInfo{}, errServerUnchecked
	}
	return *info, nil
}
