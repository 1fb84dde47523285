package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/config"
	"github.com/sallyport/sallyport/containers"
	"github.com/sallyport/sallyport/machine"
	"github.com/sallyport/sallyport/models"
)

// hosting is what a machine runs model servers in: an engine, or namespaces of our
// own if engine is nil.
type hosting struct {
	engine *containers.Engine
	info   containers.ServerInfo
	socket string   // the engine's
	passed []string // engines that are there and could not be used, and why
}

func (h hosting) String() string {
	if h.engine == nil {
		return "a process without a network"
	}
	kind := h.info.Kind
	if h.info.Rootless {
		kind = "rootless " + kind
	}
	return fmt.Sprintf("%s %s at %s", kind, audit.Printable(h.info.Version), h.socket)
}

// host finds what the machine runs servers in, once. An engine that is there and
// refuses us is passed over with auto, and is an error where it was asked for.
func (s *site) host(ctx context.Context) (hosting, error) {
	s.hostingOnce.Do(func() { s.hosting, s.hostingErr = s.findHosting(ctx) })
	return s.hosting, s.hostingErr
}

// findHosting tries the engines, Docker first, then namespaces.
func (s *site) findHosting(ctx context.Context) (hosting, error) {
	var why []string
	for _, candidate := range s.engines() {
		h, err := s.openEngine(ctx, candidate)
		if err == nil {
			return h, nil
		}
		if ctx.Err() != nil {
			return h, err
		}
		why = append(why, err.Error())
	}
	if s.settings.Runtime == config.RuntimeAuto || s.settings.Runtime == config.RuntimeProcess {
		if s.facts.UserNamespaces == "" {
			return hosting{passed: why}, nil
		}
		why = append(why, "process: "+audit.Printable(s.facts.UserNamespaces))
	}
	if len(why) == 0 {
		why = append(why, string(s.settings.Runtime)+": no socket of it was found; hint: start it, or set engine_socket")
	}
	return hosting{}, fmt.Errorf("nothing on %s can run a model server:\n  %s", s.title(), strings.Join(why, "\n  "))
}

// engines are the engines' sockets to try, in this order.
func (s *site) engines() []machine.EngineSocket {
	if s.settings.Runtime == config.RuntimeProcess {
		return nil
	}
	if path := s.settings.EngineSocket; path != "" {
		kind := string(s.settings.Runtime)
		if s.settings.Runtime == config.RuntimeAuto {
			kind = "engine"
		}
		return []machine.EngineSocket{{Kind: kind, Path: s.path(path, ""), Usable: true}}
	}
	var list []machine.EngineSocket
	for _, kind := range []config.Runtime{config.RuntimeDocker, config.RuntimePodman} {
		if s.settings.Runtime != config.RuntimeAuto && s.settings.Runtime != kind {
			continue
		}
		if s.name == "" && kind == config.RuntimeDocker && s.dockerHost != "" {
			list = append(list, machine.EngineSocket{Kind: string(kind), Path: s.dockerHost, Usable: true})
			continue
		}
		for _, e := range s.facts.Engines {
			if e.Kind == string(kind) {
				list = append(list, e)
			}
		}
	}
	return list
}

func (s *site) openEngine(ctx context.Context, at machine.EngineSocket) (hosting, error) {
	if !at.Usable {
		return hosting{}, fmt.Errorf("%s: %s: %s", at.Kind, at.Path, audit.Printable(at.Why))
	}
	name := at.Kind + " on " + s.title()
	engine, err := containers.OpenDial(ctx, name, func(ctx context.Context) (net.Conn, error) { return s.Dial(ctx, "unix", at.Path) })
	if err != nil {
		return hosting{}, fmt.Errorf("%s: %w", at.Kind, err)
	}
	info, err := engine.CheckServer(ctx)
	if err != nil {
		engine.Close()
		return hosting{}, fmt.Errorf("%s: %w", at.Kind, err)
	}
	return hosting{engine: engine, info: info, socket: at.Path}, nil
}

// command is the path of the program that serves a model as a process.
func (s *site) command(p models.Profile, h hosting) (string, error) {
	program := programOf(p)
	if path := s.facts.Commands[program]; path != "" {
		return path, nil
	}
	why := ""
	if len(h.passed) > 0 {
		why = ", and an engine could not be used:\n  " + strings.Join(h.passed, "\n  ") + "\n"
	}
	return "", fmt.Errorf("%s is not in the PATH of the login on %s%s; hint: install it there, or Docker or Podman", program, s.title(), why)
}

// programOf is the command that serves a model.
func programOf(p models.Profile) string {
	if p.Engine == models.LlamaCPP {
		return "llama-server"
	}
	return "vllm"
}

// checkArch fails where our binary cannot run on the machine.
func (s *site) checkArch() error {
	names := map[string]string{"x86_64": "amd64", "aarch64": "arm64"}
	arch := s.facts.Arch
	if known := names[arch]; known != "" {
		arch = known
	}
	if arch != "" && arch != runtime.GOARCH {
		return usage(errors.New(s.title() + " is a machine of another kind (" + audit.Printable(s.facts.Arch) + ") than this one (" + runtime.GOARCH + "): our binary does not run there"))
	}
	return nil
}
