package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/config"
	"github.com/sallyport/sallyport/containers"
	"github.com/sallyport/sallyport/models"
	"github.com/sallyport/sallyport/models/server"
	"github.com/sallyport/sallyport/terminal"
	"github.com/spf13/cobra"
)

// modelCommand is what the commands share that are about one model's server.
type modelCommand struct {
	options  *options
	caller   caller
	config   *config.Config
	sites    *sites
	model    model
	host     string // where
	progress *progress
}

// about prepares a command about the server of a model. The caller closes sites.
func (o *options) about(name, host string, ask bool) (*modelCommand, error) {
	c, err := o.caller()
	if err != nil {
		return nil, err
	}
	cfg, err := o.loadConfig(c)
	if err != nil {
		return nil, err
	}
	m, err := findModel(cfg, name)
	if err != nil {
		return nil, usage(err)
	}
	if err := oursOnly(m); err != nil {
		return nil, err
	}
	a := &modelCommand{options: o, caller: c, config: cfg, sites: o.newSites(cfg, c, ask), model: m, progress: o.newProgress()}
	if a.host, err = pickHost(m, host); err != nil {
		return nil, err
	}
	return a, nil
}

// newProgress is a progress on stderr, with colours where they are seen.
func (o *options) newProgress() *progress {
	f, ok := o.stderr.(*os.File)
	return newProgress(o.stderr, o.quiet, ok && terminal.Colours(o.environ, f))
}

// served is the model's server on the host that was picked.
func (a *modelCommand) served(ctx context.Context) (*served, error) {
	there, err := a.sites.get(ctx, a.host)
	if err != nil {
		return nil, err
	}
	return a.options.serving(ctx, a.sites, there, a.model)
}

func newServeCommand(o *options) *cobra.Command {
	var host string
	c := &cobra.Command{
		Use:   "serve MODEL",
		Short: "Start a model's server without a network, and show it loading",
		Long: `Start a model's server without a network, on this machine or on its GPU host, and
show it loading until it answers. It outlives the launcher: "launcher stop MODEL"
ends it. Ctrl-C leaves it loading. "launcher claude MODEL" does it by itself.`,
		Example: `  launcher serve gpt-oss
  launcher serve gpt-oss --host strix2
  launcher serve gpt-oss --dry-run      print the exact command, and do nothing`,
		Args:              needArgs(1, "one MODEL"),
		ValidArgsFunction: o.completeServers,
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := o.about(args[0], host, true)
			if err != nil {
				return err
			}
			defer a.sites.closeAll()
			if o.dryRun {
				return a.dryServe(cmd.Context())
			}
			v, err := a.served(cmd.Context())
			if err != nil {
				return err
			}
			return v.serve(cmd.Context(), a.progress)
		},
	}
	o.hostFlag(c, &host)
	return o.dryFlag(c)
}

func (o *options) hostFlag(c *cobra.Command, host *string) {
	c.Flags().StringVar(host, "host", "", "`name` of the GPU host, where the model has several; local is this machine")
	_ = c.RegisterFlagCompletionFunc("host", o.completeHosts) // the flag is there
}

// serve starts the server, unless it runs, and waits until it is ready.
func (v *served) serve(ctx context.Context, p *progress) error {
	status, err := v.Status(ctx)
	if err != nil {
		return err
	}
	switch status.State {
	case server.Ready:
		p.done("model", "%s is ready on %s%s", v.model.Name, v.site.title(), startedBy(status))
		return nil
	case server.Starting:
		p.note("%s is starting on %s already%s", v.model.Name, v.site.title(), startedBy(status))
	default:
		if err := v.dead(ctx, status); err != nil {
			return err
		}
		if err := v.start(ctx, p); err != nil {
			return err
		}
	}
	return v.await(ctx, p)
}

