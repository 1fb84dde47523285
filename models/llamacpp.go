package models

import (
	"path"
	"strconv"
	"strings"
)

// llamaArguments is the command line of llama-server. Every option is one of
// testdata/llama-server-flags.txt.
func (p Profile) llamaArguments(pre preset, snapshot, socket string) []option {
	o := []option{
		{"-m", snapshot + "/" + p.LlamaCPP.File},
		{"--alias", p.Served},
		{"--host", socket}, // its --help: a path that ends in .sock is a unix socket
	}
	if p.MaxContext > 0 {
		o = append(o, option{"--ctx-size", strconv.Itoa(p.MaxContext)}) // set-up at c1e8be5 has 0: the model's own
	}
	if p.LlamaCPP.Slots > 0 {
		// Without --kv-unified each slot has its part of the context only.
		o = append(o, option{"--parallel", strconv.Itoa(p.LlamaCPP.Slots)}, option{"--kv-unified", ""})
	}
	o = append(o, pre.args[LlamaCPP]...)
	return append(o,
		option{"-fa", "on"},           // set-up at c1e8be5
		option{"--load-mode", "none"}, // set-up at c1e8be5 has --no-mmap, which is called so since 0.7
		option{"--jinja", ""},         // set-up at c1e8be5
		option{"--offline", ""},       // set-up at c1e8be5
		option{"--metrics", ""},       // its --help: off by default; how busy it is
	)
}

func (p Profile) llamaEnv(at paths) []string {
	return []string{"LLAMA_CACHE=" + at.home + "/.cache/llama.cpp"}
}

// complete says whether g names a file of a repository.
func (g *GGUF) complete() bool {
	return g != nil && strings.Count(g.Repo, "/") == 1 && g.File != "" && path.Clean("/"+g.File) == "/"+g.File
}
