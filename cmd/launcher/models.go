package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/config"
	"github.com/sallyport/sallyport/models"
	"github.com/sallyport/sallyport/models/hub"
	"github.com/spf13/cobra"
)

func newModelsCommand(o *options) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "models",
		Short: "List the models: where they are served, and whether their weights are there",
		Long: `List the models of the configuration and those that are known besides: engine, host,
state, context, where the weights are, and the tokens per second last seen, which are
kept when a session ends. A host that does not answer in time leaves them unknown.`,
		Example: "  launcher models\n  launcher models --json\n  launcher models show gpt-oss",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := o.prepareSites(false)
			if err != nil {
				return err
			}
			defer s.closeAll()
			reports := s.survey(cmd.Context(), allModels(s.config))
			if asJSON {
				return printJSON(o.stdout, reports)
			}
			return printModels(o.stdout, o.stderr, reports)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.AddCommand(newModelsShowCommand(o))
	return c
}

// prepareSites is what commands need that look at machines.
func (o *options) prepareSites(ask bool) (*sites, error) {
	c, err := o.caller()
	if err != nil {
		return nil, err
	}
	cfg, err := o.loadConfig(c)
	if err != nil {
		return nil, err
	}
	return o.newSites(cfg, c, ask), nil
}

func printModels(w, errs io.Writer, reports []modelReport) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tENGINE\tHOST\tSTATE\tCONTEXT\tTOKENS/S\tWEIGHTS")
	for _, r := range reports {
		tokens, context := "-", "-"
		if r.Rate > 0 {
			tokens = strconv.FormatFloat(r.Rate, 'f', 1, 64)
		}
		if r.Context > 0 {
			context = strconv.Itoa(r.Context)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Name, r.Engine, titleOf(r.Host), r.State, context, tokens, audit.Printable(r.Weights.String(r.State)))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	tellUnknown(errs, reports)
	return nil
}

// tellUnknown says once per machine and reason why something is not known.
func tellUnknown(w io.Writer, reports []modelReport) {
	said := map[string]bool{}
	for _, r := range reports {
		if r.Error == "" || said[r.Error] || !r.Listed && r.Host == "" {
			continue // who has not set anything up here need not hear what is missing
		}
		said[r.Error] = true
		fmt.Fprintf(w, "launcher: %s\n", printable(r.Error))
	}
}

// String says in a table where the weights are.
func (r weightsReport) String(state string) string {
	switch {
	case state == stateExternal || state == stateStandIn:
		return "-"
	case !r.Known:
		return stateUnknown
	case r.Complete:
		return r.Folder
	}
	size := ""
	if r.GB > 0 {
		size = fmt.Sprintf(" of %d GB", r.GB)
	}
	if r.Have > 0 {
		return gigabytes(r.Have) + size + " in " + r.Folder
	}
	if r.GB > 0 {
		return fmt.Sprintf("missing, %d GB", r.GB)
	}
	return "missing"
}

func newModelsShowCommand(o *options) *cobra.Command {
	var host string
	var asJSON bool
	c := &cobra.Command{
		Use:   "show MODEL",
		Short: "Print the exact container and command line of a model's server",
		Long: `Print the exact container and command line that a model's server is started with. It
does nothing else than to look at the machine: its devices, folders and engine decide.`,
		Example:           "  launcher models show gpt-oss\n  launcher models show gpt-oss --host strix2",
		Args:              needArgs(1, "one MODEL"),
		ValidArgsFunction: o.completeServers,
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := o.about(args[0], host, true)
			if err != nil {
				return err
			}
			defer a.sites.closeAll()
			shown, err := a.show(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(o.stdout, shown)
			}
			_, err = fmt.Fprint(o.stdout, printable(shown.text()))
			return err
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	o.hostFlag(c, &host)
	return c
}

// showReport is what a model's server is started with.
type showReport struct {
	Name    string        `json:"name"`
	Title   string        `json:"title"`
	Engine  models.Engine `json:"engine"`
	Host    string        `json:"host"` // empty: this machine
	In      string        `json:"in"`   // an engine, or a process
	Network string        `json:"network"`
	Socket  string        `json:"socket"`
	Pull    config.Pull   `json:"pull"`
	Repo    string        `json:"repo"`
	At      string        `json:"revision"`
	Where   string        `json:"weights"` // folder, or what is missing
	Command string        `json:"command"` // exact, as one could type it
	Argv    []string      `json:"argv"`    // of the server itself
	Env     []string      `json:"env"`
	Image   string        `json:"image,omitempty"`
}

func (r showReport) text() string {
	var b strings.Builder
	say := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-8s %s\n", name, fmt.Sprintf(format, args...))
	}
	say("model", "%s: %s", r.Name, r.Title)
	say("engine", "%s on %s, in %s", r.Engine, titleOf(r.Host), r.In)
	say("network", "%s", r.Network)
	say("socket", "%s", r.Socket)
	say("weights", "%s at %s: %s", r.Repo, r.At, r.Where)
	if r.Pull == config.PullDirect {
		say("pull", "direct: with the network of %s, not recorded", titleOf(r.Host))
	}
	fmt.Fprintf(&b, "\n%s\n", strings.TrimRight(r.Command, "\n"))
	return b.String()
}

// show describes the server and what it is started with.
func (a *modelCommand) show(ctx context.Context) (showReport, error) {
	v, err := a.served(ctx)
	if err != nil {
		return showReport{}, err
	}
	found, err := v.find(ctx)
	if err != nil {
		return showReport{}, err
	}
	l, err := v.launch(found)
	if err != nil {
		return showReport{}, err
	}
	w := a.model.Weights()
	return showReport{Name: a.model.Name, Title: a.model.Title, Engine: a.model.Engine, Host: a.host, In: v.hosting.String(), Network: "none",
		Socket: l.Socket, Pull: a.model.pull, Repo: w.Repo, At: orMain(w.Revision), Where: whereWeights(v, found),
		Command: l.String(), Argv: l.Argv, Env: l.Env, Image: l.Image}, nil
}

func orMain(revision string) string {
	if revision == "" {
		return "main"
	}
	return revision
}

func whereWeights(v *served, found hub.Found) string {
	r := weightsReport{Known: true, Complete: found.Complete, Folder: v.weights(found), GB: v.model.Weights().GB, Have: found.HaveBytes}
	return r.String("")
}
