// Package models knows the models by name: what their server calls them, how
// long their context is, which engine serves them, and with which exact command.
// It is tables and pure functions; reading the user's own entries is package
// config's, starting a server models/server's, reaching one the gateway's.
package models

import (
	"cmp"
	"fmt"
	"net"
	"net/url"
	"path"
	"slices"
	"strconv"
	"time"
)

// Override is what a user's entry says about a model; zero fields say nothing.
type Override struct {
	Name       string
	Aliases    []string
	Model      string
	Served     string
	MaxContext int
	Engine     Engine
	Endpoint   string

	Revision  string
	File      string // GGUF: the file that llama.cpp opens
	Image     string
	Args      []string // after the profile's
	Env       []string // after the profile's
	GPUMemory float64
	MaxSeqs   int
	IdleStop  time.Duration
	Hardware  Hardware
}

// Merge returns p with what o says, key by key. Other weights (Model) are not
// those that Revision, Include and LlamaCPP were written for. An Endpoint makes
// the engine external unless o names one; an existing server is called after its
// weights, one that we start after the profile.
func Merge(p Profile, o Override) Profile {
	if o.Model != "" && o.Model != p.Model {
		p.Revision, p.Include, p.WeightsGB, p.LlamaCPP = "", nil, 0, nil
	}
	p.Served = servedName(p, o)
	p.Name = cmp.Or(o.Name, p.Name)
	p.Model = cmp.Or(o.Model, p.Model)
	p.Endpoint = cmp.Or(o.Endpoint, p.Endpoint)
	p.Image = cmp.Or(o.Image, p.Image)
	p.MaxContext = cmp.Or(o.MaxContext, p.MaxContext)
	p.GPUMemory = cmp.Or(o.GPUMemory, p.GPUMemory)
	p.MaxSeqs = cmp.Or(o.MaxSeqs, p.MaxSeqs)
	p.IdleStop = cmp.Or(o.IdleStop, p.IdleStop)
	p.Hardware = cmp.Or(o.Hardware, p.Hardware)
	p.Title = cmp.Or(p.Title, p.Name)
	p.Aliases = append(slices.Clone(p.Aliases), o.Aliases...)
	p.Args = append(slices.Clone(p.Args), o.Args...)
	p.Env = append(slices.Clone(p.Env), o.Env...)
	switch {
	case o.Engine != "":
		p.Engine = o.Engine
	case o.Endpoint != "":
		p.Engine = External
	case p.Engine == "":
		p.Engine = VLLM
	}
	if p.Engine == LlamaCPP {
		p.LlamaCPP = mergeGGUF(p, o)
	} else {
		p.Revision = cmp.Or(o.Revision, p.Revision)
	}
	return p
}

// servedName returns what the merged profile's server is called.
func servedName(p Profile, o Override) string {
	name := cmp.Or(o.Name, p.Name)
	switch {
	case o.Served != "":
		return o.Served
	case o.Endpoint != "" || p.Endpoint != "":
		return cmp.Or(o.Model, p.Model, name)
	case p.Served != "" && p.Served != p.Name: // somebody's choice
		return p.Served
	}
	return name
}

// mergeGGUF returns the weights of p for llama.cpp with what o says. Where none
// are known, the model is their repository.
func mergeGGUF(p Profile, o Override) *GGUF {
	if p.LlamaCPP == nil && o.File == "" {
		return nil
	}
	g := GGUF{Repo: p.Model}
	if p.LlamaCPP != nil {
		g = *p.LlamaCPP
	}
	if o.File != "" && o.File != g.File {
		g.File, g.Include, g.GB = o.File, parts(o.File), 0
	}
	g.Revision = cmp.Or(o.Revision, g.Revision)
	g.Slots = cmp.Or(o.MaxSeqs, g.Slots)
	return &g
}

var splitFile = lazily(`-\d{5}-of-(\d{5}\.gguf)$`)

// parts returns the globs of all parts of a GGUF file, whose first is named.
func parts(file string) []string {
	return []string{splitFile().ReplaceAllString(file, "-*-of-$1")}
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
