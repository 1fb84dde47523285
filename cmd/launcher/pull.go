package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/config"
	"github.com/sallyport/sallyport/control"
	"github.com/sallyport/sallyport/models/hub"
	"github.com/sallyport/sallyport/models/pull"
	"github.com/sallyport/sallyport/policy"
	"github.com/spf13/cobra"
)

func newPullCommand(o *options) *cobra.Command {
	var host string
	c := &cobra.Command{
		Use:   "pull MODEL",
		Short: "Download a model's weights, recorded, to where its server runs",
		Long: `Download a model's weights to where its server runs. It is the only moment at which a
model's container has a way out: this machine's gateway, to the hub's hosts alone, every
connection recorded. A download that was interrupted goes on where it ended.

A hub that asks who you are is given the token in HF_TOKEN, which is kept nowhere.`,
		Example: `  launcher pull gpt-oss
  HF_TOKEN=… launcher pull my-gated-model
  launcher pull gpt-oss --dry-run       the hosts that it would reach`,
		Args:              needArgs(1, "one MODEL"),
		ValidArgsFunction: o.completeServers,
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := o.about(args[0], host, true)
			if err != nil {
				return err
			}
			defer a.sites.closeAll()
			return a.pull(cmd.Context())
		},
	}
	o.hostFlag(c, &host)
	return o.dryFlag(c)
}

// pull fetches what is missing.
func (a *modelCommand) pull(ctx context.Context) error {
	v, err := a.served(ctx)
	if err != nil {
		return err
	}
	found, err := v.find(ctx)
	if err != nil {
		return err
	}
	job := a.job()
	rules := a.rules(job)
	switch {
	case a.options.dryRun:
		v.planPull(found, rules, a.options.plan())
		return nil
	case found.Complete:
		a.progress.done("weights", "%s are on %s, in %s", a.model.Weights().Repo, v.site.title(), v.site.weights())
		return nil
	}
	if job.Roots, err = pull.Roots(a.config.Hub.CA); err != nil {
		return usage(err)
	}
	if err := v.site.checkArch(); err != nil {
		return err
	}
	if err := v.putBinary(ctx); err != nil {
		return err
	}
	if a.model.pull == config.PullDirect {
		a.progress.warn("pull: direct: the downloader has the network of %s. What it reaches is NOT recorded, and not limited to the hub", v.site.title())
		return a.outcome(ctx, a.fetch(ctx, v, job, control.PullReady{}))
	}
	return a.outcome(ctx, a.throughGateway(ctx, rules, func(ctx context.Context, way control.PullReady) error { return a.fetch(ctx, v, job, way) }))
}

// outcome says how a pull ended that failed: by the user, by the gateway's end, or
// by itself. ctx is the user's.
func (a *modelCommand) outcome(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		a.progress.warn("interrupted; launcher pull %s goes on where it ended", a.model.Name)
		return &exitError{code: exitInterrupted}
	case errors.Is(err, control.ErrPullEnded):
		return &exitError{exitFailed, fmt.Errorf("the gateway ended while the weights of %s were downloaded (%w); hint: launcher pull %s goes on where it ended",
			a.model.Name, err, a.model.Name)}
	}
	return err
}

// job is what the downloader is told.
func (a *modelCommand) job() hub.Job {
	job := hub.Job{Want: wanted(a.model.Weights()), By: a.options.by(a.caller)}
	if a.config.Hub.Endpoint != config.DefaultHub {
		job.Endpoint = a.config.Hub.Endpoint
	}
	return job
}

// rules are all that a pull may reach.
func (a *modelCommand) rules(job hub.Job) []policy.Rule {
	var rules []policy.Rule
	for _, h := range hub.Hosts(job) {
		rules = append(rules, policy.Rule{Host: h.Name, Ports: []uint16{h.Port}, Why: h.Why})
	}
	for _, name := range a.config.Hub.Hosts {
		rules = append(rules, policy.Rule{Host: name, Ports: []uint16{443}, Why: "hub.hosts of the configuration"})
	}
	return rules
}

// throughGateway has the gateway open a way out for this pull alone while run
// runs, and says at the end what was refused.
func (a *modelCommand) throughGateway(ctx context.Context, rules []policy.Rule, run func(context.Context, control.PullReady) error) error {
	s := &session{options: a.options, caller: a.caller, config: a.config, progress: a.progress, client: control.NewClient(a.caller.paths.ControlSocket())}
	var err error
	if s.binary, err = a.options.gatewayBinary(); err != nil {
		return err
	}
	if err := a.caller.makeHome(); err != nil {
		return err
	}
	status, _, err := s.startGateway(ctx)
	if err != nil {
		return err
	}
	installed, err := hashFile(s.binary)
	if err != nil {
		return fmt.Errorf("read the gateway's binary: %w", err)
	}
	s.checkBinary(status, installed)
	var refused refusals
	var id string
	err = s.client.Pull(ctx, control.PullRequest{Name: a.model.Name, Hosts: rules}, func(ctx context.Context, ready control.PullReady) error {
		id = ready.ID
		return run(ctx, ready)
	}, func(c control.PullConnection) {
		if c.Verdict != policy.Allow.String() {
			refused.add(c)
		}
	})
	refused.tell(a.progress)
	if id != "" {
		a.progress.note("recorded: gateway audit --sandbox %s", id)
	}
	return err
}

// refusals are what a pull was not let through to. The zero value is none.
type refusals struct {
	names []string // in their order; maxRefused at most
	count map[string]int
	more  int // connections to others
}

// Bounds of what is told of refusals.
const (
	maxRefused  = 20
	refusedText = 300 // bytes
)

func (r *refusals) add(c control.PullConnection) {
	what := shorten(fmt.Sprintf("%s:%d (%s)", audit.Printable(shorten(c.Host, refusedText)), c.Port, audit.Printable(shorten(c.Reason, refusedText))), refusedText)
	if r.count == nil {
		r.count = map[string]int{}
	}
	if r.count[what] == 0 {
		if len(r.names) == maxRefused {
			r.more++
			return
		}
		r.names = append(r.names, what)
	}
	r.count[what]++
}

func (r *refusals) tell(p *progress) {
	for _, what := range r.names {
		p.warn("not let through, or not reached: %s, %d times", what, r.count[what])
	}
	if r.more > 0 {
		p.warn("and %d more connections, to others", r.more)
	}
}

// fetch runs the downloader, whose only way out is the gateway's; the zero one
// with pull: direct.
func (a *modelCommand) fetch(ctx context.Context, v *served, job hub.Job, way control.PullReady) error {
	m, began := a.progress.meter("weights"), time.Now()
	result, err := a.runPull(ctx, v, job, way, func(p hub.Progress) { m.pulling(p, time.Since(began)) })
	m.end()
	if err != nil {
		return err
	}
	a.progress.done("weights", "%s at %.12s: %d files, %s, %s of them downloaded now", job.Repo, result.Revision, result.Files, gigabytes(result.Bytes), gigabytes(result.Downloaded))
	return nil
}
