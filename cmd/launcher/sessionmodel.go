package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/containers"
	"github.com/sallyport/sallyport/control"
	"github.com/sallyport/sallyport/models/server"
	"github.com/sallyport/sallyport/sandbox"
)

// beginModel has the model served, unless it is, and the gateway reach it. The
// stand-in is brought up beside what follows: its socket is known before it is there.
// ready waits for the model, and is never nil.
func (s *session) beginModel(ctx context.Context) (ready func() (control.ModelCheck, error), err error) {
	var check control.ModelCheck
	if !s.model.StandIn() {
		if err = s.reachModel(ctx); err == nil {
			if check, err = s.askModel(ctx); err == nil {
				s.useModel(check)
			}
		}
		return func() (control.ModelCheck, error) { return check, err }, err
	}
	if err := s.prepareDemo(ctx); err != nil {
		return func() (control.ModelCheck, error) { return check, err }, err
	}
	wait := aside(func() (err error) {
		if err = s.startDemo(ctx); err == nil {
			check, err = s.askModel(ctx)
		}
		return err
	})
	return func() (control.ModelCheck, error) { err := wait(); return check, err }, nil
}

// reachModel starts what serves a model that is no stand-in, unless it runs, and hands
// the GPU hosts over.
func (s *session) reachModel(ctx context.Context) error {
	defer s.sites.closeAll() // the gateway has connections of its own
	if s.model.ours() {
		return s.serveModel(ctx)
	}
	return s.handOverHosts(ctx, s.model.places)
}

// askModel asks the gateway whether the server answers.
func (s *session) askModel(ctx context.Context) (control.ModelCheck, error) {
	check, err := s.client.CheckModel(ctx, s.model.Upstream)
	if err == nil && !check.OK {
		err = s.notReady(check)
	}
	return check, err
}

// useModel takes the place that the gateway chose, and says what is known of it.
func (s *session) useModel(check control.ModelCheck) {
	s.model.Upstream = s.model.Upstream.Prefer(check.Chosen)
	s.checkNames(check)
	s.warnOfTrouble(check.Version)
	network := "without a network"
	if !s.model.Upstream.Controlled {
		network = "network of this server: not controlled"
	}
	spare := ""
	if n := len(s.model.Upstream.Spare); n > 0 {
		spare = fmt.Sprintf(", %d more to move to", n)
	}
	s.progress.done("model", "%s at %s, %s%s", s.model.Name, s.model.Upstream, network, spare)
}

// notReady says that the gateway did not reach the server.
func (s *session) notReady(check control.ModelCheck) error {
	hint := "launcher logs " + s.model.Name + " shows what it wrote;"
	switch {
	case s.model.StandIn():
		hint = "try again;"
	case !s.model.ours():
		hint = "is it running, and is models.endpoint right?"
	}
	return fmt.Errorf("the model server at %s is not ready: %s\nhint: %s gateway status shows the way to it", s.model.Upstream, audit.Printable(check.Error), hint)
}

// What is shown of the names that a server says its models have.
const (
	namesShown = 8
	nameShown  = 200 // bytes
)

func (s *session) checkNames(check control.ModelCheck) {
	if len(check.Models) == 0 || slices.Contains(check.Models, s.model.Upstream.Name) {
		return
	}
	s.progress.warn("the model server calls its models %s, not %s; hint: set models.served in the configuration", someNames(check.Models), s.model.Upstream.Name)
}

func someNames(names []string) string {
	var shown []string
	for _, name := range names[:min(len(names), namesShown)] {
		shown = append(shown, shorten(audit.Printable(shorten(name, nameShown)), nameShown))
	}
	if n := len(names) - len(shown); n > 0 {
		shown = append(shown, fmt.Sprintf("and %d more", n))
	}
	return strings.Join(shown, ", ")
}

// warnOfTrouble warns of what is known to fail between this server and the agent.
func (s *session) warnOfTrouble(serverVersion string) {
	if s.request.agent != "claude" {
		return
	}
	version := s.config.Agent.ClaudeVersion
	if version == "" {
		version = containers.ClaudeCodeVersion
	}
	if warning := s.model.KnownTrouble(serverVersion, version); warning != "" {
		s.progress.warn("%s", audit.Printable(warning))
	}
}

