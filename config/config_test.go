package config_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/sallyport/sallyport/config"
	"github.com/sallyport/sallyport/policy"
)

var update = flag.Bool("update", false, "write the golden files anew")

// Each testdata/invalid-*.yaml has its exact message beside it.
func TestInvalid(t *testing.T) {
	files, err := filepath.Glob("testdata/invalid-*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(file, func(t *testing.T) {
			c, err := config.Load(config.Options{Path: file})
			var problems *config.Error
			if c != nil || !errors.As(err, &problems) {
				t.Fatalf("got %v, %v; want an Error", c, err)
			}
			golden := strings.TrimSuffix(file, ".yaml") + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(err.Error()+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, readErr := os.ReadFile(golden)
			if readErr != nil {
				t.Fatal(readErr)
			}
			if diff := cmp.Diff(string(want), err.Error()+"\n"); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func environ(pairs ...string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		for _, p := range pairs {
			if n, v, _ := strings.Cut(p, "="); n == name {
				return v, true
			}
		}
		return "", false
	}
}

// write puts a configuration into a new file.
func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func load(t *testing.T, o config.Options) *config.Config {
	t.Helper()
	c, err := config.Load(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const defaultsWanted = `network 10.213.0.0/16 fd53:616c:6c79::/48 hosts [] local {auto    } models [] hub {https://huggingface.co [] } allow [] audit {7776000000000000 2000000000 deny  64000000 5} web {loopback 0} ` +
	`agent {bypassPermissions  8000000000 4096 filtered  } ssh {} docker {}`

func summary(c *config.Config) string {
	return fmt.Sprintf("network %s %s hosts %v local %v models %v hub %v allow %v audit %v web %v agent %v ssh %v docker %v", c.Network.Pool, c.Network.Pool6,
		c.Hosts, c.Local, c.Models, c.Hub, c.Policy.Allow, c.Audit, c.Web, c.Agent, c.SSH, c.Docker)
}

// No file, an empty one, and one of empty sections are the defaults.
func TestDefaults(t *testing.T) {
	home := t.TempDir()
	c := load(t, config.Options{Home: home})
	if got := summary(c); got != defaultsWanted || c.Path != "" {
		t.Errorf("no file: %q\n%s, want\n%s", c.Path, got, defaultsWanted)
	}
	for _, text := range []string{"", "# nothing\n", "---\n", "network:\nhosts:\nlocal:\nmodels:\nhub:\npolicy:\naudit:\nweb:\nagent:\nssh:\ndocker:\n", "policy:\n  allow:\n", "{}", "audit: {}"} {
		path := write(t, text)
		if c := load(t, config.Options{Path: path}); summary(c) != defaultsWanted || c.Path != path {
			t.Errorf("%q: %s, want\n%s", text, summary(c), defaultsWanted)
		}
	}
}

func TestFull(t *testing.T) {
	c := load(t, config.Options{Home: "/home/me", Path: write(t, `
network: {pool: 192.168.4.0/31, pool6: "fd00:1::/64"}
hosts:
  - {name: strix, ssh: me@strix.lan:2222}
  - {name: alias.of.ssh, runtime: podman, engine_socket: /run/p.sock, hardware: strix-halo, weights: ~/hf, folder: /srv/me}
local: {runtime: process, hardware: cpu, weights: /hf, folder: ~/.s}
models:
  - {name: gpt-oss, aliases: [oss, API.Example.COM], model: openai/gpt-oss-120b, host: strix, engine: vllm, context: 131072}
  - {name: mine, endpoint: "http://[::1]:8000/", token: s3cret}
  - {name: sock, endpoint: unix:///run/llama/server.sock, host: alias.of.ssh, engine: llama.cpp}
  - {name: ours, hosts: [strix, alias.of.ssh], served: x, revision: abc/1, image: "h:5000/a/b@sha256:00", args: [--a, b c], env: [A=b=c], gpu_memory: 1, max_seqs: 4, file: a/b.gguf, idle_stop: 2h, pull: direct}
  - {name: two, gpu_memory: 0.9, idle_stop: never}
hub: {endpoint: "https://mirror.example:8443/", hosts: [cdn.example], ca: ~/ca.pem}
policy:
  allow:
    - {host: "*.Example.org", ports: [443, 8443], why: docs}
audit: {keep: forever, max: 1GiB, on_failure: continue, sink: ~/s.jsonl, sink_max: 1MB, sink_files: 2}
web: {serve: never, port: 8765}
agent: {permission_mode: plan, claude_version: 2.1.331, memory: 4GiB, pids: 100, terminal: raw, extra_ca: ~/ca.pem, build_network: host}
ssh: {config: /etc/ssh/other}
docker: {host: unix:///run/docker.sock}
`)})
	want := &config.Config{
		Path:    c.Path,
		Network: c.Network, // compared below: netip.Prefix has hidden fields
		Hosts: []config.Host{{Name: "strix", SSH: "me@strix.lan:2222", Machine: config.Machine{Runtime: config.RuntimeAuto}},
			{Name: "alias.of.ssh", SSH: "alias.of.ssh", Machine: config.Machine{Runtime: config.RuntimePodman, EngineSocket: "/run/p.sock",
				Hardware: config.HardwareStrixHalo, Weights: "~/hf", Folder: "/srv/me"}}},
		Local: config.Machine{Runtime: config.RuntimeProcess, Hardware: config.HardwareCPU, Weights: "/hf", Folder: "~/.s"},
		Hub:   config.Hub{Endpoint: "https://mirror.example:8443/", Hosts: []string{"cdn.example"}, CA: "/home/me/ca.pem"},
		Models: []config.Model{
			{Name: "gpt-oss", Aliases: []string{"oss", "API.Example.COM"}, Model: "openai/gpt-oss-120b", Host: "strix", Engine: config.EngineVLLM, Context: 131072},
			{Name: "mine", Engine: config.EngineExternal, Endpoint: config.Endpoint{Network: "tcp", Address: "[::1]:8000"}, Token: "s3cret"},
			{Name: "sock", Host: "alias.of.ssh", Engine: config.EngineLlamaCpp, Endpoint: config.Endpoint{Network: "unix", Address: "/run/llama/server.sock"}},
			{Name: "ours", Hosts: []string{"strix", "alias.of.ssh"}, Served: "x", Revision: "abc/1", Image: "h:5000/a/b@sha256:00", Args: []string{"--a", "b c"},
				Env: []string{"A=b=c"}, GPUMemory: 1, MaxSeqs: 4, File: "a/b.gguf", IdleStop: config.Idle(2 * time.Hour), Pull: config.PullDirect},
			{Name: "two", GPUMemory: 0.9, IdleStop: config.NeverIdle},
		},
		Policy: config.Policy{Allow: []policy.Rule{{Host: "*.Example.org", Ports: []uint16{443, 8443}, Why: "docs"}}},
		Audit:  config.Audit{Max: 1 << 30, OnFailure: config.FailContinue, Sink: "/home/me/s.jsonl", SinkMax: 1e6, SinkFiles: 2},
		Web:    config.Web{Serve: config.ServeNever, Port: 8765},
		Agent: config.Agent{PermissionMode: "plan", ClaudeVersion: "2.1.331", Memory: 4 << 30, Pids: 100, Terminal: config.TerminalRaw,
			ExtraCA: "/home/me/ca.pem", BuildNetwork: "host"},
		SSH:    config.SSH{Config: "/etc/ssh/other"},
		Docker: config.Docker{Host: "unix:///run/docker.sock"},
	}
	ignore := cmp.Comparer(func(a, b config.Network) bool { return a == b })
	if diff := cmp.Diff(want, c, ignore); diff != "" {
		t.Error(diff)
	}
	if got := c.Network.Pool.String() + " " + c.Network.Pool6.String(); got != "192.168.4.0/31 fd00:1::/64" {
		t.Error(got)
	}
	if got := fmt.Sprintf("%v %+v %#v %s", c.Models, c.Models[1], c.Models[1], c.Models[1].Token); strings.Contains(got, "s3cret") {
		t.Errorf("a token is printed: %s", got)
	}
	for i, want := range []string{"", "http://[::1]:8000", "unix:///run/llama/server.sock"} {
		if got := c.Models[i].Endpoint.String(); got != want {
			t.Errorf("endpoint %d reads %q, want %q", i, got, want)
		}
	}
}

// A flag weighs more than a variable, a variable more than the file, the file
// more than a default.
func TestPrecedence(t *testing.T) {
	path := write(t, "audit: {keep: 1d}\nagent: {pids: 100, memory: 1GB, terminal: raw}\n")
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	flags.Int("agent-pids", 7, "")
	flags.String("agent-memory", "7GB", "")
	flags.String("audit-keep", "", "")
	flags.String("unrelated", "", "")
	if err := flags.Parse([]string{"--agent-pids=300"}); err != nil {
		t.Fatal(err)
	}
	c := load(t, config.Options{Path: path, Flags: flags, Environ: environ(
		"SALLYPORT_AGENT_PIDS=200", "SALLYPORT_AGENT_MEMORY=2GB", "SALLYPORT_NETWORK_POOL=10.9.0.0/24", "SALLYPORT_AUDIT_KEEP=",
		"SALLYPORT_HOSTS=x", "SALLYPORT_POLICY_ALLOW=*", "AGENT_TERMINAL=filtered")})
	if c.Agent.Pids != 300 || c.Agent.Memory != 2e9 || c.Agent.Terminal != config.TerminalRaw || c.Network.Pool.String() != "10.9.0.0/24" ||
		c.Audit.Keep != config.Age(24*60*60*1e9) || len(c.Hosts)+len(c.Policy.Allow) != 0 {
		t.Error(summary(c))
	}
	// Variables and flags reach a key of a section that the file leaves empty.
	for range 20 { // viper's order of keys is a map's
		c = load(t, config.Options{Path: write(t, "agent:\n"), Flags: flags})
		if c.Agent.Pids != 300 || c.Agent.Memory != 8e9 {
			t.Fatal(summary(c))
		}
	}
	c = load(t, config.Options{Path: write(t, "agent:\n"), Environ: environ("SALLYPORT_AGENT_PIDS=200")})
	if c.Agent.Pids != 200 || c.Agent.Memory != 8e9 {
		t.Error(summary(c))
	}
}

// Variables and flags are as strict as the file, and named in errors.
func TestOverridesAreStrict(t *testing.T) {
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	flags.String("agent-pids", "", "")
	flags.String("agent-terminal", "", "")
	if err := flags.Parse([]string{"--agent-pids=0x50", "--agent-terminal=pretty"}); err != nil {
		t.Fatal(err)
	}
	_, err := config.Load(config.Options{Path: write(t, "network: {pool6: x}\n"), Flags: flags, Environ: environ(
		"SALLYPORT_NETWORK_POOL=10.0.0.0/99", "SALLYPORT_NETWORK_POOL6=fd00::1/64", "SALLYPORT_AGENT_MEMORY=8", "SALLYPORT_AUDIT_KEEP=soon")})
	var problems *config.Error
	if !errors.As(err, &problems) {
		t.Fatal(err)
	}
	want := []string{
		"--agent-pids: agent.pids: must be a whole number",
		"--agent-terminal: agent.terminal: \"pretty\" is none of the values there are (write filtered or raw)",
		"SALLYPORT_AGENT_MEMORY: agent.memory: not an amount of memory (write for example 8GB, 512MB or 4GiB)",
		"SALLYPORT_AUDIT_KEEP: audit.keep: not a time span (write for example 90d, 12h, 2w or forever)",
		"SALLYPORT_NETWORK_POOL6: network.pool6: fd00::1/64 is an address inside a network (write fd00::/64)",
		"SALLYPORT_NETWORK_POOL: network.pool: not a network (write its first address and the prefix length, as in 10.213.0.0/16 or fd53:616c:6c79::/48)",
	}
	got := map[string]bool{}
	for _, p := range problems.Problems {
		got[p.String()] = true
	}
	for _, w := range want {
		if !got[w] {
			t.Errorf("missing: %s", w)
		}
	}
	if len(got) != len(want) {
		t.Errorf("got %d problems, want %d:\n%v", len(got), len(want), err)
	}
	if _, err := config.Load(config.Options{Home: t.TempDir(), Environ: environ("SALLYPORT_AGENT_PIDS=1e3")}); err == nil ||
		err.Error() != "SALLYPORT_AGENT_PIDS: agent.pids: not a whole number, or too large" {
		t.Error(err)
	}
}

func TestDefaultPath(t *testing.T) {
	for _, c := range []struct{ xdg, home, want string }{
		{"/xdg", "/home/me", "/xdg/sallyport/config.yaml"},
		{"", "/home/me", "/home/me/.config/sallyport/config.yaml"},
		{"relative", "/home/me", "/home/me/.config/sallyport/config.yaml"},
		{"", "", ""},
		{"", "relative", ""},
	} {
		if got := config.DefaultPath(environ("XDG_CONFIG_HOME="+c.xdg), c.home); got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
	if got := config.DefaultPath(nil, "/home/me"); got != "/home/me/.config/sallyport/config.yaml" {
		t.Error(got)
	}
	if _, err := config.Load(config.Options{}); err == nil {
		t.Error("loaded without knowing from where")
	}
}

// A project cannot bring a configuration of its own.
func TestProjectFolderIsNotRead(t *testing.T) {
	project := t.TempDir()
	for _, name := range []string{"config.yaml", "sallyport.yaml", ".sallyport.yaml", "sallyport/config.yaml", ".config/sallyport/config.yaml"} {
		file := filepath.Join(project, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte("policy: {allow: [{host: evil.example.com, ports: [443]}]}"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(project)
	if c := load(t, config.Options{Home: t.TempDir(), Environ: environ("XDG_CONFIG_HOME=.")}); len(c.Policy.Allow) != 0 || c.Path != "" {
		t.Errorf("read %s: %s", c.Path, summary(c))
	}
	if c := load(t, config.Options{Home: project}); len(c.Policy.Allow) != 1 {
		t.Error("the user's own file was not read")
	}
}

// A report has an end.
func TestManyProblems(t *testing.T) {
	_, err := config.Load(config.Options{Path: write(t, "hosts:\n"+strings.Repeat("- x\n", 50_000))})
	var problems *config.Error
	if !errors.As(err, &problems) || len(problems.Problems) != 100 {
		t.Errorf("%.200v", err)
	}
}

func TestUnreadable(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{filepath.Join(dir, "absent.yaml"), dir, write(t, strings.Repeat("#", 1<<20+1))} {
		if _, err := config.Load(config.Options{Path: path}); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
