package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/containers"
	"github.com/sallyport/sallyport/models"
	"github.com/sallyport/sallyport/models/hub"
	"github.com/sallyport/sallyport/models/server"
)

// patient is one model on one machine.
type patient struct {
	*checkup
	model  model
	served *served // nil: nothing can run it there
	found  hub.Found
	status server.Status
}

// modelChecks are about a model whose server is ours.
func modelChecks() []check[*patient] {
	return []check[*patient]{
		{name: "weights", what: "weights", run: (*patient).checkWeights},
		{name: "command", what: "the server's command", run: (*patient).checkCommand},
		{name: "server", what: "the server", run: (*patient).checkServer},
		{name: "name", what: "what the server calls the model", needs: []string{"server"}, run: (*patient).checkName},
		{name: "context", what: "the server's context", needs: []string{"server"}, run: (*patient).checkContext},
		{name: "version", what: "the server's version", needs: []string{"server"}, run: (*patient).checkVersion},
		{name: "network", what: "the server's network", needs: []string{"server"}, run: (*patient).checkNetwork},
	}
}

// theirChecks are about a model whose server somebody else started.
func theirChecks() []check[*patient] {
	return []check[*patient]{
		{name: "server", what: "the server", run: (*patient).checkTheirs},
		{name: "name", what: "what the server calls the model", needs: []string{"server"}, run: (*patient).checkName},
		{name: "context", what: "the server's context", needs: []string{"server"}, run: (*patient).checkContext},
		{name: "version", what: "the server's version", needs: []string{"server"}, run: (*patient).checkVersion},
		{name: "network", what: "the server's network", run: func(*patient, context.Context) finding {
			return warned("without endpoint in the configuration, Sallyport starts a server without a network", "not controlled: somebody else started this server")
		}},
	}
}

// models looks at each configured model on a machine that was opened.
func (d *doctor) models(ctx context.Context, at *checkup) []finding {
	var list []finding
	for _, entry := range d.config.Models {
		m, err := configured(entry)
		where := entry.Name + " on " + at.title
		switch {
		case !slices.Contains(entry.Places(), at.host) || m.StandIn():
		case err != nil:
			f := failed(err)
			f.Where, f.Check, f.What = where, "model", "the model"
			list = append(list, f)
		default:
			list = append(list, d.model(ctx, where, at, m)...)
		}
	}
	return list
}

func (d *doctor) model(ctx context.Context, where string, at *checkup, m model) []finding {
	p := &patient{checkup: at, model: m}
	bounded, cancel := context.WithTimeoutCause(ctx, connectTime, errTooLong)
	at.open(bounded)
	cancel()
	if at.site == nil {
		f := skipped("%s cannot be looked at: %s", at.title, explain(at.err).Text)
		f.Where, f.Check, f.What = where, "model", "the model"
		return []finding{f}
	}
	if !m.ours() {
		return examine(ctx, where, theirChecks(), p, d.tell(at.title))
	}
	var err error
	if p.served, err = d.options.serving(ctx, d.sites, at.site, m); err != nil {
		f := skipped("nothing can run it: %s", explain(err).Text)
		f.Where, f.Check, f.What = where, "model", "the model"
		return []finding{f}
	}
	return examine(ctx, where, modelChecks(), p, d.tell(at.title))
}

func (p *patient) checkWeights(ctx context.Context) finding {
	found, err := p.served.find(ctx)
	if err != nil {
		return failed(err)
	}
	p.found = found
	if found.Complete {
		return fine("%s at %.12s in %s", p.model.Weights().Repo, found.Revision, p.site.weights())
	}
	f := takeApart(p.served.noWeights(found).Error())
	f.Verdict = verdictWarn
	if found.HaveBytes > 0 {
		f.Detail = append(f.Detail, found.Missing...)
	}
	return f
}

