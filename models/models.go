// Package models knows the models by name: what their server calls them, how
// long their context is, which engine serves them. It is a table and two pure
// functions; reading the user's own entries is package config's, reaching a
// server is the gateway's.
package models

import (
	"fmt"
	"net"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Engine is the kind of server behind a model.
type Engine string

// The engines. External is a server that somebody else started.
const (
	Demo     Engine = "demo"
	VLLM     Engine = "vllm"
	LlamaCPP Engine = "llama.cpp"
	External Engine = "external"
)

// Profile is one model.
type Profile struct {
	Name       string   // as the user and the container call it; no "/" in it
	Aliases    []string // other names that Resolve knows
	Title      string   // one line for people
	Model      string   // the weights' name, e.g. openai/gpt-oss-120b
	Served     string   // the name that the server answers to
	MaxContext int      // tokens; zero: unknown
	Engine     Engine
	Endpoint   string // http://… or unix://… of an existing server; empty: we start one
}

// StandIn says that there is no language model behind this profile.
func (p Profile) StandIn() bool { return p.Engine == Demo }

// Controlled says that we start the server, without a network. Otherwise status
// and start line say that its network is not controlled.
func (p Profile) Controlled() bool { return p.Endpoint == "" && p.Engine != External }

// All returns the known models, in the order in which to show them.
func All() []Profile {
	return []Profile{
		{
			Name: "demo", Title: "stand-in: a script, not a language model",
			Model: "demo", Served: "demo", MaxContext: 131072, Engine: Demo,
		},
		{
			Name: "gpt-oss-120b", Aliases: []string{"gpt-oss", "openai/gpt-oss-120b"}, Title: "OpenAI gpt-oss 120B",
			Model: "openai/gpt-oss-120b", Served: "openai/gpt-oss-120b", MaxContext: 131072, Engine: VLLM,
		},
		{
			Name: "qwen3-next-80b", Aliases: []string{"qwen3-next", "dazipe/Qwen3-Next-80B-A3B-Instruct-GPTQ-Int4A16"}, Title: "Qwen3-Next 80B A3B Instruct, GPTQ 4 bit",
			Model:  "dazipe/Qwen3-Next-80B-A3B-Instruct-GPTQ-Int4A16",
			Served: "dazipe/Qwen3-Next-80B-A3B-Instruct-GPTQ-Int4A16", MaxContext: 262144, Engine: VLLM,
		},
	}
}

// Resolve returns the known model of that name or alias; case does not count.
func Resolve(name string) (Profile, bool) {
	for _, p := range All() {
		if strings.EqualFold(p.Name, name) || slices.ContainsFunc(p.Aliases, func(a string) bool { return strings.EqualFold(a, name) }) {
			return p, true
		}
	}
	return Profile{}, false
}

// Override is what a user's entry says about a model; zero fields say nothing.
type Override struct {
	Name       string
	Aliases    []string
	Model      string
	Served     string
	MaxContext int
	Engine     Engine
	Endpoint   string
}

// Merge returns p with what o says. A new Model is also the new Served, since a
// server is called after its weights unless it is told otherwise; an Endpoint
// makes the engine external unless o names one.
func Merge(p Profile, o Override) Profile {
	set := func(to *string, from string) {
		if from != "" {
			*to = from
		}
	}
	set(&p.Name, o.Name)
	set(&p.Model, o.Model)
	set(&p.Served, o.Model)
	set(&p.Served, o.Served)
	set(&p.Endpoint, o.Endpoint)
	p.Aliases = append(slices.Clone(p.Aliases), o.Aliases...)
	if o.MaxContext != 0 {
		p.MaxContext = o.MaxContext
	}
	switch {
	case o.Engine != "":
		p.Engine = o.Engine
	case o.Endpoint != "":
		p.Engine = External
	}
	if p.Served == "" {
		p.Served = p.Name
	}
	if p.Title == "" {
		p.Title = p.Name
	}
	return p
}

// Address is where an existing server listens, for a dialer.
type Address struct {
	Network string // "tcp" or "unix"
	Addr    string // host:port, or an absolute path
}

// ParseEndpoint reads http://host[:port] or unix:///path. There is no https: the
// way to a server is a local socket, the machine itself or an SSH tunnel.
func ParseEndpoint(s string) (Address, error) {
	bad := func(why string) (Address, error) {
		return Address{}, fmt.Errorf("model endpoint %q: %s (hint: http://127.0.0.1:8000 or unix:///run/model.sock)", s, why)
	}
	u, err := url.Parse(s)
	if err != nil {
		return bad("not an address")
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return bad("has more than a place in it")
	}
	switch u.Scheme {
	case "unix":
		if u.Host != "" || !path.IsAbs(u.Path) || path.Clean(u.Path) != u.Path || u.Path == "/" {
			return bad("unix needs an absolute path")
		}
		return Address{Network: "unix", Addr: u.Path}, nil
	case "http":
		if u.Hostname() == "" || (u.Path != "" && u.Path != "/") {
			return bad("http needs a host, and no path")
		}
		port := u.Port()
		if port == "" {
			port = "80"
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return bad("not a port")
		}
		return Address{Network: "tcp", Addr: net.JoinHostPort(u.Hostname(), port)}, nil
	case "https":
		return bad("https is not supported")
	}
	return bad("neither http nor unix")
}
