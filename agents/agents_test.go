package agents

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/policy"
)

func options() Options {
	return Options{
		BaseURL: "http://10.213.0.0:8000", ProxyURL: "http://10.213.0.0:3128", Model: "gpt-oss", MaxContext: 131072,
		Project: "/src/app", HomeDir: "/home/agent", Git: GitIdentity{Name: "Ada", Email: "ada@mail.example"},
	}
}

func managed(t *testing.T, p Profile) settings {
	t.Helper()
	for _, f := range p.Files {
		if f.Path == "/etc/claude-code/managed-settings.json" {
			if f.Mode != 0o444 {
				t.Errorf("managed settings have mode %o, want read-only", f.Mode)
			}
			var s settings
			if err := json.Unmarshal(f.Data, &s); err != nil {
				t.Fatal(err)
			}
			return s
		}
	}
	t.Fatal("no managed settings")
	return settings{}
}

func TestClaudeSettings(t *testing.T) {
	p, err := Claude(options())
	if err != nil {
		t.Fatal(err)
	}
	s := managed(t, p)
	for key, want := range map[string]string{
		"ANTHROPIC_BASE_URL":                       "http://10.213.0.0:8000",
		"ANTHROPIC_MODEL":                          "gpt-oss",
		"ANTHROPIC_DEFAULT_HAIKU_MODEL":            "gpt-oss",
		"CLAUDE_CODE_SUBAGENT_MODEL":               "gpt-oss",
		"CLAUDE_CODE_MAX_CONTEXT_TOKENS":           "131072",
		"CLAUDE_CODE_MAX_OUTPUT_TOKENS":            "16384",
		"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
		"API_TIMEOUT_MS":                           "3600000",
		"HTTPS_PROXY":                              "http://10.213.0.0:3128",
		"NO_PROXY":                                 "10.213.0.0,localhost,127.0.0.1,::1",
	} {
		if got := s.Env[key]; got != want {
			t.Errorf("%s = %q, want %q", key, got, want)
		}
	}
	if s.Permissions.DefaultMode != "bypassPermissions" || !s.SkipDangerousModePermissionPrompt {
		t.Errorf("permissions = %+v, would ask at the start", s.Permissions)
	}
	if !slices.Equal(s.Permissions.Deny, []string{"WebFetch", "WebSearch"}) {
		t.Errorf("deny = %v", s.Permissions.Deny)
	}
}

// A variable that is absent from the managed settings can be set by a
// repository's .claude/settings.json: then the agent would ask another server.
func TestARepositoryCannotPointItElsewhere(t *testing.T) {
	p, err := Claude(options())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range p.Files {
		if strings.HasSuffix(f.Path, "managed-settings.json") && !strings.Contains(string(f.Data), `"apiKeyHelper": ""`) {
			t.Error("apiKeyHelper is not overridden")
		}
	}
	env := managed(t, p).Env
	for _, key := range []string{
		"ANTHROPIC_BASE_URL", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_API_KEY", "ANTHROPIC_UNIX_SOCKET", "ANTHROPIC_CUSTOM_HEADERS", "CLAUDE_CODE_EXTRA_BODY",
		"CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX", "CLAUDE_CODE_USE_FOUNDRY", "CLAUDE_CODE_USE_MANTLE", "CLAUDE_CODE_USE_GATEWAY",
		"CLAUDE_CODE_USE_ANTHROPIC_AWS", "CLAUDE_CODE_USE_ANTHROPIC_GOOGLE_CLOUD",
		"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
	} {
		if _, ok := env[key]; !ok {
			t.Errorf("%s is not set: a repository could set it", key)
		}
	}
}

