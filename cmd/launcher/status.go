package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/containers"
	"github.com/sallyport/sallyport/control"
	"github.com/sallyport/sallyport/models/server"
	"github.com/sallyport/sallyport/sandbox"
	"github.com/spf13/cobra"
)

// statusReport is what launcher status prints as JSON.
type statusReport struct {
	Gateway   bool            `json:"gateway"` // it runs
	PID       int             `json:"pid,omitempty"`
	Wall      bool            `json:"wall"` // it is connected
	Sandboxes []sandboxReport `json:"sandboxes"`
	Models    []modelReport   `json:"models"`
	Error     string          `json:"error,omitempty"` // why nothing is known of sandboxes
}

type sandboxReport struct {
	ID       string        `json:"id"`
	Agent    string        `json:"agent"`
	Model    string        `json:"model"`
	Server   string        `json:"server"`
	Network  string        `json:"network"` // of the model server: "none", or "not controlled"
	Project  string        `json:"project"`
	Phase    sandbox.Phase `json:"phase"`
	State    string        `json:"state"` // of the agent's container
	Launcher bool          `json:"launcher"`
	Since    time.Time     `json:"since"`
	Usage    sandbox.Usage `json:"usage"`
}

func newStatusCommand(o *options) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "status",
		Short: "Say which sandboxes and models' servers run",
		Long: `Say which sandboxes run, and how the models' servers are: on which machine, in which
state, with what network, started by whom. A host that does not answer in time is named
and holds nothing up.`,
		Example: "  launcher status\n  launcher status --json | jq .sandboxes\n  launcher status --json | jq '.models[] | select(.state == \"ready\")'",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := o.prepareSites(false)
			if err != nil {
				return err
			}
			defer s.closeAll()
			var reports []modelReport
			surveyed := make(chan struct{})
			go func() { defer close(surveyed); reports = s.survey(cmd.Context(), s.ours()) }()
			sandboxes, err := o.sandboxes(cmd.Context())
			<-surveyed
			sandboxes.Models = shown(reports)
			if err != nil && len(sandboxes.Models) == 0 || errors.Is(err, context.Canceled) {
				return err
			}
			if err != nil { // no reason to keep silent about the models
				sandboxes.Error = err.Error()
			}
			return o.printStatus(asJSON, sandboxes)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// sandboxes looks at gateway and engine. With an error the report holds what is
// known all the same.
func (o *options) sandboxes(ctx context.Context) (statusReport, error) {
	report := statusReport{Sandboxes: []sandboxReport{}, Models: []modelReport{}}
	c, _, engine, err := o.open(ctx)
	if err != nil {
		return report, err
	}
	defer engine.Close()
	agents, err := o.list(ctx, engine, c, containers.RoleAgent)
	if err != nil {
		return report, err
	}
	status, err := control.NewClient(c.paths.ControlSocket()).Status(ctx)
	if err != nil && !errors.Is(err, control.ErrNotRunning) {
		return report, err
	}
	report.Gateway, report.PID, report.Wall = err == nil, status.PID, status.Wall.Up
	registered := map[string]sandbox.State{}
	for _, s := range status.Sandboxes {
		registered[s.Sandbox] = s
	}
	for _, agent := range agents {
		report.Sandboxes = append(report.Sandboxes, sandboxOf(agent, registered))
	}
	return report, nil
}

func sandboxOf(c containers.Container, registered map[string]sandbox.State) sandboxReport {
	id := c.Labels[containers.LabelSandbox]
	s, known := registered[id]
	r := sandboxReport{ID: id, Project: c.Labels[containers.LabelProject], State: c.State, Phase: sandbox.Ended,
		Launcher: launcherAlive(c.Labels[containers.LabelLauncher]), Since: c.Created}
	if !known {
		return r
	}
	r.Agent, r.Model, r.Server, r.Phase, r.Since, r.Usage = s.Agent, s.Model, s.Upstream.String(), s.Phase, s.Since, s.Usage
	r.Network = "not controlled"
	if s.Upstream.Controlled {
		r.Network = "none"
	}
	return r
}

// shown are the reports that status has something to say about: what was set up,
// and what runs or ran.
func shown(reports []modelReport) []modelReport {
	return slices.DeleteFunc(reports, func(r modelReport) bool {
		return !r.Listed && (r.State == string(server.Absent) || r.State == stateUnknown)
	})
}

func (o *options) printStatus(asJSON bool, report statusReport) error {
	if asJSON {
		return printJSON(o.stdout, report)
	}
	if report.Error == "" {
		o.printSandboxes(report)
	} else {
		fmt.Fprintln(o.stdout, "sandbox  unknown")
		fmt.Fprintf(o.stderr, "launcher: %s\n", printable(report.Error))
	}
	for _, r := range report.Models {
		fmt.Fprintf(o.stdout, "model    %s\n", audit.Printable(r.line()))
	}
	tellUnknown(o.stderr, report.Models)
	return nil
}

func (o *options) printSandboxes(report statusReport) {
	gateway := "not running (the next agent starts it)"
	if report.Gateway {
		gateway = fmt.Sprintf("running, pid %d, wall up: %t (more: gateway status)", report.PID, report.Wall)
	}
	fmt.Fprintf(o.stdout, "gateway  %s\n", gateway)
	for _, r := range report.Sandboxes {
		note := ""
		if r.Usage.TokensPerSecond > 0 {
			note = fmt.Sprintf(", %.1f tokens/s", r.Usage.TokensPerSecond)
		}
		if !r.Launcher {
			note += ", its launcher is gone: the next one removes it"
		}
		fmt.Fprintf(o.stdout, "sandbox  %s %s: %s with %s at %s (network of this server: %s), project %s%s\n",
			r.ID, r.Phase, r.Agent, r.Model, r.Server, r.Network, audit.Printable(r.Project), note)
	}
	if len(report.Sandboxes) == 0 {
		fmt.Fprintln(o.stdout, "sandbox  none")
	}
}

// line is a model's server in one line.
func (r modelReport) line() string {
	text := fmt.Sprintf("%s on %s: %s", r.Name, titleOf(r.Host), r.State)
	add := func(format string, args ...any) { text += ", " + fmt.Sprintf(format, args...) }
	if r.Stage != "" {
		add("%s", r.Stage)
	}
	if r.Detail != "" {
		add("%s", r.Detail)
	}
	if r.Alive && r.State == string(server.Failed) {
		add("still running: launcher stop %s ends it", r.Name)
	}
	if r.State == stateUnknown {
		return text
	}
	if !r.Since.IsZero() {
		add("since %s", r.Since.Local().Format("2006-01-02 15:04"))
	}
	if r.By != "" {
		add("started by %s", r.By)
	}
	if r.Running >= 0 {
		add("%d requests", r.Running)
	}
	if r.Rate > 0 {
		add("%.1f tokens/s last seen", r.Rate)
	}
	if r.State == string(server.Ready) || r.State == string(server.Starting) {
		add("network: %s", r.Network)
	}
	return text
}
