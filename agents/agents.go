// Package agents says what a coding agent needs inside a sandbox: its command,
// environment and read-only files, what has to stand in its home before the
// first start, and which endpoints of the model it uses. It starts nothing and
// talks to nobody: containers run what it describes, the gateway forwards only
// the endpoints that it names.
package agents

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/policy"
)

// Profile is one agent, ready to be put into a container.
type Profile struct {
	Name      string            // "claude", "shell" or "run"
	Endpoints []policy.Endpoint // forwarded to the model, nothing else is
	Command   []string          // argv; empty: the image's own command
	Env       []string          // KEY=VALUE, sorted by key
	Files     []File            // mounted read-only
	Home      []HomeFile        // made or completed by PrepareHome before the start
	Continue  []string          // the user's arguments that continue the last session; nil: nothing to continue
}

// File is a read-only file of the container, by absolute path.
type File struct {
	Path string
	Data []byte
	Mode fs.FileMode
}

// Options says in which surroundings the agent runs.
type Options struct {
	BaseURL        string      // the model endpoint as the container sees it, e.g. http://10.213.0.1:8000
	ProxyURL       string      // the forward proxy as the container sees it; empty: no proxy variables
	Model          string      // the model's name as the container uses it
	MaxContext     int         // tokens; zero: unknown, and the agent guesses
	Project        string      // absolute path of the project folder
	HomeDir        string      // absolute path of the home inside the container
	User           string      // login name inside; empty: "agent"
	PermissionMode string      // Claude Code's permissions.defaultMode; empty: bypassPermissions
	Term           string      // TERM; empty: xterm-256color
	Timezone       string      // TZ; empty: not set
	Git            GitIdentity // the user's; zero: commits ask for one
	Args           []string    // the user's own arguments (for run: the command)
}

func (o Options) withDefaults() Options {
	if o.PermissionMode == "" {
		o.PermissionMode = "bypassPermissions"
	}
	if o.User == "" {
		o.User = "agent"
	}
	if o.Term == "" {
		o.Term = "xterm-256color"
	}
	return o
}

func (o Options) check() error {
	var errs []error
	for _, u := range []struct {
		what, value string
		needed      bool
	}{{"model endpoint", o.BaseURL, true}, {"forward proxy", o.ProxyURL, false}} {
		if u.value == "" && !u.needed {
			continue
		}
		if p, err := url.Parse(u.value); err != nil || p.Scheme != "http" || p.Hostname() == "" {
			errs = append(errs, fmt.Errorf("agents: %s %q is not an http address", u.what, u.value))
		}
	}
	for _, p := range []struct{ what, value string }{{"project folder", o.Project}, {"home", o.HomeDir}} {
		if !path.IsAbs(p.value) {
			errs = append(errs, fmt.Errorf("agents: %s %q is not an absolute path", p.what, p.value))
		}
	}
	if o.Model == "" {
		errs = append(errs, errors.New("agents: no model name"))
	}
	if o.MaxContext < 0 {
		errs = append(errs, fmt.Errorf("agents: context length %d is negative", o.MaxContext))
	}
	if !slices.Contains(permissionModes, o.PermissionMode) {
		errs = append(errs, fmt.Errorf("agents: permission mode %q is none of %s", o.PermissionMode, strings.Join(permissionModes, ", ")))
	}
	return errors.Join(errs...)
}

// permissionModes leaves out "auto": its check runs on Anthropic's servers, so
// with a model of one's own every tool call stops there.
var permissionModes = []string{"bypassPermissions", "acceptEdits", "default", "plan", "dontAsk"}

// Claude returns the profile of Claude Code.
func Claude(o Options) (Profile, error) {
	o = o.withDefaults()
	if err := o.check(); err != nil {
		return Profile{}, err
	}
	p, err := base("claude", o)
	if err != nil {
		return Profile{}, err
	}
	p.Command = append([]string{"claude"}, o.Args...)
	p.Continue = []string{"--continue"}
	return p, nil
}

// Shell returns the profile of a login shell in the sandbox that Claude Code
// would get, for people who want to look around in it.
func Shell(o Options) (Profile, error) {
	o = o.withDefaults()
	if err := o.check(); err != nil {
		return Profile{}, err
	}
	p, err := base("shell", o)
	if err != nil {
		return Profile{}, err
	}
	p.Command = append([]string{"/bin/sh"}, o.Args...)
	if len(o.Args) == 0 {
		p.Command = []string{"/bin/bash", "-l"}
	}
	return p, nil
}

// Run returns the profile of any image; o.Args is its command, none: the
// image's own.
func Run(o Options) (Profile, error) {
	o = o.withDefaults()
	if err := o.check(); err != nil {
		return Profile{}, err
	}
	p, err := base("run", o)
	if err != nil {
		return Profile{}, err
	}
	p.Command = slices.Clone(o.Args)
	return p, nil
}

// base is what all three have: whoever starts claude from the shell, or from an
// image of their own, finds it configured.
func base(name string, o Options) (Profile, error) {
	settings, err := managedSettings(o)
	if err != nil {
		return Profile{}, err
	}
	return Profile{
		Name: name,
		Endpoints: []policy.Endpoint{
			{Method: "POST", Path: "/v1/messages"},
			{Method: "POST", Path: "/v1/messages/count_tokens"},
		},
		Env: environ(o),
		Files: []File{
			{Path: "/etc/claude-code/managed-settings.json", Data: settings, Mode: 0o444},
			{Path: "/etc/claude-code/CLAUDE.md", Data: []byte(managedMemory(o)), Mode: 0o444},
			{Path: "/etc/gitconfig", Data: GitConfig(o.Git, o.Project), Mode: 0o444},
		},
		Home: []HomeFile{{Name: ".claude.json", Mode: 0o600, Merge: claudeState(o.Project)}},
	}, nil
}

// environ is the process environment of the container's command. Claude Code's
// own variables stand in its managed settings, where a repository cannot
// override them.
func environ(o Options) []string {
	env := map[string]string{
		"HOME":      o.HomeDir,
		"USER":      o.User,
		"LOGNAME":   o.User,
		"TERM":      o.Term,
		"COLORTERM": "truecolor",
		"LANG":      "C.UTF-8",
	}
	if o.Timezone != "" {
		env["TZ"] = o.Timezone
	}
	for k, v := range proxyVariables(o) {
		env[k] = v
	}
	list := make([]string, 0, len(env))
	for k, v := range env {
		list = append(list, k+"="+v)
	}
	slices.Sort(list)
	return list
}

// proxyVariables sends other tools to the forward proxy, and keeps requests to
// the model endpoint (and to the sandbox itself) away from it.
func proxyVariables(o Options) map[string]string {
	if o.ProxyURL == "" {
		return nil
	}
	direct := "localhost,127.0.0.1,::1"
	if u, err := url.Parse(o.BaseURL); err == nil {
		direct = u.Hostname() + "," + direct
	}
	env := map[string]string{"NO_PROXY": direct, "no_proxy": direct}
	for _, k := range []string{"HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"} {
		env[k] = o.ProxyURL
	}
	return env
}
