package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/config"
	"github.com/sallyport/sallyport/models"
	"github.com/sallyport/sallyport/sandbox"
	"github.com/spf13/cobra"
)

// model is a model that the user named, and where it is served.
type model struct {
	models.Profile
	Upstream sandbox.Upstream // the way to it; of a server of ours, its places are not known yet
	places   []string         // names of hosts, the first choice first; "" is this machine
	pull     config.Pull
	listed   bool // it is in the configuration
}

// ours says that its server is one that we start and stop.
func (m model) ours() bool { return m.Controlled() && !m.StandIn() }

// server is the name of its server, as folders and containers are called.
func (m model) server() string { return strings.ToLower(m.Name) }

// at says whether the model is served on a host ("": this machine).
func (m model) at(host string) bool { return slices.Contains(m.places, host) }

// findModel looks a name up in the configuration and among the known models,
// which run on this machine unless the configuration says otherwise.
func findModel(cfg *config.Config, name string) (model, error) {
	for _, entry := range cfg.Models {
		if isNamed(name, entry.Name, entry.Aliases) {
			return configured(entry)
		}
	}
	known, ok := models.Resolve(name)
	for _, entry := range cfg.Models { // the same model by a name of ours
		if ok && base(entry).Name == known.Name {
			return configured(entry)
		}
	}
	switch {
	case !ok:
		return model{}, fmt.Errorf("there is no model %q; hint: %s", name, strings.Join(modelNames(cfg), ", "))
	case known.StandIn():
		return model{Profile: known, places: []string{""}, Upstream: sandbox.Upstream{Name: known.Served, Network: "unix", Controlled: true}}, nil
	}
	return withUpstream(model{Profile: known, places: []string{""}, pull: config.PullProxy}, config.Model{})
}

func isNamed(name, main string, aliases []string) bool {
	return strings.EqualFold(main, name) || slices.ContainsFunc(aliases, func(a string) bool { return strings.EqualFold(a, name) })
}

func configured(entry config.Model) (model, error) {
	m := model{Profile: merge(entry), places: entry.Places(), pull: entry.Pull, listed: true}
	if m.pull == "" {
		m.pull = config.PullProxy
	}
	switch {
	case m.Endpoint != "" || m.StandIn():
	case m.Engine == "" || m.Weights().Repo == "":
		return model{}, fmt.Errorf("model %q is none that is known, so it has to be said what serves it; hint: set engine and model (for llama.cpp also file), or the endpoint of a server that runs; known are %s",
			entry.Name, strings.Join(knownNames(), ", "))
	}
	return withUpstream(m, entry)
}

// base is the known model that an entry is about; the zero Profile: none.
func base(entry config.Model) models.Profile {
	known, _ := models.Resolve(entry.Name)
	if byWeights, ok := models.Resolve(entry.Model); entry.Model != "" && ok {
		known = byWeights
	}
	return known
}

// merge is a known model with what the configuration says about it.
func merge(entry config.Model) models.Profile {
	p := models.Merge(base(entry), models.Override{Name: entry.Name, Aliases: entry.Aliases, Model: entry.Model, Served: entry.Served,
		MaxContext: entry.Context, Engine: models.Engine(entry.Engine), Endpoint: entry.Endpoint.String(), Revision: entry.Revision,
		File: entry.File, Image: entry.Image, Args: entry.Args, Env: entry.Env, GPUMemory: entry.GPUMemory, MaxSeqs: entry.MaxSeqs,
		IdleStop: max(0, time.Duration(entry.IdleStop))})
	if entry.IdleStop == config.NeverIdle {
		p.IdleStop = 0
	}
	return p
}

// withUpstream adds the way to the model's server, as far as it is known.
func withUpstream(m model, entry config.Model) (model, error) {
	m.Upstream = sandbox.Upstream{Name: m.Served, Aliases: append([]string{m.Name}, m.Aliases...), Token: string(entry.Token), Controlled: m.ours()}
	if m.Endpoint == "" {
		m.Upstream.Host, m.Upstream.Network = m.places[0], "unix"
		return m, nil
	}
	address, err := models.ParseEndpoint(m.Endpoint)
	if err != nil {
		return model{}, err
	}
	for i, host := range m.places {
		at := sandbox.Place{Host: host, Network: address.Network, Address: address.Addr}
		if i > 0 {
			m.Upstream.Spare = append(m.Upstream.Spare, at)
			continue
		}
		m.Upstream.Host, m.Upstream.Network, m.Upstream.Address = at.Host, at.Network, at.Address
	}
	return m, nil
}

// profileOf is a model as the configuration and the known models describe it.
func profileOf(cfg *config.Config, name string) (models.Profile, error) {
	m, err := findModel(cfg, name)
	return m.Profile, err
}

// allModels are the stand-in, what the configuration lists, and the known models
// besides. What is wrong with one is left to whoever names it.
func allModels(cfg *config.Config) []model {
	var list []model
	for _, name := range append(modelNames(cfg), knownNames()...) {
		m, err := findModel(cfg, name)
		if err == nil && !slices.ContainsFunc(list, func(o model) bool { return o.Name == m.Name }) {
			list = append(list, m)
		}
	}
	return list
}

func modelNames(cfg *config.Config) []string {
	names := []string{"demo"}
	for _, m := range cfg.Models {
		names = append(names, m.Name)
	}
	return names
}

// knownNames are the known models that a server can be started for.
func knownNames() []string {
	var names []string
	for _, p := range models.All() {
		if !p.StandIn() {
			names = append(names, p.Name)
		}
	}
	return names
}

// completeModels completes the name of a model that an agent can have.
func (o *options) completeModels(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	at := 0
	if cmd.Name() == "run" { // behind the image
		at = 1
	}
	return o.complete(len(args) == at, func(model) bool { return true })
}

// completeServers completes the name of a model whose server is ours.
func (o *options) completeServers(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return o.complete(len(args) == 0, model.ours)
}

// completeStop completes what can be stopped.
func (o *options) completeStop(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return o.complete(true, model.ours)
}

func (o *options) complete(here bool, fits func(model) bool) ([]string, cobra.ShellCompDirective) {
	c, err := o.caller()
	if err != nil || !here {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	cfg, err := o.loadConfig(c)
	if err != nil {
		cfg = &config.Config{}
	}
	var names []string
	for _, m := range allModels(cfg) {
		if fits(m) {
			names = append(names, m.Name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeHosts completes the name of a host of the configuration.
func (o *options) completeHosts(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	names := []string{localName}
	if c, err := o.caller(); err == nil {
		if cfg, err := o.loadConfig(c); err == nil {
			for _, h := range cfg.Hosts {
				names = append(names, h.Name)
			}
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
