package agents

import (
	"encoding/json"
	"fmt"
	"strconv"
)

// ClaudeVersion is the version of Claude Code that the settings below were tried
// with, and that the agent image holds unless the user says otherwise.
const ClaudeVersion = "2.1.331"

type settings struct {
	Env                               map[string]string `json:"env"`
	APIKeyHelper                      string            `json:"apiKeyHelper"` // "": overrides a repository's own
	Permissions                       permissions       `json:"permissions"`
	SkipDangerousModePermissionPrompt bool              `json:"skipDangerousModePermissionPrompt"`
	SkipWebFetchPreflight             bool              `json:"skipWebFetchPreflight"`
}

type permissions struct {
	DefaultMode string   `json:"defaultMode"`
	Deny        []string `json:"deny"`
}

// managedSettings is the content of /etc/claude-code/managed-settings.json. Its
// env outranks the process environment and every settings file of a project, so
// whatever could send requests elsewhere is set here, if only to nothing.
func managedSettings(o Options) ([]byte, error) {
	s := settings{
		Env:                               map[string]string{},
		Permissions:                       permissions{DefaultMode: o.PermissionMode, Deny: []string{"WebFetch", "WebSearch"}},
		SkipDangerousModePermissionPrompt: true,
		SkipWebFetchPreflight:             true,
	}
	for _, group := range []map[string]string{
		modelVariables(o), quietVariables, compatVariables, timeVariables, elsewhereVariables, contextVariables(o.MaxContext), proxyVariables(o),
	} {
		for k, v := range group {
			s.Env[k] = v
		}
	}
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("agents: encode managed settings: %w", err)
	}
	return append(data, '\n'), nil
}

func modelVariables(o Options) map[string]string {
	return map[string]string{
		"ANTHROPIC_BASE_URL":             o.BaseURL,
		"ANTHROPIC_AUTH_TOKEN":           "sallyport", // not a secret: the gateway drops it
		"ANTHROPIC_MODEL":                o.Model,
		"ANTHROPIC_DEFAULT_OPUS_MODEL":   o.Model,
		"ANTHROPIC_DEFAULT_SONNET_MODEL": o.Model,
		"ANTHROPIC_DEFAULT_HAIKU_MODEL":  o.Model,
		"ANTHROPIC_DEFAULT_FABLE_MODEL":  o.Model,
		"CLAUDE_CODE_SUBAGENT_MODEL":     o.Model,
	}
}

// quietVariables keep Claude Code from asking for anything but the model. The
// first five were found by trial: without any one of them a name is looked up.
var quietVariables = map[string]string{
	"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC":             "1",
	"CLAUDE_CODE_DISABLE_OFFICIAL_MARKETPLACE_AUTOINSTALL": "1",
	"DISABLE_AUTOUPDATER":                                  "1",
	"DISABLE_GROWTHBOOK":                                   "1",
	"CLAUDE_CODE_ATTRIBUTION_HEADER":                       "0", // else every request has a new prefix, and no prompt cache hits
	"DISABLE_TELEMETRY":                                    "1",
	"DISABLE_ERROR_REPORTING":                              "1",
	"DO_NOT_TRACK":                                         "1",
	"DISABLE_UPDATES":                                      "1",
	"DISABLE_INSTALLATION_CHECKS":                          "1",
	"DISABLE_FEEDBACK_COMMAND":                             "1",
	"CLAUDE_CODE_DISABLE_FEEDBACK_SURVEY":                  "1",
	"CLAUDE_CODE_DISABLE_ARTIFACT":                         "1",
	"ENABLE_CLAUDEAI_MCP_SERVERS":                          "false",
}

// compatVariables leave out what only Anthropic's servers understand:
// context_management, deferred tools and the tool_reference blocks that a vLLM
// of this year may answer with 400.
var compatVariables = map[string]string{
	"CLAUDE_CODE_DISABLE_EXPERIMENTAL_BETAS": "1",
	"CLAUDE_CODE_DISABLE_1M_CONTEXT":         "1",
	"CLAUDE_CODE_TOTAL_TOKENS_REMINDER":      "off", // a per-turn system message that defeats the prefix cache (ollama#18431)
}

