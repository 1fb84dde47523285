// Package config reads what a user set: the configuration file, environment
// variables and flags, in that order of rising weight, into typed values. It
// reports every problem at once, with file, line and key. It reads nothing but
// that one file, and never one from a project's folder; what the values mean is
// left to the packages that use them.
package config

import (
	"net/netip"

	"github.com/sallyport/sallyport/policy"
)

// Config is a checked configuration. The keys of the file are the fields' tags;
// the zero value is not usable, Load is the only source.
type Config struct {
	Path    string  `mapstructure:"-"` // the file that was read; empty if there is none
	Network Network `mapstructure:"network"`
	Hosts   []Host  `mapstructure:"hosts"`
	Local   Machine `mapstructure:"local"` // this machine, where it runs models
	Models  []Model `mapstructure:"models"`
	Hub     Hub     `mapstructure:"hub"`
	Policy  Policy  `mapstructure:"policy"`
	Audit   Audit   `mapstructure:"audit"`
	Web     Web     `mapstructure:"web"`
	Agent   Agent   `mapstructure:"agent"`
	SSH     SSH     `mapstructure:"ssh"`
	Docker  Docker  `mapstructure:"docker"`
}

// Network holds the sandboxes' addresses, which exist inside the wall only.
type Network struct {
	Pool  netip.Prefix `mapstructure:"pool"`  // private IPv4, a /31 per sandbox
	Pool6 netip.Prefix `mapstructure:"pool6"` // unique local IPv6, a /127 per sandbox
}

// Host is a machine that runs models, reached by SSH.
type Host struct {
	Name string `mapstructure:"name"` // how models refer to it
	SSH  string `mapstructure:"ssh"`  // "[user@]host[:port]" or an alias of ~/.ssh/config; absent: Name

	Machine `mapstructure:",squash"`
}

// Machine says how model servers are run on a machine. Its paths are that
// machine's; "~/" is the home of the login there, and left to whoever knows it.
type Machine struct {
	Runtime      Runtime  `mapstructure:"runtime"`
	EngineSocket string   `mapstructure:"engine_socket"` // path of Docker's or Podman's; empty: where they usually are
	Hardware     Hardware `mapstructure:"hardware"`      // empty: seen from its devices
	Weights      string   `mapstructure:"weights"`       // folder, laid out as the hub's cache; empty: $HF_HOME, else ~/.cache/huggingface
	Folder       string   `mapstructure:"folder"`        // for sockets, logs and caches; empty: ~/.cache/sallyport
}

// Model is a model that the user may name on the command line.
type Model struct {
	Name     string   `mapstructure:"name"`
	Aliases  []string `mapstructure:"aliases"`  // further names
	Model    string   `mapstructure:"model"`    // what the server calls it; empty: the profile's
	Host     string   `mapstructure:"host"`     // name of a Host; empty: Hosts, else this machine
	Hosts    []string `mapstructure:"hosts"`    // names of Hosts that serve the same model, instead of Host
	Engine   Engine   `mapstructure:"engine"`   // empty: external if Endpoint is set, else the profile's
	Endpoint Endpoint `mapstructure:"endpoint"` // a server that somebody else started; zero: none
	Context  int      `mapstructure:"context"`  // tokens; zero: the profile's, or as the server says
	Token    Secret   `mapstructure:"token"`    // sent to the server as a bearer token; empty: none

	// What a server of ours is started with. Zero: the profile's.
	Served    string   `mapstructure:"served"`     // what the server is to call the model; of an external one: what it does call it
	Revision  string   `mapstructure:"revision"`   // of the weights: a commit, branch or tag of the hub's
	Image     string   `mapstructure:"image"`      // of the server
	Args      []string `mapstructure:"args"`       // added to the server's command line
	Env       []string `mapstructure:"env"`        // added to its environment, each "NAME=value"
	GPUMemory float64  `mapstructure:"gpu_memory"` // fraction of the GPU's memory, above 0 and at most 1
	MaxSeqs   int      `mapstructure:"max_seqs"`   // requests that are worked on at once
	File      string   `mapstructure:"file"`       // the GGUF file within Model, for llama.cpp
	IdleStop  Idle     `mapstructure:"idle_stop"`  // after which a server without requests ends
	Pull      Pull     `mapstructure:"pull"`       // how weights are fetched; empty: PullProxy
}

