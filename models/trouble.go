package models

import (
	"fmt"
	"strconv"
	"strings"
)

// KnownTrouble returns what is known to go wrong between this server and Claude
// Code, as a warning of one sentence; empty: nothing is known. serverVersion is
// what the server answers to GET /version, empty if it does not know that.
func (p Profile) KnownTrouble(serverVersion, claudeVersion string) string {
	server, ok := parseVersion(serverVersion)
	claude, known := parseVersion(claudeVersion)
	if !ok || !known || (p.Engine != VLLM && p.Engine != External) {
		return ""
	}
	const hint = "; hint: a newer vLLM, or Claude Code 2.1.153"
	switch {
	case server.before(version{0, 11, 0}): // vllm#21313
		return fmt.Sprintf("vLLM %s has no /v1/messages, which Claude Code needs; hint: a newer vLLM", server)
	case server.before(version{0, 23, 0}) && !claude.before(version{2, 1, 154}):
		// vllm#44000; mended by vllm#44283, which is in 0.23.0 (1CatAI/1Cat-vLLM#86).
		return fmt.Sprintf(`vLLM %s refuses the role "system" in messages, which Claude Code %s sends: every request fails with 400 (vllm#44000)%s`, server, claude, hint)
	case server.before(version{0, 25, 2}) && !claude.before(version{2, 1, 207}): // vllm#48874, seen with 0.24.0 and 0.25.1
		return fmt.Sprintf("vLLM %s puts Claude Code %s's system messages after the task: tool calls are reported to go wrong (vllm#48874)%s", server, claude, hint)
	}
	return ""
}

// version is major, minor and patch.
type version [3]int

// parseVersion reads the beginning of a version: v0.25.1.dev3+rocm is 0.25.1. A
// development build before 0.25.1 counts as it.
func parseVersion(s string) (version, bool) {
	s = strings.TrimPrefix(s, "v")
	if end := strings.IndexFunc(s, func(r rune) bool { return r != '.' && (r < '0' || r > '9') }); end >= 0 {
		s = s[:end]
	}
	var v version
	fields := strings.Split(strings.Trim(s, "."), ".")
	if len(fields) < 2 {
		return version{}, false
	}
	for i := range min(len(v), len(fields)) {
		n, err := strconv.Atoi(fields[i])
		if err != nil {
			return version{}, false
		}
		v[i] = n
	}
	return v, true
}

func (v version) before(w version) bool {
	for i := range v {
		if v[i] != w[i] {
			return v[i] < w[i]
		}
	}
	return false
}

func (v version) String() string { return fmt.Sprintf("%d.%d.%d", v[0], v[1], v[2]) }
