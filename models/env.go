package models

import (
	"fmt"
	"slices"
	"strings"
)

var variable = lazily(`^[A-Za-z_][A-Za-z0-9_]*$`)

// secret matches names of variables that hold one.
var secret = lazily(`(?i)(TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|PRIVATE_KEY|ACCESS_KEY)`)

// notSecret are names that only look like it.
var notSecret = []string{"HF_HUB_DISABLE_IMPLICIT_TOKEN", "TOKENIZERS_PARALLELISM", "TIKTOKEN_ENCODINGS_BASE", "TIKTOKEN_RS_CACHE_DIR"}

func isSecret(name string) bool {
	return secret().MatchString(name) && !slices.Contains(notSecret, name)
}

// env returns the server's whole environment, sorted; the profile's own
// variables come last and win.
func (p Profile) env(pl Place, pre preset, at paths) ([]string, error) {
	all := []string{"HOME=" + at.home, "XDG_CACHE_HOME=" + at.home + "/.cache", "XDG_CONFIG_HOME=" + at.home + "/.config",
		// Python asks for it by the uid otherwise, which the image does not know.
		"USER=sallyport", "LOGNAME=sallyport"}
	if p.Engine == VLLM {
		all = append(all, p.vllmEnv(at)...)
	} else {
		all = append(all, p.llamaEnv(at)...)
	}
	all = append(all, pre.env[p.Engine]...)
	for _, e := range p.Env {
		name, value, ok := strings.Cut(e, "=")
		switch {
		case !ok || !variable().MatchString(name):
			return nil, fmt.Errorf("env: %q is not NAME=VALUE", name)
		case isSecret(name):
			return nil, fmt.Errorf("env: %s looks like a secret, and the server has no use for one: it has no network; hint: only launcher pull reads HF_TOKEN", name)
		case strings.ContainsAny(value, "\x00\n\r"):
			return nil, fmt.Errorf("env: the value of %s is more than one line", name)
		}
		all = append(all, e)
	}
	last := map[string]string{}
	for _, e := range all {
		name, _, _ := strings.Cut(e, "=")
		last[name] = e
	}
	env := make([]string, 0, len(last))
	for _, e := range last {
		env = append(env, e)
	}
	slices.Sort(env)
	return env, nil
}