// alive says whether the server's process runs, whatever it answers: vLLM's
// outlives its engine for a while, or hangs.
func (v *served) alive(ctx context.Context, status server.Status) (bool, error) {
	switch status.State {
	case server.Ready, server.Starting:
		return true, nil
	case server.Failed:
		state, err := v.Runtime.State(ctx)
		return state.Phase == server.PhaseRunning, err
	}
	return false, nil
}

// dead is an error if the server has failed and its process runs still: it would
// be waited for without end.
func (v *served) dead(ctx context.Context, status server.Status) error {
	runs, err := v.alive(ctx, status)
	if err != nil || !runs || status.State != server.Failed {
		return err
	}
	why := ""
	if status.Detail != "" {
		why = ": " + audit.Printable(status.Detail)
	}
	return fmt.Errorf("%s on %s has failed and still runs%s%s; hint: launcher stop %s ends it, then it can be started again",
		v.model.Name, v.site.title(), startedBy(status), why, v.model.Name)
}

func startedBy(s server.Status) string {
	if s.By == "" {
		return ""
	}
	return ", started by " + audit.Printable(s.By)
}

// start starts the server; one that another launcher has started meanwhile is
// as good.
func (v *served) start(ctx context.Context, p *progress) error {
	launch, err := v.ready(ctx)
	if err != nil {
		return err
	}
	if err := v.image(ctx, launch, p); err != nil {
		return err
	}
	if err := v.sites.caller.makeFolder(v.sites.caller.paths.State); err != nil { // for the history
		return err
	}
	v.Others = v.others
	err = v.Start(ctx, launch)
	if errors.Is(err, server.ErrRunning) {
		p.note("%v", err)
		return nil
	}
	return err
}

// image fetches the server's image, unless the engine has it.
func (v *served) image(ctx context.Context, l models.Launch, p *progress) error {
	engine := v.hosting.engine
	if engine == nil {
		return nil
	}
	there, err := engine.ImageExists(ctx, l.Image)
	if err != nil || there {
		return err
	}
	m, began := p.meter("image"), time.Now()
	p.note("image %s is not on %s: it is pulled, with that machine's own network", l.Image, v.site.title())
	err = engine.PullImage(ctx, l.Image, func(progress containers.ImageProgress) { m.image(progress, time.Since(began)) })
	m.end()
	if err != nil {
		return err
	}
	p.done("image", "%s", l.Image)
	return nil
}

// await shows the server loading until it is ready. Ctrl-C leaves it at that.
func (v *served) await(ctx context.Context, p *progress) error {
	m := p.meter("model")
	err := v.WaitReady(ctx, m.loading)
	m.end()
	if ctx.Err() != nil {
		p.warn("%s goes on loading on %s; launcher serve %s shows it again, launcher stop %s ends it", v.model.Name, v.site.title(), v.model.Name, v.model.Name)
		return &exitError{code: exitInterrupted}
	}
	if err != nil {
		return err
	}
	p.done("model", "%s is ready on %s, in %s, network: none", v.model.Name, v.site.title(), v.hosting)
	return nil
}

// others are the servers of ours that run on the machine besides this one, and
// the memory that is free there, where the GPU uses the same.
func (v *served) others(ctx context.Context) ([]server.Other, int64, error) {
	facts, err := v.site.Facts(ctx)
	if err != nil {
		return nil, 0, err
	}
	var list []server.Other
	for _, m := range v.sites.modelsAt(v.site.name) {
		if m.server() == v.model.server() {
			continue
		}
		other, err := v.options.serving(ctx, v.sites, v.site, m)
		if err != nil {
			return nil, 0, err
		}
		status, err := other.Status(ctx)
		if err != nil {
			continue
		}
		if runs, err := other.alive(ctx, status); err == nil && runs {
			list = append(list, server.Other{Name: m.Name, Memory: int64(m.Weights().GB) * 1e9, Running: status.Running})
		}
	}
	return list, facts.MemAvailable, nil
}