// Places returns the names of the hosts that serve the model, the first choice
// first; "" is this machine.
func (m Model) Places() []string {
	if len(m.Hosts) > 0 {
		return m.Hosts
	}
	return []string{m.Host}
}

// Hub is where weights are pulled from.
type Hub struct {
	Endpoint string   `mapstructure:"endpoint"` // https://host or https://host:port
	Hosts    []string `mapstructure:"hosts"`    // further hosts, reached at port 443: those of a mirror's storage
	CA       string   `mapstructure:"ca"`       // absolute path of a PEM file that pulls trust too; empty: none
}

// Policy is what sandboxes may reach besides their model.
type Policy struct {
	Allow []policy.Rule `mapstructure:"allow"` // compiles: Load has tried it
}

// Audit says how the record is kept.
type Audit struct {
	Keep      Age       `mapstructure:"keep"`
	Max       Bytes     `mapstructure:"max"` // size of the record, of which the oldest goes first
	OnFailure OnFailure `mapstructure:"on_failure"`
	Sink      string    `mapstructure:"sink"`       // absolute path of a JSON Lines file that events are written to as well; empty: none
	SinkMax   Bytes     `mapstructure:"sink_max"`   // its size, at which it is rotated
	SinkFiles int64     `mapstructure:"sink_files"` // rotated ones that are kept
}

// Web says how the audit page is served, on this machine's loopback alone.
type Web struct {
	Serve Serve `mapstructure:"serve"`
	Port  int64 `mapstructure:"port"` // zero: any that is free
}

// Agent says how agents are run.
type Agent struct {
	PermissionMode string   `mapstructure:"permission_mode"` // Claude Code's, inside the sandbox
	ClaudeVersion  string   `mapstructure:"claude_version"`  // empty: the one this release was tested with
	Memory         Bytes    `mapstructure:"memory"`
	Pids           int64    `mapstructure:"pids"`
	Terminal       Terminal `mapstructure:"terminal"`
	ExtraCA        string   `mapstructure:"extra_ca"`      // absolute path of a PEM file; empty: none
	BuildNetwork   string   `mapstructure:"build_network"` // Docker network of image builds; empty: the engine's default
}

// SSH says how GPU hosts are reached.
type SSH struct {
	Config string `mapstructure:"config"` // absolute path; empty: ~/.ssh/config and the system's
}

// Docker says where the engine is.
type Docker struct {
	Host string `mapstructure:"host"` // as DOCKER_HOST; empty: DOCKER_HOST, else the local socket
}

// DefaultHub is where weights come from unless the configuration says otherwise.
const DefaultHub = "https://huggingface.co"

// defaults holds a value for every key outside lists, by path. Without one here
// a key could not be set by an environment variable or a flag.
func defaults() map[string]any {
	return map[string]any{
		"network.pool":          "10.213.0.0/16",
		"network.pool6":         "fd53:616c:6c79::/48",
		"hosts":                 []any{},
		"models":                []any{},
		"local.runtime":         string(RuntimeAuto),
		"local.engine_socket":   "",
		"local.hardware":        "",
		"local.weights":         "",
		"local.folder":          "",
		"hub.endpoint":          DefaultHub,
		"hub.hosts":             []any{},
		"hub.ca":                "",
		"policy.allow":          []any{},
		"audit.keep":            "90d",
		"audit.max":             "2GB",
		"audit.on_failure":      string(FailDeny),
		"audit.sink":            "",
		"audit.sink_max":        "64MB",
		"audit.sink_files":      5,
		"web.serve":             string(ServeLoopback),
		"web.port":              0,
		"agent.permission_mode": "bypassPermissions",
		"agent.claude_version":  "",
		"agent.memory":          "8GB",
		"agent.pids":            4096,
		"agent.terminal":        string(TerminalFiltered),
		"agent.extra_ca":        "",
		"agent.build_network":   "",
		"ssh.config":            "",
		"docker.host":           "",
	}
}