// timeVariables let a long prefill live: twelve minutes without a token are
// normal for a large model on a small GPU. Milliseconds. What each limits, and its
// default, stand in Claude Code's documentation (ericbuess/claude-code-docs@ec68a5b:
// env-vars.md, network-config.md "Streaming idle watchdogs"). The watchdogs are set
// longer, not turned off: they are what notices a dead connection. Tried with
// ClaudeVersion: twelve minutes without a header, and twelve of pings, end in the
// answer to the one request.
var timeVariables = map[string]string{
	// One request, and the wait for its header: llama.cpp sends none before the
	// first token. 10 minutes; the maximum is 2147483647.
	"API_TIMEOUT_MS": "3600000",
	// The event watchdog: no event parsed for 5 minutes. The gateway's pings put it
	// off "for up to about five minutes" more only. It is also the byte watchdog's,
	// where that has none of its own.
	"CLAUDE_STREAM_IDLE_TIMEOUT_MS": "3600000",
	// The byte watchdog: no byte for 5 minutes. 30 minutes is its maximum, and as
	// long as the gateway waits for a silent server.
	"CLAUDE_BYTE_STREAM_IDLE_TIMEOUT_MS": "1800000",
	// A background subagent without progress: 10 minutes.
	"CLAUDE_ASYNC_AGENT_STALL_TIMEOUT_MS": "3600000",
	// The body's own idle timeout, 5 minutes; 0 is for "a slow gateway or local model".
	"API_FORCE_IDLE_TIMEOUT": "0",
}

// elsewhereVariables would choose another server, way or body. Set to nothing
// here, a repository's .claude/settings.json cannot set them.
var elsewhereVariables = map[string]string{
	"ANTHROPIC_API_KEY":                      "",
	"ANTHROPIC_UNIX_SOCKET":                  "",
	"ANTHROPIC_CUSTOM_HEADERS":               "",
	"ANTHROPIC_BETAS":                        "",
	"CLAUDE_CODE_EXTRA_BODY":                 "",
	"CLAUDE_CODE_USE_BEDROCK":                "",
	"CLAUDE_CODE_USE_VERTEX":                 "",
	"CLAUDE_CODE_USE_FOUNDRY":                "",
	"CLAUDE_CODE_USE_MANTLE":                 "",
	"CLAUDE_CODE_USE_GATEWAY":                "",
	"CLAUDE_CODE_USE_ANTHROPIC_AWS":          "",
	"CLAUDE_CODE_USE_ANTHROPIC_GOOGLE_CLOUD": "",
}

// contextVariables tells Claude Code the context length, and keeps room for the
// answer inside it: vLLM refuses a request whose prompt plus max_tokens is more.
// Claude Code compacts at the context less the answer less 13,000 tokens.
func contextVariables(tokens int) map[string]string {
	if tokens == 0 {
		return nil
	}
	return map[string]string{
		"CLAUDE_CODE_MAX_CONTEXT_TOKENS": strconv.Itoa(tokens),
		"CLAUDE_CODE_MAX_OUTPUT_TOKENS":  strconv.Itoa(min(max(tokens/8, 1024), 32000)),
	}
}

// managedMemory is /etc/claude-code/CLAUDE.md, which Claude Code shows to the
// model in every session: it saves the turns in which the model would find out.
func managedMemory(o Options) string {
	text := `# This session runs in a Sallyport sandbox

- There is no internet access. The only service you can reach is your own model endpoint.
- Every other connection (HTTP, HTTPS, SSH, DNS, UDP, ICMP, IPv4 and IPv6) is refused at once, on purpose, and recorded for the user. A refusal is not a fault to work around: do not retry it and do not look for another way out.
- WebFetch and WebSearch are denied: they need servers that do not exist here. Work from the files in the project and from what is installed.
- Package installs, git clone, push, pull and fetch over the network fail. If you need something from the network, say what and why; the user can add a rule for the host.
- .git/config and .git/hooks are read-only. Commits and branches work.
`
	if o.ProxyURL != "" {
		text += "- Hosts that the user has allowed are reached through the proxy in HTTPS_PROXY; a 403 from it names the host that was refused.\n"
	}
	return text
}

// claudeState returns the merge for ~/.claude.json: no onboarding, no question
// about trusting the project folder. Everything else in it is Claude Code's.
func claudeState(project string) func([]byte) ([]byte, error) {
	return func(old []byte) ([]byte, error) {
		state := object{}
		if len(old) > 0 {
			if err := state.decode(old); err != nil {
				return nil, err
			}
		}
		state.setDefault("theme", "dark")
		state.set("hasCompletedOnboarding", true)
		state.set("bypassPermissionsModeAccepted", true)
		projects, err := state.child("projects")
		if err != nil {
			return nil, err
		}
		this, err := projects.child(project)
		if err != nil {
			return nil, err
		}
		this.set("hasTrustDialogAccepted", true)
		this.set("hasCompletedProjectOnboarding", true)
		projects.set(project, this)
		state.set("projects", projects)
		return state.encode()
	}
}
