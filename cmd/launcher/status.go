package main

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/containers"
	"github.com/sallyport/sallyport/control"
	"github.com/sallyport/sallyport/sandbox"
)

// statusReport is what launcher status prints as JSON.
type statusReport struct {
	Gateway   bool            `json:"gateway"` // it runs
	Wall      bool            `json:"wall"`    // it is connected
	Sandboxes []sandboxReport `json:"sandboxes"`
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
}

func (o *options) printStatus(asJSON bool, status control.Status, running bool, agents []containers.Container) error {
	report := statusReport{Gateway: running, Wall: status.Wall.Up, Sandboxes: []sandboxReport{}}
	registered := map[string]sandbox.State{}
	for _, s := range status.Sandboxes {
		registered[s.Sandbox] = s
	}
	for _, c := range agents {
		id := c.Labels[containers.LabelSandbox]
		s, known := registered[id]
		r := sandboxReport{ID: id, Project: c.Labels[containers.LabelProject], State: c.State, Phase: sandbox.Ended,
			Launcher: launcherAlive(c.Labels[containers.LabelLauncher]), Since: c.Created}
		if known {
			r.Agent, r.Model, r.Server, r.Phase, r.Since = s.Agent, s.Model, s.Upstream.String(), s.Phase, s.Since
			r.Network = "not controlled"
			if s.Upstream.Controlled {
				r.Network = "none"
			}
		}
		report.Sandboxes = append(report.Sandboxes, r)
	}
	if asJSON {
		e := json.NewEncoder(o.stdout)
		e.SetIndent("", "  ")
		return e.Encode(report)
	}
	gateway := "not running (the next agent starts it)"
	if running {
		gateway = fmt.Sprintf("running, pid %d, wall up: %t (more: gateway status)", status.PID, status.Wall.Up)
	}
	fmt.Fprintf(o.stdout, "gateway  %s\n", gateway)
	for _, r := range report.Sandboxes {
		note := ""
		if !r.Launcher {
			note = ", its launcher is gone: the next one removes it"
		}
		fmt.Fprintf(o.stdout, "sandbox  %s %s: %s with %s at %s (network of this server: %s), project %s%s\n",
			r.ID, r.Phase, r.Agent, r.Model, r.Server, r.Network, audit.Printable(r.Project), note)
	}
	if len(report.Sandboxes) == 0 {
		fmt.Fprintln(o.stdout, "sandbox  none")
	}
	return nil
}
