package config

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

var (
	modelName = lazily(`^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$`)
	revision  = lazily(`^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$`)
	// imageName is loose: the engine knows the rest.
	imageName = lazily(`^[a-z0-9][A-Za-z0-9._:/@-]{0,254}$`)
	variable  = lazily(`^[A-Za-z_][A-Za-z0-9_]{0,127}=`)
)

const (
	maxContext = 1 << 27 // tokens; it is there to catch slips
	maxSeqs    = 4096    // requests at once, likewise
	maxServer  = 63      // bytes of a server's name: it is part of a container's
	maxWord    = 4096    // bytes of an argument or a variable
)

func (r *report) models(models []Model, hosts []Host) {
	taken := map[string]string{}
	for i := range models {
		m, at := &models[i], fmt.Sprintf("models[%d]", i)
		r.name(taken, at+".name", m.Name)
		for j, alias := range m.Aliases {
			r.name(taken, fmt.Sprintf("%s.aliases[%d]", at, j), alias)
		}
		if m.Model != "" && !modelName().MatchString(m.Model) {
			r.add(at+".model", "not the name of a model", "write it as the server does, for example openai/gpt-oss-120b")
		}
		r.places(at, *m, hosts)
		if m.Context < 0 || m.Context > maxContext {
			r.add(at+".context", fmt.Sprintf("not from 0 to %d tokens", maxContext), "")
		}
		if strings.ContainsFunc(string(m.Token), func(c rune) bool { return c <= ' ' || c > '~' }) {
			r.add(at+".token", "holds spaces or other characters that no token has", "")
		}
		r.engine(at, m)
		r.server(at, *m)
	}
}

// name checks that a model's name or alias is one, and nobody else's.
func (r *report) name(taken map[string]string, key, name string) {
	if !modelName().MatchString(name) {
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
	case m.Engine == EngineDemo && (!none || m.Host != "" || len(m.Hosts) > 0):
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

// places checks where a model is served.
func (r *report) places(at string, m Model, hosts []Host) {
	known := func(key, name string) {
		if !slices.ContainsFunc(hosts, func(h Host) bool { return h.Name == name }) && !r.bad("hosts") {
			r.add(key, "no host is called "+quoted(name), hostHint(hosts))
		}
	}
	if m.Host != "" {
		known(at+".host", m.Host)
	}
	if m.Host != "" && len(m.Hosts) > 0 {
		r.add(at+".hosts", "host is given too", "remove one of the two")
	}
	for i, name := range m.Hosts {
		key := fmt.Sprintf("%s.hosts[%d]", at, i)
		if slices.Contains(m.Hosts[:i], name) {
			r.add(key, quoted(name)+" is given twice", "remove one")
			continue
		}
		known(key, name)
	}
}

// server checks what a server is started with, and that nothing of it is said of
// a server that we do not start.
func (r *report) server(at string, m Model) {
	if m.Served != "" && !modelName().MatchString(m.Served) {
		r.add(at+".served", "not the name of a model", "write letters, digits and . _ : / -")
	}
	if m.Endpoint != (Endpoint{}) || m.Engine == EngineDemo || m.Engine == EngineExternal {
		r.notOurs(at, m)
		return
	}
	if strings.ContainsAny(m.Name, "/:") {
		r.add(at+".name", "a server that Sallyport starts has no / and no : in its name", "choose another name, and set model to "+quoted(m.Name))
	} else if len(m.Name) > maxServer {
		r.add(at+".name", fmt.Sprintf("too long for a server that Sallyport starts (%d letters at most)", maxServer), "choose a shorter name")
	}
	if strings.Contains(m.Served, "/") { // vLLM docs/serving/integrations/claude_code.md@0e49608
		r.add(at+".served", "Claude Code cannot use a name with /", "choose one without")
	}
	if m.Revision != "" && (!revision().MatchString(m.Revision) || strings.Contains(m.Revision, "..")) {
		r.add(at+".revision", "not a revision", "write a commit's hash, or a branch or tag of the hub's")
	}
	if m.Image != "" && !imageName().MatchString(m.Image) {
		r.add(at+".image", "not the name of an image", "write for example docker.io/kyuz0/vllm-therock-gfx1151:stable")
	}
	r.words(at, m)
	if m.GPUMemory < 0 || m.GPUMemory > 1 {
		r.add(at+".gpu_memory", "not a fraction from 0 to 1", "write for example 0.90")
	}
	if m.MaxSeqs < 0 || m.MaxSeqs > maxSeqs {
		r.add(at+".max_seqs", fmt.Sprintf("not from 0 to %d requests", maxSeqs), "")
	}
	if f := m.File; f != "" && (!path.IsAbs("/"+f) || path.Clean("/"+f) != "/"+f || !strings.HasSuffix(f, ".gguf") || hasControls(f)) {
		r.add(at+".file", "not a GGUF file within the model", "write its path there, for example gpt-oss-120b-Q6_K.gguf")
	}
	if m.Pull != "" {
		r.oneOf(at+".pull", string(m.Pull), string(PullProxy), string(PullDirect))
	}
}

// words checks arguments and variables.
func (r *report) words(at string, m Model) {
	for i, arg := range m.Args {
		if arg == "" || len(arg) > maxWord || hasControls(arg) {
			r.add(fmt.Sprintf("%s.args[%d]", at, i), "empty, too long, or with control characters", "write one argument, for example --enforce-eager")
		}
	}
	for i, pair := range m.Env {
		key := fmt.Sprintf("%s.env[%d]", at, i)
		if !variable().MatchString(pair) || len(pair) > maxWord || hasControls(pair) {
			r.add(key, "not a variable", `write "NAME=value"`)
		} else if strings.HasPrefix(pair, "HF_TOKEN=") || strings.HasPrefix(pair, "HUGGING_FACE_HUB_TOKEN=") {
			r.add(key, "a token of the hub's is not kept in a file, and a server has no use for it", "set HF_TOKEN in the environment of launcher pull")
		}
	}
}

// notOurs reports what has no effect on a server that somebody else started.
func (r *report) notOurs(at string, m Model) {
	for _, k := range []struct {
		name string
		set  bool
	}{
		{"revision", m.Revision != ""}, {"image", m.Image != ""}, {"args", len(m.Args) > 0}, {"env", len(m.Env) > 0},
		{"gpu_memory", m.GPUMemory != 0}, {"max_seqs", m.MaxSeqs != 0}, {"file", m.File != ""},
		{"idle_stop", m.IdleStop != 0}, {"pull", m.Pull != ""},
	} {
		if k.set {
			r.add(at+"."+k.name, "has no effect on a server that Sallyport does not start", "remove it, or remove endpoint and engine")
		}
	}
}

func hasControls(s string) bool {
	return strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c == 0x7f })
}
