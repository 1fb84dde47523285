package models

import (
	"slices"
	"strings"
	"time"
)

// Engine is the kind of server behind a model.
type Engine string

// The engines. External is a server that somebody else started.
const (
	Demo     Engine = "demo"
	VLLM     Engine = "vllm"
	LlamaCPP Engine = "llama.cpp"
	External Engine = "external"
)

// Profile is one model.
type Profile struct {
	Name       string   // as the user and the container call it; no "/" in it
	Aliases    []string // other names that Resolve knows
	Title      string   // one line for people
	Model      string   // the weights' name on the hub, e.g. openai/gpt-oss-120b
	Served     string   // the name that the server answers to
	MaxContext int      // tokens; zero: unknown
	Engine     Engine
	Endpoint   string // http://… or unix://… of an existing server; empty: we start one

	Revision  string   // commit of the weights on the hub; empty: whatever main is
	WeightsGB int      // size of the download in GB; zero: unknown
	Include   []string // globs (path.Match) of the files that the server needs; empty: all
	Encodings bool     // needs tiktoken's vocabulary files offline

	ToolParser      string        // vLLM's --tool-call-parser; empty: no tools
	ReasoningParser string        // vLLM's --reasoning-parser; empty: none
	MaxSeqs         int           // requests that run at once; zero: the server's default
	GPUMemory       float64       // part of the GPU's memory to take, in (0, 1]; zero: the hardware's
	EnforceEager    bool          // vLLM: neither torch.compile nor graphs
	TrustRemoteCode bool          // vLLM: may run Python code that lies with the weights
	LlamaCPP        *GGUF         // the same model for llama.cpp; nil: there is none
	IdleStop        time.Duration // stop the server after so long without a request; zero: never

	Hardware Hardware // empty: found out on the machine
	Image    string   // of the container; empty: the hardware's
	Args     []string // further arguments of the server, which win over ours
	Env      []string // further variables NAME=VALUE, which win over ours
}

// GGUF is a model's weights for llama.cpp.
type GGUF struct {
	Repo     string   // on the hub
	Revision string   // commit; empty: whatever main is
	Include  []string // globs (path.Match) of the files; empty: File alone
	File     string   // what llama-server opens: the only file, or the first part
	GB       int      // size of the download in GB; zero: unknown
	Slots    int      // requests that run at once; zero: the server's default
	Args     []string // further arguments, before the user's
}

// Weights is what must be on the machine before the server can start.
type Weights struct {
	Repo      string   // on the hub; empty: nothing is needed
	Revision  string   // commit; empty: whatever main is
	Include   []string // globs (path.Match) of the files that are needed; empty: all
	GB        int      // size of the download in GB; zero: unknown
	Encodings bool     // tiktoken's vocabulary files too
}

// Weights returns what the profile's engine needs.
func (p Profile) Weights() Weights {
	switch {
	case p.Endpoint != "":
		return Weights{}
	case p.Engine == LlamaCPP && p.LlamaCPP != nil:
		g := p.LlamaCPP
		include := slices.Clone(g.Include)
		if len(include) == 0 {
			include = []string{g.File}
		}
		return Weights{Repo: g.Repo, Revision: g.Revision, Include: include, GB: g.GB}
	case p.Engine == VLLM:
		return Weights{Repo: p.Model, Revision: p.Revision, Include: slices.Clone(p.Include), GB: p.WeightsGB, Encodings: p.Encodings}
	}
	return Weights{}
}

// StandIn says that there is no language model behind this profile.
func (p Profile) StandIn() bool { return p.Engine == Demo }

// Controlled says that we start the server, without a network. Otherwise status
// and start line say that its network is not controlled.
func (p Profile) Controlled() bool { return p.Endpoint == "" && p.Engine != External }

// Resolve returns the known model of that name or alias; case does not count.
func Resolve(name string) (Profile, bool) {
	for _, p := range All() {
		if strings.EqualFold(p.Name, name) || slices.ContainsFunc(p.Aliases, func(a string) bool { return strings.EqualFold(a, name) }) {
			return p, true
		}
	}
	return Profile{}, false
}
