package models

import (
	"fmt"
	"slices"
	"strings"
)

// option is one option of a server's command line; an empty value is none.
type option struct{ name, value string }

// spellings are the other names of the options that we set, by the name that we
// use. Sources: internal/vllm/flags.txt, testdata/llama-server-flags.txt.
var spellings = map[string][]string{
	"--tensor-parallel-size": {"-tp"},
	"--ctx-size":             {"-c"},
	"-ngl":                   {"--gpu-layers", "--n-gpu-layers"},
	"-fa":                    {"--flash-attn"},
	"--load-mode":            {"-lm"},
	"--parallel":             {"-np"},
	"--kv-unified":           {"-kvu", "-no-kvu"},
}

// ours are options that the user may not give: they say where the server
// listens and what it is called, or hold a secret that a process list shows.
var ours = map[Engine]map[string]string{
	VLLM: {
		"--uds": "the launcher sets it", "--host": "the server has no network", "--port": "the server has no network",
		"--model": "use model: and revision:", "--served-model-name": "use served:",
		"--api-key": "the socket's folder is the key", "--hf-token": "only launcher pull reads HF_TOKEN",
	},
	LlamaCPP: {
		"--host": "the launcher sets it", "--port": "the server has no network", "-m": "use file:", "--model": "use file:",
		"-a": "use served:", "--alias": "use served:", "--rpc": "the server has no network",
		"--api-key": "the socket's folder is the key", "--api-key-file": "the socket's folder is the key",
		"-hf": "use model: and file:", "-hfr": "use model: and file:", "--hf-repo": "use model: and file:",
		"-hft": "only launcher pull reads HF_TOKEN", "--hf-token": "only launcher pull reads HF_TOKEN",
	},
}

// isOption says whether s begins an option: a negative number does not.
func isOption(s string) bool {
	return len(s) > 1 && s[0] == '-' && (s[1] < '0' || s[1] > '9')
}

// optionName returns an argument's option as vLLM's parser sees it: without
// "=value", with "-" for "_", and "--no-x" as "--x".
func optionName(arg string) string {
	name, _, _ := strings.Cut(arg, "=")
	if rest, ok := strings.CutPrefix(name, "--"); ok {
		name = "--" + strings.TrimPrefix(strings.ReplaceAll(rest, "_", "-"), "no-")
	}
	return name
}

// reserved says why the user may not give an option; empty: he may. vLLM's
// parser takes the beginning of a long option for the whole.
func reserved(e Engine, name string) string {
	for own, why := range ours[e] {
		if name == own || len(name) > len("--") && strings.HasPrefix(name, "--") && strings.HasPrefix(own, name) {
			return why
		}
	}
	return ""
}

// arguments returns base as a command line, less what the user sets otherwise,
// and then the user's.
func arguments(e Engine, base []option, user []string) ([]string, error) {
	taken := map[string]bool{}
	for i, a := range user {
		switch {
		case isOption(a):
			name := optionName(a)
			if why := reserved(e, name); why != "" {
				return nil, fmt.Errorf("args: %s is not yours to set; hint: %s", name, why)
			}
			taken[name] = true
		case i == 0:
			return nil, fmt.Errorf("args: %q is not an option; hint: each option and each value is an entry of its own", a)
		}
	}
	var argv []string
	for _, o := range base {
		if taken[optionName(o.name)] || slices.ContainsFunc(spellings[o.name], func(s string) bool { return taken[optionName(s)] }) {
			continue
		}
		argv = append(argv, o.name)
		if o.value != "" {
			argv = append(argv, o.value)
		}
	}
	return append(argv, user...), nil
}
