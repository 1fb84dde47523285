package models

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Place is where a server is to run.
type Place struct {
	Folder    string // the server's own, absolute: sockets, lock, state, home
	Weights   string // Hugging Face's cache, absolute
	Snapshot  string // folder of the weights, in Weights; empty: the pinned revision's, or a placeholder (Launch.Placeholder)
	Binary    string // our gateway binary, absolute
	Container bool   // in a container; otherwise a process in namespaces of its own
	UID, GID  int    // whom the server runs as

	EngineKind string // "podman", otherwise docker; to show the command
	Rootless   bool   // the engine is the login's own: the login is number 0 inside

	Hardware Hardware      // empty: the profile's, or found out from Devices
	Devices  []string      // the machine's device files; nil: not known, the preset's
	GroupIDs []int         // the groups that may use them, by number: names mean others inside
	Command  string        // process: path of vllm or llama-server; empty: looked up in PATH
	IdleStop time.Duration // zero: the profile's
	By       string        // who starts it, for the others who use it
}

// Mount is a file or folder of the machine inside the container.
type Mount struct {
	Source, Target string
	ReadOnly       bool
}

// Launch is one server, exactly as it is started.
type Launch struct {
	Name      string // of the server
	Served    string // the name it answers to
	Engine    Engine
	Hardware  Hardware
	Container bool // otherwise a process; then only Runner, Argv, Env, WorkDir and Socket count
	Image     string
	Runner    []string // our parent of the server, up to and including "--"
	Argv      []string // the server's own command
	Env       []string // NAME=VALUE, sorted; a process has PATH and LD_LIBRARY_PATH of its login besides, and nothing else
	Mounts    []Mount
	Devices   []string
	Groups    []int // further groups, by number
	UID, GID  int
	WorkDir   string
	Socket    string // on the machine: what clients connect to
	Weights   Weights

	SeccompUnconfined bool
	IPCHost           bool
	GPUs              bool  // Nvidia's, all of them
	ShmMB             int64 // zero: the engine's default
	Placeholder       bool  // the snapshot is not known: to show, not to start
	Rootless          bool  // as Place has it, as the next
	EngineKind        string
}

// The places inside a container.
const (
	folderInside  = "/run/sallyport/model"
	weightsInside = "/weights"
	binaryInside  = "/run/sallyport/gateway"
)

// What of the weights' folder a server is shown. Beside them huggingface_hub
// keeps the login's tokens (token, stored_tokens), which no server is to read:
// HF_TOKEN_PATH and HF_STORED_TOKENS_PATH of its src/huggingface_hub/constants.py@03333b6.
const (
	hubFolder       = "/hub"
	encodingsFolder = "/sallyport-encodings"
)

// revisionUnknown stands in a path for the commit that a pull will find.
const revisionUnknown = "REVISION"

// maxSocketPath is the longest path of a unix socket in bytes (sun_path, less its
// terminating zero).
const maxSocketPath = 107

// rpcName is how long vLLM's own sockets are called in its folder: a slash and
// a UUID.
const rpcName = 37

var serverName = lazily(`^[a-z0-9][a-z0-9._-]{0,62}$`)

// ContainerName is the container of a server: one of each name per user.
func ContainerName(name string, uid int) string {
	return "sallyport-model-" + name + "-" + strconv.Itoa(uid)
}

// paths are the places as the server sees them.
type paths struct{ folder, home, weights, binary, snapshot string }

// Launch returns the exact command that serves p at pl.
func (p Profile) Launch(pl Place) (Launch, error) {
	if err := p.startable(pl); err != nil {
		return Launch{}, err
	}
	h, pre, err := p.hardware(pl)
	if err != nil {
		return Launch{}, err
	}
	at, placeholder, err := p.paths(pl)
	if err != nil {
		return Launch{}, err
	}
	l := Launch{
		Name: p.Name, Served: p.Served, Engine: p.Engine, Hardware: h, Container: pl.Container, UID: pl.UID, GID: pl.GID,
		WorkDir: at.home, Socket: pl.Folder + "/model.sock", Weights: p.Weights(), Placeholder: placeholder,
		Runner: runner(at, pl, cmp.Or(pl.IdleStop, p.IdleStop)),
	}
	if l.Argv, err = p.argv(pl, pre, at); err != nil {
		return Launch{}, fmt.Errorf("model %s: %w", p.Name, err)
	}
	if l.Env, err = p.env(pl, pre, at); err != nil {
		return Launch{}, fmt.Errorf("model %s: %w", p.Name, err)
	}
	if pl.Container {
		err = p.contain(&l, pl, pre)
	}
	return l, err
}

// startable says why there is no server of p to start at pl, if there is none.
func (p Profile) startable(pl Place) error {
	switch {
	case p.Endpoint != "" || p.Engine == External:
		return fmt.Errorf("model %s: its server is somebody else's, at %s; hint: remove endpoint to have it started", p.Name, p.Endpoint)
	case p.Engine == LlamaCPP && !p.LlamaCPP.complete():
		return fmt.Errorf("model %s: no GGUF is known for llama.cpp; hint: set model: to a repository with one and file: to its name", p.Name)
	case p.Engine != VLLM && p.Engine != LlamaCPP:
		return fmt.Errorf("model %s: engine %q has no server of its own; hint: vllm or llama.cpp", p.Name, string(p.Engine))
	case p.Engine == VLLM && strings.Count(p.Model, "/") != 1:
		return fmt.Errorf("model %s: %q is no repository of weights; hint: model: ORG/NAME", p.Name, p.Model)
	case !serverName().MatchString(p.Name):
		return fmt.Errorf("model %q cannot be a server's name; hint: a-z, 0-9, \".\", \"_\" and \"-\", 63 at most", p.Name)
	case p.Served == "" || strings.ContainsAny(p.Served, "/ \t\n") || strings.HasPrefix(p.Served, "-"):
		return fmt.Errorf("model %s: served name %q; hint: a word without \"/\"", p.Name, p.Served)
	case p.GPUMemory < 0 || p.GPUMemory > 1:
		return fmt.Errorf("model %s: gpu_memory %g; hint: a part of the whole, as 0.90", p.Name, p.GPUMemory)
	}
	return p.fits(pl)
}

