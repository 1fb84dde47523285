package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/sallyport/sallyport/agents"
	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/containers"
	"github.com/sallyport/sallyport/sandbox"
	"github.com/sallyport/sallyport/terminal"
)

// What an agent finds inside its container.
const (
	homeInside        = "/home/agent"
	binaryInside      = "/run/sallyport/gateway"
	modelFolderInside = "/run/sallyport/model"
	proofAgent        = audit.AgentProof // the agent's name in events until the sandbox is shown to be closed
)

// projectMounts are the project folder and what belongs to it. It refuses
// folders that a sandbox must not see.
func (s *session) projectMounts() ([]containers.Bind, error) {
	policy := containers.MountPolicy{Home: s.caller.ownHome}
	for _, path := range s.caller.paths.Protected() {
		policy.Protected = append(policy.Protected, containers.Protected{Path: path, What: "Sallyport's own"})
	}
	for _, path := range s.options.ownFolders(s.config, s.caller) {
		policy.Protected = append(policy.Protected, containers.Protected{Path: path, What: "the model servers'"})
	}
	policy.Protected = append(policy.Protected, containers.Protected{Path: s.engine.Socket(), What: "the Docker engine's socket"})
	policy.Protected = append(policy.Protected, containers.Protected{Path: filepath.Join(s.caller.home, ".ssh"), What: "SSH keys"})
	if s.config.Path != "" {
		policy.Protected = append(policy.Protected, containers.Protected{Path: s.config.Path, What: "the configuration in use"})
	}
	if socket := s.options.getenv("SSH_AUTH_SOCK"); filepath.IsAbs(socket) {
		policy.Protected = append(policy.Protected, containers.Protected{Path: socket, What: "your SSH agent"})
	}
	git, gitErr := containers.GitMounts(s.caller.folder)
	refused := []error{policy.Refusal(s.caller.folder), gitErr}
	for _, folder := range git.Outside {
		refused = append(refused, policy.Refusal(folder))
	}
	if err := errors.Join(refused...); err != nil {
		if !s.options.unsafeMount {
			return nil, usage(err)
		}
		s.unsafe = err.Error()
		s.progress.warn("--unsafe-mount: the agent sees what it should not:\n%v", err)
	}
	s.watch = git.Watch
	if git.Note != "" {
		s.progress.note("%s", git.Note)
	}
	binds := []containers.Bind{{Source: s.caller.folder, Target: s.caller.folder}}
	return append(binds, git.Binds...), nil
}

// agentImage is the image to run: for claude and shell our own, built if its
// inputs changed.
func (s *session) agentImage(ctx context.Context) (string, error) {
	if s.request.agent == "run" {
		there, err := s.engine.ImageExists(ctx, s.request.image)
		if err != nil {
			return "", err
		}
		if !there {
			return "", usage(fmt.Errorf("image %s is not on this machine; hint: docker pull %s", s.request.image, s.request.image))
		}
		return s.request.image, nil
	}
	image, err := s.options.buildAgent(ctx, s.engine, s.config, s.caller, s.progress)
	if err == nil && !s.model.StandIn() {
		image, _, err = buildModelImage(ctx, s.engine, s.config, image, s.model.Profile)
	}
	if err != nil {
		return "", err
	}
	s.progress.done("image", "%s", image)
	return image, nil
}

func (s *session) agentSpec(profile agents.Profile, a sandbox.Addresses, image string, mounts []containers.Bind) (containers.AgentSpec, error) {
	home, err := s.prepareHome(profile)
	if err != nil {
		return containers.AgentSpec{}, err
	}
	files, err := s.writeFiles(profile, a)
	if err != nil {
		return containers.AgentSpec{}, err
	}
	binds := append(mounts, containers.Bind{Source: home, Target: homeInside},
		containers.Bind{Source: s.binary, Target: binaryInside, ReadOnly: true})
	prove := []string{binaryInside, "prove", "--gate4", a.Gate4.String(), "--forbidden", s.caller.paths.ControlFolder() + "," + s.engine.Socket()}
	if s.ipv6 {
		prove = append(prove, "--gate6", a.Gate6.String())
	}
	command := profile.Command
	if len(command) == 0 {
		return containers.AgentSpec{}, usage(errors.New("an image needs a command; hint: launcher run IMAGE MODEL -- command"))
	}
	return containers.AgentSpec{
		Name: "sallyport-agent-" + s.id, Image: image, Holder: s.holderName(), UID: s.caller.uid, GID: s.caller.gid,
		Entrypoint: append(prove, "--"), Cmd: command, Env: profile.Env, WorkDir: s.caller.folder,
		Binds: append(binds, files...), TTY: s.tty(), Stdin: true, Labels: s.labels(containers.RoleAgent),
		MemoryMB: int64(s.config.Agent.Memory) >> 20, PidsLimit: s.config.Agent.Pids,
	}, nil
}

// tty reports whether the agent gets a terminal: ours must be one at both ends.
func (s *session) tty() bool {
	return terminal.IsTerminal(s.options.stdin) && terminal.IsTerminal(s.options.stdout)
}

// prepareHome makes the project's persistent home and returns its path.
func (s *session) prepareHome(profile agents.Profile) (string, error) {
	path := filepath.Join(s.caller.paths.Homes(), homeName(s.caller.folder))
	home, err := s.caller.openFolder(path)
	if err != nil {
		return "", fmt.Errorf("the project's home: %w", err)
	}
	defer home.Close()
	uid, gid := -1, -1
	if s.caller.root {
		uid, gid = s.caller.uid, s.caller.gid
	}
	if err := profile.PrepareHome(home, uid, gid); err != nil {
		return "", fmt.Errorf("prepare the project's home %s: %w", path, err)
	}
	return path, nil
}

// writeFiles writes the files that the container sees read-only.
func (s *session) writeFiles(profile agents.Profile, a sandbox.Addresses) ([]containers.Bind, error) {
	folder := s.sandboxFolder()
	s.undo = append(s.undo, func(context.Context) error { return s.caller.removeFolder(folder) })
	root, err := s.caller.openFolder(folder)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	files := append([]agents.File{{Path: "/etc/resolv.conf", Data: []byte("nameserver " + a.Gate4.String() + "\n"), Mode: 0o444}}, profile.Files...)
	var binds []containers.Bind
	for _, f := range files {
		name := strings.ReplaceAll(strings.TrimPrefix(f.Path, "/"), "/", "_")
		if err := writeNew(root, name, f); err != nil {
			return nil, fmt.Errorf("write a file for the sandbox: %w", err)
		}
		binds = append(binds, containers.Bind{Source: filepath.Join(folder, name), Target: f.Path, ReadOnly: true})
	}
	return binds, nil
}

// writeNew writes a file that must not be there yet.
func writeNew(root *os.Root, name string, f agents.File) error {
	out, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, f.Mode)
	if err != nil {
		return err
	}
	_, err = out.Write(f.Data)
	return errors.Join(err, out.Chmod(f.Mode), out.Close()) // whatever the umask
}
