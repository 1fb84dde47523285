package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/control"
	"github.com/sallyport/sallyport/models/server"
	"github.com/sallyport/sallyport/sandbox"
	"github.com/spf13/cobra"
)

// stopRequest is what launcher stop is asked for.
type stopRequest struct {
	all    bool // sandboxes, the wall and the gateway
	models bool // with all: the models' servers too
	force  bool // also servers that somebody uses
	host   string
}

func newStopCommand(o *options) *cobra.Command {
	var r stopRequest
	c := &cobra.Command{
		Use:   "stop [MODEL…] [SANDBOX…]",
		Short: "End models' servers, or agents and their sandboxes",
		Long: `End models' servers, or agents and their sandboxes. A server that a sandbox uses, or
that answers somebody, needs --force. --all ends all sandboxes of this user, the wall
and the gateway; models' servers go on, unless --models is given too.`,
		Example: `  launcher stop gpt-oss                 the model's server
  launcher stop 3fa85f645717            a sandbox
  launcher stop --all                   all sandboxes, the wall and the gateway
  launcher stop --all --models          the models' servers too`,
		ValidArgsFunction: o.completeStop,
		RunE: func(cmd *cobra.Command, names []string) error {
			if r.models && !r.all {
				return usage(errors.New("--models goes with --all; hint: launcher stop --all --models, or name the models"))
			}
			if len(names) == 0 == !r.all {
				return usage(errors.New("name models or sandboxes (see launcher status), or use --all"))
			}
			return o.runStop(cmd.Context(), r, names)
		},
	}
	c.Flags().BoolVar(&r.all, "all", false, "all of this user's sandboxes, the wall and the gateway")
	c.Flags().BoolVar(&r.models, "models", false, "with --all: the models' servers too")
	c.Flags().BoolVar(&r.force, "force", false, "also a server that somebody uses")
	o.hostFlag(c, &r.host)
	return o.dryFlag(c)
}

func (o *options) runStop(ctx context.Context, r stopRequest, names []string) error {
	s, err := o.prepareSites(true)
	if err != nil {
		return err
	}
	defer s.closeAll()
	found, ids, err := s.sort(names)
	if err != nil {
		return err
	}
	if r.models && r.all {
		r.force = true // nobody is left that could use them, here
	}
	for _, m := range found {
		if err := s.stopModel(ctx, m, r); err != nil {
			return err
		}
	}
	if len(ids) == 0 && !r.all {
		return nil
	}
	if o.dryRun {
		return o.planStop(s, ids, r)
	}
	c, _, engine, err := o.open(ctx)
	if err != nil {
		return err
	}
	defer engine.Close()
	if err := o.stopSandboxes(ctx, engine, c, ids, r.all); err != nil || !r.all {
		return err
	}
	return s.afterAll(ctx, r)
}

// sort tells the models among names from the sandboxes.
func (s *sites) sort(names []string) (found []model, ids []string, err error) {
	for _, name := range names {
		m, err := findModel(s.config, name)
		switch {
		case err == nil && !m.StandIn():
			if err := oursOnly(m); err != nil {
				return nil, nil, err
			}
			found = append(found, m)
		case sandboxID.MatchString(name):
			ids = append(ids, name)
		default:
			return nil, nil, usage(fmt.Errorf("%q is no model and no sandbox; hint: launcher status names them, and the first four digits of a sandbox will do", name))
		}
	}
	return found, ids, nil
}

// stopModel ends a model's server, on each of its machines or on one.
func (s *sites) stopModel(ctx context.Context, m model, r stopRequest) error {
	hosts := m.places
	if r.host != "" {
		host, err := pickHost(m, r.host)
		if err != nil {
			return err
		}
		hosts = []string{host}
	}
	for _, host := range hosts {
		if err := s.stopOne(ctx, m, host, r); err != nil {
			return err
		}
	}
	return nil
}

func (s *sites) stopOne(ctx context.Context, m model, host string, r stopRequest) error {
	there, err := s.get(ctx, host)
	if err != nil {
		return err
	}
	v, err := s.options.serving(ctx, s, there, m)
	if err != nil {
		return err
	}
	return v.stop(ctx, r)
}

// stop ends the server by what its process does, whatever it answers.
func (v *served) stop(ctx context.Context, r stopRequest) error {
	out, there := v.options.stdout, v.site
	status, err := v.Status(ctx)
	if err != nil {
		return err
	}
	runs, err := v.alive(ctx, status)
	if err != nil {
		return err
	}
	if !runs {
		_, err := fmt.Fprintf(out, "%s does not run on %s (%s)\n", v.model.Name, there.title(), status.State)
		return err
	}
	if !r.force {
		if err := v.inUse(ctx, status); err != nil {
			return err
		}
	}
	if v.options.dryRun {
		_, err := fmt.Fprintf(out, "would stop %s on %s, in %s%s\n", v.model.Name, there.title(), v.hosting, startedBy(status))
		return err
	}
	if err := v.Stop(ctx); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "stopped %s on %s\n", v.model.Name, there.title())
	return err
}

// inUse is an error if somebody uses the server: a sandbox of this user's
// gateway, or whoever it is answering.
func (v *served) inUse(ctx context.Context, status server.Status) error {
	gateway, err := control.NewClient(v.sites.caller.paths.ControlSocket()).Status(ctx)
	if err != nil && !errors.Is(err, control.ErrNotRunning) {
		return err
	}
	place := sandbox.Place{Host: v.site.name, Network: "unix", Address: v.socket()}
	var users []string
	for _, s := range gateway.Sandboxes {
		if s.Phase != sandbox.Ended && slices.Contains(s.Upstream.Places(), place) {
			users = append(users, s.Sandbox)
		}
	}
	switch {
	case len(users) > 0:
		return fmt.Errorf("%s on %s is used by sandbox %s; hint: launcher stop %s first, or --force", v.model.Name, v.site.title(), strings.Join(users, ", "), strings.Join(users, " "))
	case status.Running > 0:
		return fmt.Errorf("%s on %s is answering %d requests%s; hint: --force ends it all the same", v.model.Name, v.site.title(), status.Running, startedBy(status))
	}
	return nil
}

// afterAll ends the models' servers, or says which go on.
func (s *sites) afterAll(ctx context.Context, r stopRequest) error {
	s.ask = r.models // who did not ask for them is not asked for passphrases
	if !r.models {
		s.patience = hurried
	}
	for _, report := range s.survey(ctx, s.ours()) {
		if !report.Alive {
			if report.Error != "" && report.Listed && r.models {
				s.options.newProgress().warn("%s on %s: %s", report.Name, titleOf(report.Host), audit.Printable(report.Error))
			}
			continue
		}
		if !r.models {
			fmt.Fprintf(s.options.stdout, "model %s goes on on %s; launcher stop %s ends it\n", report.Name, titleOf(report.Host), report.Name)
			continue
		}
		m, err := findModel(s.config, report.Name)
		if err != nil {
			return err
		}
		if err := s.stopOne(ctx, m, report.Host, r); err != nil {
			return err
		}
	}
	return nil
}