// fits says what is wrong with the place's paths, if anything is.
func (p Profile) fits(pl Place) error {
	for _, place := range [][2]string{{"folder", pl.Folder}, {"weights", pl.Weights}, {"binary", pl.Binary}} {
		s := place[1]
		if !path.IsAbs(s) || path.Clean(s) != s || s == "/" || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return fmt.Errorf("model %s: %s %q; hint: an absolute path", p.Name, place[0], s)
		}
	}
	longest := len(pl.Folder) + len("/server.sock")
	if !pl.Container && p.Engine == VLLM {
		longest = len(pl.Folder) + rpcName
	}
	if longest > maxSocketPath {
		return fmt.Errorf("model %s: a socket in %s would have a path of %d bytes, and %d are possible; hint: set hosts[].folder, or local.folder for this machine, to a shorter one",
			p.Name, pl.Folder, longest, maxSocketPath)
	}
	return nil
}

// paths returns the places as the server sees them, and whether the snapshot is
// a placeholder.
func (p Profile) paths(pl Place) (paths, bool, error) {
	at := paths{folder: pl.Folder, weights: pl.Weights, binary: pl.Binary}
	if pl.Container {
		at = paths{folder: folderInside, weights: weightsInside, binary: binaryInside}
	}
	at.home = at.folder + "/home"
	w, snapshot := p.Weights(), pl.Snapshot
	if snapshot == "" {
		snapshot = pl.Weights + hubFolder + "/models--" + strings.ReplaceAll(w.Repo, "/", "--") + "/snapshots/" + cmp.Or(w.Revision, revisionUnknown)
	}
	inside, ok := strings.CutPrefix(snapshot, pl.Weights+hubFolder+"/")
	if !ok || path.Clean("/"+inside) != "/"+inside {
		return paths{}, false, fmt.Errorf("model %s: its weights at %s are not in %s", p.Name, snapshot, pl.Weights+hubFolder)
	}
	at.snapshot = at.weights + hubFolder + "/" + inside
	return at, pl.Snapshot == "" && w.Revision == "", nil
}

// runner is our own command around the server's.
func runner(at paths, pl Place, idle time.Duration) []string {
	r := []string{at.binary, "model-run", "--folder", at.folder}
	if !pl.Container {
		r = append(r, "--netns")
	}
	if idle > 0 {
		r = append(r, "--idle-stop", idle.String())
	}
	if by := oneLine(pl.By); by != "" {
		r = append(r, "--by", by)
	}
	return append(r, "--")
}

// oneLine returns s with everything replaced that is not printable ASCII.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}

func (p Profile) argv(pl Place, pre preset, at paths) ([]string, error) {
	command, server := "vllm", at.folder+"/server.sock"
	if p.Engine == LlamaCPP {
		command = "llama-server"
	}
	switch {
	case !pl.Container:
		command = cmp.Or(pl.Command, command)
	case p.Image == "":
		command = cmp.Or(pre.command[p.Engine], command)
	}
	if p.Engine == LlamaCPP {
		args, err := arguments(LlamaCPP, p.llamaArguments(pre, at.snapshot, server), append(slices.Clone(p.LlamaCPP.Args), p.Args...))
		return append([]string{command}, args...), err
	}
	args, err := arguments(VLLM, p.vllmArguments(pre, at.snapshot, server), p.Args)
	return append([]string{command, "serve"}, args...), err
}

// contain adds what only a container has.
func (p Profile) contain(l *Launch, pl Place, pre preset) error {
	devices, err := p.usable(l.Hardware, pre.devices[p.Engine], pl.Devices)
	if err != nil {
		return err
	}
	l.Image, l.Devices = cmp.Or(p.Image, pre.images[p.Engine]), devices
	l.Mounts = []Mount{
		{Source: pl.Folder, Target: folderInside},
		{Source: pl.Weights + hubFolder, Target: weightsInside + hubFolder, ReadOnly: true},
		{Source: pl.Binary, Target: binaryInside, ReadOnly: true},
	}
	if l.Weights.Encodings {
		l.Mounts = append(l.Mounts, Mount{Source: pl.Weights + encodingsFolder, Target: weightsInside + encodingsFolder, ReadOnly: true})
	}
	l.Rootless, l.EngineKind = pl.Rootless, pl.EngineKind
	if len(devices) > 0 {
		l.Groups = slices.Compact(slices.Sorted(slices.Values(pl.GroupIDs)))
	}
	l.SeccompUnconfined, l.GPUs = pre.seccomp, pre.gpus
	if p.Engine == VLLM { // PyTorch's processes share memory; llama-server is one process
		l.IPCHost, l.ShmMB = pre.ipcHost, pre.shmMB
	}
	return nil
}