// choice is what a session finds at its model's machines.
type choice struct {
	ready    []*served
	starting []*served
	first    *served // the first that could be started; nil: none
	lost     []error // of machines that cannot be used
}

// best is the server to use, or to start.
func (c choice) best() *served {
	switch {
	case len(c.ready) > 0:
		return c.ready[0]
	case len(c.starting) > 0:
		return c.starting[0]
	}
	return c.first
}

// choose looks at each of the model's machines, all at the same time.
func (s *session) choose(ctx context.Context) choice {
	type look struct {
		served *served
		state  server.State
		err    error
	}
	looks := make([]look, len(s.model.places))
	var all sync.WaitGroup
	for i, host := range s.model.places {
		all.Go(func() { looks[i].served, looks[i].state, looks[i].err = s.lookAt(ctx, host) })
	}
	all.Wait()
	var c choice
	for _, l := range looks {
		if l.err != nil {
			c.lost = append(c.lost, l.err)
			continue
		}
		switch l.state {
		case server.Ready:
			c.ready = append(c.ready, l.served)
		case server.Starting:
			c.starting = append(c.starting, l.served)
		}
		if c.first == nil {
			c.first = l.served
		}
	}
	return c
}

// serveModel finds the model's ready servers, and starts one if there is none.
func (s *session) serveModel(ctx context.Context) error {
	c := s.choose(ctx)
	v := c.best()
	if v == nil {
		return errors.Join(c.lost...)
	}
	for _, err := range c.lost {
		s.progress.warn("%v", err)
	}
	if len(c.ready) == 0 {
		if err := v.serve(ctx, s.progress); err != nil {
			return err
		}
		c.ready = []*served{v}
	}
	return s.useServers(ctx, c.ready)
}

func (s *session) lookAt(ctx context.Context, host string) (*served, server.State, error) {
	there, err := s.sites.get(ctx, host)
	if err != nil {
		return nil, "", err
	}
	v, err := s.options.serving(ctx, s.sites, there, s.model)
	if err != nil {
		return nil, "", err
	}
	status, err := v.Status(ctx)
	if err == nil {
		err = v.dead(ctx, status)
	}
	return v, status.State, err
}

// useServers makes the ways to servers that are ready the session's.
func (s *session) useServers(ctx context.Context, ready []*served) error {
	up := &s.model.Upstream
	up.Spare = nil
	var hosts []string
	for i, v := range ready {
		at := sandbox.Place{Host: v.site.name, Network: "unix", Address: v.socket()}
		hosts = append(hosts, v.site.name)
		if i == 0 {
			up.Host, up.Network, up.Address = at.Host, at.Network, at.Address
			continue
		}
		up.Spare = append(up.Spare, at)
	}
	return s.handOverHosts(ctx, hosts)
}

// handOverHosts gives the gateway what it needs to reach GPU hosts. Of several,
// those that cannot be are left out.
func (s *session) handOverHosts(ctx context.Context, names []string) error {
	var lost []error
	for _, name := range names {
		if name == "" {
			continue
		}
		host, err := s.sites.sshHost(ctx, name)
		if err == nil {
			err = s.client.SetHost(ctx, host)
		}
		if err != nil {
			lost = append(lost, err)
			continue
		}
		s.hosts = append(s.hosts, host)
	}
	if len(lost) < len(names) {
		for _, err := range lost {
			s.progress.warn("%v", err)
		}
		return nil
	}
	return errors.Join(lost...)
}

// rememberSpeed keeps how fast the model answered, for launcher models.
func (s *session) rememberSpeed(ctx context.Context) {
	if !s.model.ours() {
		return
	}
	status, err := s.client.Status(ctx)
	if err != nil {
		return // the gateway is gone, and what it knew
	}
	i := slices.IndexFunc(status.Sandboxes, func(state sandbox.State) bool { return state.Sandbox == s.id })
	if i < 0 || status.Sandboxes[i].Usage.TokensPerSecond <= 0 {
		return
	}
	state := status.Sandboxes[i]
	if err := s.options.history(s.caller).SaveRate(s.model.server(), state.Upstream.Host, state.Usage.TokensPerSecond); err != nil {
		s.progress.note("%v", err)
	}
}