func TestProfiles(t *testing.T) {
	o := options()
	o.Args = []string{"-p", "hello"}
	for name, c := range map[string]struct {
		make    func(Options) (Profile, error)
		args    []string
		command []string
	}{
		"claude": {Claude, o.Args, []string{"claude", "-p", "hello"}},
		"shell":  {Shell, nil, []string{"/bin/bash", "-l"}},
		"run":    {Run, []string{"make", "test"}, []string{"make", "test"}},
	} {
		o.Args = c.args
		p, err := c.make(o)
		if err != nil {
			t.Fatal(err)
		}
		if p.Name != name || !slices.Equal(p.Command, c.command) {
			t.Errorf("%s: got %s %q", name, p.Name, p.Command)
		}
		want := []policy.Endpoint{{Method: "POST", Path: "/v1/messages"}, {Method: "POST", Path: "/v1/messages/count_tokens"}}
		if !slices.Equal(p.Endpoints, want) {
			t.Errorf("%s: endpoints %v", name, p.Endpoints)
		}
		if !slices.IsSorted(p.Env) || !slices.Contains(p.Env, "HOME=/home/agent") || !slices.Contains(p.Env, "NO_PROXY=10.213.0.0,localhost,127.0.0.1,::1") {
			t.Errorf("%s: env %q", name, p.Env)
		}
	}
}

func TestMemoryTellsTheModelItsNetwork(t *testing.T) {
	p, err := Claude(options())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(p.Files, func(f File) bool { return f.Path == "/etc/claude-code/CLAUDE.md" })
	if i < 0 || !strings.Contains(string(p.Files[i].Data), "WebFetch and WebSearch are denied") {
		t.Error("the model is not told why WebFetch fails")
	}
}

func TestContextLeavesRoomForTheAnswer(t *testing.T) {
	for _, c := range []struct {
		context int
		output  string
	}{{8192, "1024"}, {131072, "16384"}, {262144, "32000"}, {2048, "1024"}} {
		if got := contextVariables(c.context)["CLAUDE_CODE_MAX_OUTPUT_TOKENS"]; got != c.output {
			t.Errorf("context %d: output %s, want %s", c.context, got, c.output)
		}
	}
	if len(contextVariables(0)) != 0 {
		t.Error("an unknown context length was told all the same")
	}
}

func TestBadOptions(t *testing.T) {
	for want, change := range map[string]func(*Options){
		`model endpoint "" is not an http address`:            func(o *Options) { o.BaseURL = "" },
		`model endpoint "https://x" is not an http address`:   func(o *Options) { o.BaseURL = "https://x" },
		`forward proxy "10.0.0.1:1" is not an http address`:   func(o *Options) { o.ProxyURL = "10.0.0.1:1" },
		`project folder "src" is not an absolute path`:        func(o *Options) { o.Project = "src" },
		`home "" is not an absolute path`:                     func(o *Options) { o.HomeDir = "" },
		`no model name`:                                       func(o *Options) { o.Model = "" },
		`context length -1 is negative`:                       func(o *Options) { o.MaxContext = -1 },
		`permission mode "auto" is none of bypassPermissions`: func(o *Options) { o.PermissionMode = "auto" },
	} {
		o := options()
		change(&o)
		for _, make := range []func(Options) (Profile, error){Claude, Shell, Run} {
			if _, err := make(o); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error %v, want %q", err, want)
			}
		}
	}
}

// Each of Claude Code's limits on a silent request lets twelve minutes of prefill
// pass, the header's silence included, and stays within its own bounds.
func TestTwelveMinutesOfPrefillPass(t *testing.T) {
	const prefill, most = 12 * 60_000, 1<<31 - 1
	p, err := Claude(options())
	if err != nil {
		t.Fatal(err)
	}
	env := managed(t, p).Env
	for key, bound := range map[string]int{
		"API_TIMEOUT_MS":                      most,
		"CLAUDE_STREAM_IDLE_TIMEOUT_MS":       most,
		"CLAUDE_BYTE_STREAM_IDLE_TIMEOUT_MS":  30 * 60_000,
		"CLAUDE_ASYNC_AGENT_STALL_TIMEOUT_MS": most,
	} {
		if ms, err := strconv.Atoi(env[key]); err != nil || ms <= prefill || ms > bound {
			t.Errorf("%s = %q", key, env[key])
		}
	}
	if env["API_FORCE_IDLE_TIMEOUT"] != "0" {
		t.Error("the body's idle timeout of five minutes is on")
	}
	if _, ok := env["CLAUDE_ENABLE_STREAM_WATCHDOG"]; ok {
		t.Error("a watchdog was turned off or forced: its timeout is what is to be set")
	}
}
