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
	Models  []Model `mapstructure:"models"`
	Policy  Policy  `mapstructure:"policy"`
	Audit   Audit   `mapstructure:"audit"`
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
}

// Model is a model that the user may name on the command line.
type Model struct {
	Name     string   `mapstructure:"name"`
	Aliases  []string `mapstructure:"aliases"`  // further names
	Model    string   `mapstructure:"model"`    // what the server calls it; empty: the profile's
	Host     string   `mapstructure:"host"`     // name of a Host; empty: this machine
	Engine   Engine   `mapstructure:"engine"`   // empty: external if Endpoint is set, else the profile's
	Endpoint Endpoint `mapstructure:"endpoint"` // a server that somebody else started; zero: none
	Context  int      `mapstructure:"context"`  // tokens; zero: the profile's, or as the server says
	Token    Secret   `mapstructure:"token"`    // sent to the server as a bearer token; empty: none
}

// Policy is what sandboxes may reach besides their model.
type Policy struct {
	Allow []policy.Rule `mapstructure:"allow"` // compiles: Load has tried it
}

// Audit says how the record is kept.
type Audit struct {
	Keep      Age       `mapstructure:"keep"`
	OnFailure OnFailure `mapstructure:"on_failure"`
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

// defaults holds a value for every key outside lists, by path. Without one here
// a key could not be set by an environment variable or a flag.
func defaults() map[string]any {
	return map[string]any{
		"network.pool":          "10.213.0.0/16",
		"network.pool6":         "fd53:616c:6c79::/48",
		"hosts":                 []any{},
		"models":                []any{},
		"policy.allow":          []any{},
		"audit.keep":            "90d",
		"audit.on_failure":      string(FailDeny),
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
