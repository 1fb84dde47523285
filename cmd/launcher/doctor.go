package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/sallyport/sallyport/config"
	"github.com/sallyport/sallyport/terminal"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
)

func newDoctorCommand(o *options) *cobra.Command {
	var host string
	var asJSON bool
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Check the whole chain, and say what to do about each failure",
		Long: `Check the whole chain: the configuration, this machine, each GPU host (SSH, forwarding
of sockets both ways, engine, devices, memory, disk) and each model (weights, image,
server). Hosts are looked at at the same time, and none for long.

Each line is ok, warn, fail or skip; what to do stands below. The exit code is 1 if
anything failed. Nothing is changed, but for a socket in our folder on each GPU host,
which is removed again.`,
		Example: "  launcher doctor\n  launcher doctor --host strix\n  launcher doctor --json | jq '.checks[] | select(.verdict == \"fail\")'",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.doctor(cmd.Context(), host, asJSON)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.Flags().StringVar(&host, "host", "", "look at the GPU host of that `name` alone; local is this machine")
	_ = c.RegisterFlagCompletionFunc("host", o.completeHosts) // the flag is there
	return c
}

// doctor is one run of launcher doctor.
type doctor struct {
	options *options
	caller  caller
	config  *config.Config // the defaults, if the user's cannot be read
	broken  error          // why it cannot be read
	sites   *sites
	looking *looking
	ask     bool // for passphrases
}

// place is one group of findings, and how they are found.
type place struct {
	title string
	find  func(ctx context.Context) []finding
}

func (o *options) doctor(ctx context.Context, host string, asJSON bool) error {
	d, err := o.newDoctor(asJSON)
	if err != nil {
		return err
	}
	defer d.sites.closeAll()
	places, err := d.places(host)
	if err != nil {
		return err
	}
	report := doctorReport{Checks: d.visit(ctx, places, asJSON)}
	if ctx.Err() != nil {
		return errInterrupted
	}
	report.Counts = count(report.Checks)
	report.OK = report.Counts.Failed == 0
	if asJSON {
		err = printJSON(o.stdout, report)
	} else {
		_, err = fmt.Fprintln(o.stdout, report.Counts)
	}
	if err == nil && !report.OK {
		return &exitError{code: exitFailed}
	}
	return err
}

func (o *options) newDoctor(asJSON bool) (*doctor, error) {
	c, err := o.caller()
	if err != nil {
		return nil, err
	}
	d := &doctor{options: o, caller: c, looking: newLooking(o.newProgress()), ask: !asJSON && terminal.IsTerminal(o.stdin)}
	if d.config, d.broken = o.loadConfig(c); d.broken != nil {
		if d.config, err = defaultConfig(); err != nil {
			return nil, err
		}
	}
	d.sites = o.newSites(d.config, c, d.ask)
	return d, nil
}

// defaultConfig is the configuration of somebody who has set nothing.
func defaultConfig() (*config.Config, error) {
	cfg, err := config.Load(config.Options{Path: "/dev/null"})
	if err != nil {
		return nil, fmt.Errorf("the default configuration: %w", err)
	}
	cfg.Path = ""
	return cfg, nil
}

// places are what is looked at: all, or one host with the configuration.
func (d *doctor) places(host string) ([]place, error) {
	list := []place{{"configuration", func(ctx context.Context) []finding {
		return examine(ctx, "configuration", configChecks(), d, d.tell("configuration"))
	}}}
	local := strings.EqualFold(host, localName)
	if host == "" || local {
		list = append(list, d.here())
	}
	found := local
	for _, h := range d.config.Hosts {
		if host == "" || host == h.Name {
			list, found = append(list, d.there(h)), true
		}
	}
	if host != "" && !found && d.broken == nil {
		return nil, usage(fmt.Errorf("no host is called %q; hint: add it to hosts in the configuration", host))
	}
	return list, nil
}

// here is this machine: for agents always, for model servers if there are any.
func (d *doctor) here() place {
	title := titleOf("")
	return place{title, func(ctx context.Context) []finding {
		list := examine(ctx, title, laptopChecks(), d, d.tell(title))
		at := &checkup{doctor: d, title: title}
		if len(d.modelsAt("")) > 0 {
			list = append(list, examine(ctx, title, append(openChecks(), serverChecks()...), at, d.tell(title))...)
		}
		return append(list, d.models(ctx, at)...)
	}}
}

// there is a GPU host.
func (d *doctor) there(h config.Host) place {
	return place{h.Name, func(ctx context.Context) []finding {
		limit := hostTime
		if d.ask {
			limit += askTime
		}
		ctx, cancel := context.WithTimeoutCause(ctx, limit, errTooLong)
		defer cancel()
		at := &checkup{doctor: d, host: h.Name, ssh: h.SSH, title: h.Name}
		list := examine(ctx, h.Name, append(sshChecks(d.ask), serverChecks()...), at, d.tell(h.Name))
		return append(list, d.models(ctx, at)...)
	}}
}

func (d *doctor) tell(where string) func(string) {
	return func(what string) { d.looking.at(where, what) }
}

// visit looks at all places at the same time, and prints each in its turn.
func (d *doctor) visit(ctx context.Context, places []place, asJSON bool) []finding {
	found := make([][]finding, len(places))
	done := make([]chan struct{}, len(places))
	var all errgroup.Group
	for i, p := range places {
		done[i] = make(chan struct{})
		all.Go(func() error {
			defer close(done[i])
			found[i] = p.find(ctx)
			d.looking.at(p.title, "")
			return nil
		})
	}
	colour := d.options.colour()
	var list []finding
	for i := range places {
		<-done[i]
		list = append(list, found[i]...)
		if !asJSON {
			d.looking.print(func() { printGroups(d.options.stdout, found[i], colour) })
		}
	}
	_ = all.Wait() // what failed is in the findings
	d.looking.print(func() {})
	return list
}
