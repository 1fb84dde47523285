package config

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/policy"
)

var (
	release   = lazily(`^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$`)
	network   = lazily(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$`)
	uniqueSix = netip.MustParsePrefix("fd00::/8")
)

// check looks at what the values mean, and fills in what follows from others.
func (r *report) check(c *Config, home string) {
	r.pools(c.Network)
	r.hosts(c.Hosts)
	r.machine("local", &c.Local)
	r.models(c.Models, c.Hosts)
	r.hub(c.Hub)
	c.Hub.CA = r.path("hub.ca", c.Hub.CA, home)
	r.rules(c.Policy.Allow)
	r.oneOf("audit.on_failure", string(c.Audit.OnFailure), string(FailDeny), string(FailContinue))
	r.record(c.Audit)
	c.Audit.Sink = r.path("audit.sink", c.Audit.Sink, home)
	r.oneOf("web.serve", string(c.Web.Serve), string(ServeLoopback), string(ServeNever))
	if c.Web.Port < 0 || c.Web.Port > math.MaxUint16 {
		r.add("web.port", "not a port", "write a number from 1 to 65535, or 0 for any that is free")
	}
	r.agent(c.Agent)
	c.Agent.ExtraCA = r.path("agent.extra_ca", c.Agent.ExtraCA, home)
	c.SSH.Config = r.path("ssh.config", c.SSH.Config, home)
	r.docker(c.Docker)
}

func (r *report) pools(n Network) {
	for _, p := range []struct {
		key  string
		pool netip.Prefix
	}{{"network.pool", n.Pool}, {"network.pool6", n.Pool6}} {
		if p.pool.IsValid() && p.pool != p.pool.Masked() {
			r.add(p.key, fmt.Sprintf("%s is an address inside a network", p.pool), "write "+p.pool.Masked().String())
		}
	}
	if p := n.Pool; !p.IsValid() || !p.Addr().Is4() || !p.Addr().IsPrivate() || p.Bits() < 8 || p.Bits() > 31 {
		r.add("network.pool", "not a private IPv4 network with at least two addresses", "write for example 10.213.0.0/16")
	}
	if p := n.Pool6; !p.IsValid() || !uniqueSix.Contains(p.Addr()) || p.Bits() < 8 || p.Bits() > 127 {
		r.add("network.pool6", "not a unique local IPv6 network (fd00::/8) with at least two addresses", "write for example fd53:616c:6c79::/48")
	}
	if !r.bad("network") && 127-n.Pool6.Bits() < 31-n.Pool.Bits() {
		r.add("network.pool6", fmt.Sprintf("%s holds fewer sandboxes than %s", n.Pool6, n.Pool), "write a shorter prefix length")
	}
}

func (r *report) rules(rules []policy.Rule) {
	_, err := policy.New(rules)
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return
	}
	for _, e := range joined.Unwrap() {
		var rule *policy.RuleError
		if errors.As(e, &rule) {
			message, hint, _ := strings.Cut(rule.Err.Error(), "; ")
			r.add(fmt.Sprintf("policy.allow[%d]", rule.Index), message, hint)
		}
	}
}

func (r *report) record(a Audit) {
	if a.Max < 10e6 {
		r.add("audit.max", "less than a record needs", "write 10MB or more")
	}
	if a.SinkMax < 100e3 {
		r.add("audit.sink_max", "so small that files would be rotated all the time", "write 100KB or more")
	}
	if a.SinkFiles < 1 || a.SinkFiles > 1000 {
		r.add("audit.sink_files", "not a number of files to keep", "write a number from 1 to 1000")
	}
}

func (r *report) agent(a Agent) {
	r.oneOf("agent.permission_mode", a.PermissionMode, "bypassPermissions", "acceptEdits", "default", "plan")
	r.oneOf("agent.terminal", string(a.Terminal), string(TerminalFiltered), string(TerminalRaw))
	if a.ClaudeVersion != "" && !release().MatchString(a.ClaudeVersion) {
		r.add("agent.claude_version", "not a release", "write three numbers, as in 2.1.331")
	}
	if a.Memory < 512e6 {
		r.add("agent.memory", "less than an agent needs", "write 512MB or more")
	}
	if a.Pids < 64 || a.Pids > 1<<22 {
		r.add("agent.pids", "not from 64 to 4194304", "")
	}
	if a.BuildNetwork != "" && !network().MatchString(a.BuildNetwork) {
		r.add("agent.build_network", "not the name of a Docker network", `write for example "host"`)
	}
}

func (r *report) docker(d Docker) {
	if d.Host == "" {
		return
	}
	scheme, rest, _ := strings.Cut(d.Host, "://")
	if scheme == "unix" {
		if err := checkUnixPath(rest); err != nil {
			message, hint := describe(err)
			r.add("docker.host", message, hint)
		}
		return
	}
	if (scheme != "tcp" && scheme != "ssh") || rest == "" {
		r.add("docker.host", "not the address of an engine", "write unix:///path/to/docker.sock")
	}
}

// oneOf checks a value that is one of a few words.
func (r *report) oneOf(key, value string, words ...string) {
	if !slices.Contains(words, value) {
		r.add(key, fmt.Sprintf("%s is none of the values there are", quoted(value)), "write "+strings.Join(words[:len(words)-1], ", ")+" or "+words[len(words)-1])
	}
}

// path expands "~/" and checks that a file's path is absolute.
func (r *report) path(key, value, home string) string {
	if rest, ok := strings.CutPrefix(value, "~/"); ok && filepath.IsAbs(home) {
		value = filepath.Join(home, rest)
	}
	if value != "" && !filepath.IsAbs(value) {
		r.add(key, "not an absolute path", "start it with / or ~/")
	}
	return value
}
