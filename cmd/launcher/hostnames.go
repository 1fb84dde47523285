package main

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path"
	"strconv"
	"strings"

	"github.com/sallyport/sallyport/config"
	"github.com/sallyport/sallyport/machine"
)

// title names a machine for people.
func (s *site) title() string { return titleOf(s.name) }

func titleOf(host string) string {
	if host == "" {
		return "this machine"
	}
	return host
}

// base is our folder on the machine.
func (s *site) base() string {
	return s.path(s.settings.Folder, path.Join(s.facts.Home, ".cache/sallyport"))
}

// folder is that of a server.
func (s *site) folder(server string) string { return path.Join(s.base(), "models", server) }

// weights is the folder of the hub's cache.
func (s *site) weights() string { return s.path(s.settings.Weights, s.facts.HFHome) }

// setting is how a setting of the machine is called in the configuration.
func (s *site) setting(key string) string {
	if s.name == "" {
		return "local." + key
	}
	return "hosts[]." + key
}

// path is a path of the configuration on that machine.
func (s *site) path(value, fallback string) string {
	if value == "" {
		value = fallback
	}
	if rest, ok := strings.CutPrefix(value, "~/"); ok {
		value = path.Join(s.facts.Home, rest)
	}
	return path.Clean(value)
}

// ownFolders are those on this machine that servers use, and no agent may: whoever
// writes there decides what a server loads, and its socket knows no policy.
func (o *options) ownFolders(cfg *config.Config, c caller) []string {
	here := &site{settings: cfg.Local, facts: machine.Facts{Home: c.home, HFHome: machine.HFHome(c.home, o.getenv)}}
	return []string{here.base(), here.weights()}
}

// by says who starts a server, for those who share it.
func (o *options) by(c caller) string {
	name := "uid " + strconv.Itoa(c.uid)
	if u, err := user.LookupId(strconv.Itoa(c.uid)); err == nil {
		name = u.Username
	}
	host, err := os.Hostname()
	if err != nil {
		return name
	}
	return name + "@" + host
}

// pickHost is the host that --host names, which must be one of the model's.
func pickHost(m model, flag string) (string, error) {
	if flag == "" {
		return m.places[0], nil
	}
	host := flag
	if strings.EqualFold(flag, localName) {
		host = ""
	}
	if !m.listed { // nothing says where it belongs
		return host, nil
	}
	if !m.at(host) {
		titles := make([]string, len(m.places))
		for i, p := range m.places {
			titles[i] = titleOf(p)
		}
		return "", usage(fmt.Errorf("model %s is not served on %s, but on %s; hint: add it to the model's hosts in the configuration", m.Name, titleOf(host), strings.Join(titles, ", ")))
	}
	return host, nil
}

// oursOnly refuses a model whose server we neither start nor stop.
func oursOnly(m model) error {
	switch {
	case m.StandIn():
		return usage(errors.New("the stand-in demo has no server of its own: each session starts one; hint: launcher claude demo"))
	case !m.ours():
		return usage(fmt.Errorf("the server of %s at %s was started by somebody else, and is theirs to start and stop; hint: without endpoint in the configuration, Sallyport starts one", m.Name, m.Upstream))
	}
	return nil
}
