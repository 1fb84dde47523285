package models

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
)

// What a process keeps of its login's environment, for the shell to fill in.
const (
	keepPath    = `PATH="$PATH"`
	keepLibrary = `LD_LIBRARY_PATH="$LD_LIBRARY_PATH"`
)

// shellLines is a command for a POSIX shell, some words a line.
type shellLines []string

// add adds a line of words, each as it is.
func (s *shellLines) add(words ...string) {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = quote(w)
	}
	s.raw(quoted...)
}

// raw adds a line of words that the shell is to read.
func (s *shellLines) raw(words ...string) { *s = append(*s, strings.Join(words, " ")) }

var plainWord = lazily(`^[A-Za-z0-9_@%+=:,./-]+$`)

func quote(word string) string {
	if plainWord().MatchString(word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// String returns the command as one could type it in a shell: docker run or
// podman run with what containers.CreateServer asks of the engine, or our own
// binary; an option a line, always in the same order. Of a container, the labels
// that launchers tell each other by are left out (dev.sallyport.by, .folder, .idle
// and .launch), and what is added for an engine with SELinux (label=disable) or a
// user namespace for all (--userns host). It holds no secret, since neither Argv
// nor Env does.
func (l Launch) String() string {
	var s shellLines
	if l.Container {
		l.run(&s)
	} else {
		s.raw("cd", quote(l.WorkDir), "&&", "env", "-i", keepPath, keepLibrary)
		for _, e := range l.Env {
			s.add(e)
		}
		s.add(l.Runner...)
	}
	command(s.add, l.Argv)
	return strings.Join(s, " \\\n  ")
}

// podman is Place.EngineKind's name of it.
const podman = "podman"

// run adds everything before the server's own command.
func (l Launch) run(s *shellLines) {
	s.add(cmp.Or(l.EngineKind, "docker"), "run", "--detach", "--name", ContainerName(l.Name, l.UID))
	s.add("--label", "dev.sallyport.role=server", "--label", "dev.sallyport.owner="+strconv.Itoa(l.UID), "--label", "dev.sallyport.model="+l.Name)
	s.add("--network", "none", "--user", l.user())
	s.add("--cap-drop", "ALL", "--security-opt", "no-new-privileges:true")
	if l.SeccompUnconfined {
		s.add("--security-opt", "seccomp=unconfined")
	}
	s.add("--read-only", "--tmpfs", "/tmp:rw,exec,nosuid,nodev,mode=1777,size=2048m")
	l.memory(s)
	l.gpu(s)
	for _, m := range l.Mounts {
		mount := "type=bind,source=" + m.Source + ",target=" + m.Target
		if m.ReadOnly {
			mount += ",readonly"
		}
		s.add("--mount", mount+",bind-propagation=private,bind-nonrecursive")
	}
	for _, e := range l.Env {
		s.add("--env", e)
	}
	s.add("--no-healthcheck")
	l.log(s)
	s.add("--workdir", l.WorkDir)
	if len(l.Runner) == 0 {
		s.add(l.Image)
		return
	}
	s.add("--entrypoint", l.Runner[0])
	s.add(l.Image)
	s.add(l.Runner[1:]...)
}

// user is whom the server runs as, in the container's numbers.
func (l Launch) user() string {
	if l.Rootless {
		return "0:0"
	}
	return fmt.Sprintf("%d:%d", l.UID, l.GID)
}

func (l Launch) memory(s *shellLines) {
	if l.IPCHost {
		s.add("--ipc", "host")
		return
	}
	s.add("--ipc", "private")
	if l.ShmMB > 0 {
		s.add("--shm-size", strconv.FormatInt(l.ShmMB, 10)+"m")
	}
}

// gpu adds the device files and who may use them. A rootless engine has no number
// for the machine's groups: Podman keeps the login's own, Docker none.
func (l Launch) gpu(s *shellLines) {
	if l.GPUs && l.EngineKind == podman {
		s.add("--device", "nvidia.com/gpu=all")
	} else if l.GPUs {
		s.add("--gpus", "all")
	}
	for _, d := range l.Devices {
		s.add("--device", d+":"+d+":rw")
	}
	switch {
	case l.Rootless && l.EngineKind == podman && len(l.Groups) > 0:
		s.add("--group-add", "keep-groups")
	case !l.Rootless:
		for _, g := range l.Groups {
			s.add("--group-add", strconv.Itoa(g))
		}
	}
}

// log bounds what the engine keeps. Podman keeps one such file.
func (l Launch) log(s *shellLines) {
	words := []string{"--log-driver", "json-file", "--log-opt", "max-size=20m"}
	if l.EngineKind != podman {
		words = append(words, "--log-opt", "max-file=3")
	}
	s.add(words...)
}

// command adds the server's command: each option with its values on a line.
func command(add func(...string), argv []string) {
	start := 0
	for i := 1; i <= len(argv); i++ {
		if i == len(argv) || isOption(argv[i]) {
			add(argv[start:i]...)
			start = i
		}
	}
}
