package config

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/policy"
)

var (
	modelName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$`)
	hostName  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
	sshTarget = regexp.MustCompile(`^[^\s\pC-][^\s\pC]{0,254}$`)
	release   = regexp.MustCompile(`^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$`)
	network   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$`)
	uniqueSix = netip.MustParsePrefix("fd00::/8")
)

// maxContext bounds a context size, in tokens. It is there to catch slips.
const maxContext = 1 << 27

// check looks at what the values mean, and fills in what follows from others.
func (r *report) check(c *Config, home string) {
	r.pools(c.Network)
	r.hosts(c.Hosts)
	r.models(c.Models, c.Hosts)
	r.rules(c.Policy.Allow)
	r.oneOf("audit.on_failure", string(c.Audit.OnFailure), string(FailDeny), string(FailContinue))
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

func (r *report) hosts(hosts []Host) {
	first := map[string]int{}
	for i := range hosts {
		h, at := &hosts[i], fmt.Sprintf("hosts[%d]", i)
		if !hostName.MatchString(h.Name) {
			r.add(at+".name", "not a name", "write letters, digits, dots, hyphens and underscores")
		} else if j, dup := first[strings.ToLower(h.Name)]; dup {
			r.add(at+".name", fmt.Sprintf("%s is the name of hosts[%d] already", quoted(h.Name), j), "names differ in more than case")
		} else {
			first[strings.ToLower(h.Name)] = i
		}
		if h.SSH == "" {
			h.SSH = h.Name
		} else if !sshTarget.MatchString(h.SSH) {
			r.add(at+".ssh", "not an SSH destination", "write user@host, user@host:port, or an alias of ~/.ssh/config")
		}
	}
}

func (r *report) models(models []Model, hosts []Host) {
	taken := map[string]string{}
	for i := range models {
		m, at := &models[i], fmt.Sprintf("models[%d]", i)
		r.name(taken, at+".name", m.Name)
		for j, alias := range m.Aliases {
			r.name(taken, fmt.Sprintf("%s.aliases[%d]", at, j), alias)
		}
		if m.Model != "" && !modelName.MatchString(m.Model) {
			r.add(at+".model", "not the name of a model", "write it as the server does, for example openai/gpt-oss-120b")
		}
		known := slices.ContainsFunc(hosts, func(h Host) bool { return h.Name == m.Host })
		if m.Host != "" && !known && !r.bad("hosts") {
			r.add(at+".host", "no host is called "+quoted(m.Host), hostHint(hosts))
		}
		if m.Context < 0 || m.Context > maxContext {
			r.add(at+".context", fmt.Sprintf("not from 0 to %d tokens", maxContext), "")
		}
		if strings.ContainsFunc(string(m.Token), func(c rune) bool { return c <= ' ' || c > '~' }) {
			r.add(at+".token", "holds spaces or other characters that no token has", "")
		}
		r.engine(at, m)
	}
}

// name checks that a model's name or alias is one, and nobody else's.
func (r *report) name(taken map[string]string, key, name string) {
	if !modelName.MatchString(name) {
		r.add(key, "not a name", "write letters, digits and . _ : / -, starting with a letter or digit")
		return
	}
	lower := strings.ToLower(name)
	if by, dup := taken[lower]; dup {
		r.add(key, fmt.Sprintf("%s is taken by %s", quoted(name), by), "names and aliases differ in more than case")
		return
	}
	taken[lower] = key
}

func (r *report) engine(at string, m *Model) {
	none := m.Endpoint == Endpoint{}
	switch {
	case m.Engine == "" && !none:
		m.Engine = EngineExternal
	case m.Engine == "":
	case m.Engine == EngineExternal && none:
		r.add(at+".endpoint", "missing, and an external model has one", "write http://host:port or unix:///path")
	case m.Engine == EngineDemo && (!none || m.Host != ""):
		r.add(at+".engine", "the demo model runs on this machine, in our own binary", "remove host and endpoint")
	default:
		r.oneOf(at+".engine", string(m.Engine), string(EngineVLLM), string(EngineLlamaCpp), string(EngineExternal), string(EngineDemo))
	}
}

func hostHint(hosts []Host) string {
	if len(hosts) == 0 {
		return "add it under hosts, or remove the line if the model is on this machine"
	}
	names := make([]string, len(hosts))
	for i, h := range hosts {
		names[i] = h.Name
	}
	return "hosts are: " + strings.Join(names, ", ")
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

func (r *report) agent(a Agent) {
	r.oneOf("agent.permission_mode", a.PermissionMode, "bypassPermissions", "acceptEdits", "default", "plan")
	r.oneOf("agent.terminal", string(a.Terminal), string(TerminalFiltered), string(TerminalRaw))
	if a.ClaudeVersion != "" && !release.MatchString(a.ClaudeVersion) {
		r.add("agent.claude_version", "not a release", "write three numbers, as in 2.1.331")
	}
	if a.Memory < 512e6 {
		r.add("agent.memory", "less than an agent needs", "write 512MB or more")
	}
	if a.Pids < 64 || a.Pids > 1<<22 {
		r.add("agent.pids", "not from 64 to 4194304", "")
	}
	if a.BuildNetwork != "" && !network.MatchString(a.BuildNetwork) {
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