// checkCommand makes the server's command line, which depends on the machine, and
// looks for its image.
func (p *patient) checkCommand(ctx context.Context) finding {
	l, err := p.served.launch(p.found)
	if err != nil {
		return failed(err)
	}
	engine := p.served.hosting.engine
	if engine == nil {
		return fine("%s", l.Argv[0])
	}
	there, err := engine.ImageExists(ctx, l.Image)
	switch {
	case err != nil:
		return failed(err)
	case !there:
		return warned("launcher serve pulls it with that machine's own network; or by hand: "+p.served.hosting.info.Kind+" pull "+l.Image, "image %s is not there", l.Image)
	}
	size, err := engine.ImageSize(ctx, l.Image)
	if err != nil {
		return failed(err)
	}
	return fine("image %s, %s", l.Image, imageSize(size))
}

func (p *patient) checkServer(ctx context.Context) finding {
	status, err := p.served.Status(ctx)
	if err != nil {
		return failed(err)
	}
	p.status = status
	switch status.State {
	case server.Ready:
		return fine("ready, /health says so%s", startedBy(status))
	case server.Failed:
		f := failed(fmt.Errorf("failed: %s", audit.Printable(status.Detail)))
		f.Hints = append(some(status.Hint), "launcher logs "+p.model.Name)
		return f
	case server.Starting, server.Pulling:
		return skipped("%s, %s", status.State, audit.Printable(status.Detail))
	}
	return skipped("%s: launcher serve %s starts it", status.State, p.model.Name)
}

// checkTheirs asks a server of somebody else's whether it is healthy.
func (p *patient) checkTheirs(ctx context.Context) finding {
	at := p.model.Upstream
	s := &server.Server{Name: "external", Machine: p.site.Machine, Runtime: theirs{}, Socket: "/external",
		Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return p.site.Dial(ctx, at.Network, at.Address)
		}}
	conn, err := p.site.Dial(ctx, at.Network, at.Address)
	if err != nil {
		f := failed(err)
		f.Hints = append(f.Hints, "is it running, and is models.endpoint right?")
		return f
	}
	conn.Close()
	if p.status, err = s.Status(ctx); err != nil {
		return failed(err)
	}
	if p.status.State != server.Ready {
		return failed(fmt.Errorf("%s is there, and its /health does not say that it is ready; hint: does it still load? Its owner knows", p.model.Endpoint))
	}
	return fine("ready at %s, /health says so", p.model.Endpoint)
}

// theirs is a server that we only know to listen.
type theirs struct{}

func (theirs) Start(context.Context, models.Launch) error { return errors.ErrUnsupported }
func (theirs) Stop(context.Context, time.Duration) error  { return errors.ErrUnsupported }
func (theirs) String() string                             { return "somebody else's" }
func (theirs) State(context.Context) (server.RuntimeState, error) {
	return server.RuntimeState{Phase: server.PhaseRunning}, nil
}
func (theirs) Logs(context.Context, bool, int) (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader("")), nil
}

func (p *patient) checkName(context.Context) finding {
	served := p.model.Served
	switch {
	case len(p.status.Models) == 0:
		return skipped("it does not say")
	case !slices.Contains(p.status.Models, served):
		return failed(fmt.Errorf("it answers to %s, and not to %s; hint: set served in the configuration, or start it anew",
			someNames(p.status.Models), served))
	}
	return fine("answers to %s", served)
}

func (p *patient) checkContext(context.Context) finding {
	has, want := p.status.MaxContext, p.model.MaxContext
	switch {
	case has == 0:
		return skipped("it does not say")
	case want > has:
		return warned("set context: "+fmt.Sprint(has)+" in the configuration", "%d tokens, fewer than the %d that the agent is told", has, want)
	}
	return fine("%d tokens", has)
}

func (p *patient) checkVersion(context.Context) finding {
	if p.status.Version == "" {
		return skipped("it does not say")
	}
	claude := p.doctor.config.Agent.ClaudeVersion
	if claude == "" {
		claude = containers.ClaudeCodeVersion
	}
	version := strings.TrimPrefix(p.status.Version, "vLLM ")
	if trouble := p.model.KnownTrouble(version, claude); trouble != "" && version != p.status.Version {
		f := takeApart(trouble)
		f.Verdict = verdictWarn
		return f
	}
	return fine("%s, no known trouble with Claude Code %s", audit.Printable(p.status.Version), claude)
}
