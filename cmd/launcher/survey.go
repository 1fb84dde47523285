package main

import (
	"context"
	"encoding/json"
	"io"
	"slices"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/models"
	"github.com/sallyport/sallyport/models/server"
	"golang.org/x/sync/errgroup"
)

const (
	surveyTime = 8 * time.Second // for one machine: one that does not answer holds nothing up
	hurried    = 2 * time.Second // the same, where nobody asked about the models
	surveyMany = 8               // questions at a time
)

// What modelReport.State says besides server.State.
const (
	stateUnknown  = "unknown"  // the machine did not answer, or has nothing to run it in
	stateExternal = "external" // somebody else's server: it is not asked
	stateStandIn  = "stand-in" // the demo, which each session starts
)

// modelReport is a model on one machine, as launcher models and status tell it.
type modelReport struct {
	Name    string        `json:"name"`
	Engine  models.Engine `json:"engine"`
	Host    string        `json:"host"` // empty: this machine
	State   string        `json:"state"`
	Alive   bool          `json:"alive"`            // its process runs, whatever it answers
	Stage   string        `json:"stage,omitempty"`  // while it starts
	Detail  string        `json:"detail,omitempty"` // why it failed or stopped
	Since   time.Time     `json:"since,omitzero"`
	By      string        `json:"by,omitempty"`
	Network string        `json:"network"` // of the server: "none", or "not controlled"
	Where   string        `json:"where,omitempty"`
	Version string        `json:"version,omitempty"`
	Context int           `json:"context"` // tokens; zero: the model's own
	Running int           `json:"running"` // requests; below zero: not known
	Rate    float64       `json:"tokens_per_second,omitempty"`
	Weights weightsReport `json:"weights"`
	Listed  bool          `json:"configured"`
	Error   string        `json:"error,omitempty"` // why something is not known
}

// weightsReport says where a model's weights are.
type weightsReport struct {
	Known    bool   `json:"known"`
	Complete bool   `json:"complete"`
	Folder   string `json:"folder,omitempty"`
	GB       int    `json:"gb,omitempty"` // of the download
	Have     int64  `json:"have_bytes"`
}

// ours are the models whose servers we start and stop.
func (s *sites) ours() []model {
	return slices.DeleteFunc(allModels(s.config), func(m model) bool { return !m.ours() })
}

// survey asks each machine about its models, all machines at the same time, and
// none for long.
func (s *sites) survey(ctx context.Context, list []model) []modelReport {
	reports := []modelReport{}
	at := map[string][]int{} // by machine
	named := map[int]model{}
	for _, m := range list {
		for _, host := range m.places {
			i := len(reports)
			reports = append(reports, s.blank(m, host))
			named[i] = m
			if m.ours() {
				at[host] = append(at[host], i)
			}
		}
	}
	var all errgroup.Group
	for host, indexes := range at {
		all.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, s.patience)
			defer cancel()
			there, err := s.get(ctx, host)
			var some errgroup.Group
			some.SetLimit(surveyMany)
			for _, i := range indexes {
				if err != nil {
					reports[i].Error = err.Error()
					continue
				}
				some.Go(func() error { s.look(ctx, there, named[i], &reports[i]); return nil })
			}
			return some.Wait()
		})
	}
	_ = all.Wait() // what failed is in the reports
	return reports
}

// blank is what is known of a model without asking anybody.
func (s *sites) blank(m model, host string) modelReport {
	r := modelReport{Name: m.Name, Engine: m.Engine, Host: host, State: stateUnknown, Network: "none", Context: m.MaxContext,
		Running: -1, Listed: m.listed, Weights: weightsReport{GB: m.Weights().GB}}
	switch {
	case m.StandIn():
		r.State, r.Where = stateStandIn, "our own binary"
	case !m.ours():
		r.State, r.Network, r.Where = stateExternal, "not controlled", m.Endpoint
	}
	if run, err := s.options.history(s.caller).Load(m.server(), host); err == nil {
		r.Rate = run.TokensPerSecond
	}
	return r
}

// look fills in what a machine says of a model.
func (s *sites) look(ctx context.Context, there *site, m model, r *modelReport) {
	v, err := s.options.serving(ctx, s, there, m)
	if err != nil {
		r.Error = err.Error()
		return
	}
	r.Where = v.hosting.String()
	if found, err := v.find(ctx); err == nil {
		r.Weights = weightsReport{Known: true, Complete: found.Complete, Folder: v.weights(found), GB: m.Weights().GB, Have: found.HaveBytes}
	} else {
		r.Error = err.Error()
	}
	status, err := v.Status(ctx)
	if err != nil {
		r.Error = err.Error()
		return
	}
	r.State, r.Since, r.By = string(status.State), status.Since, audit.Printable(status.By)
	r.Stage, r.Detail, r.Version = audit.Printable(status.Stage), audit.Printable(status.Detail), audit.Printable(status.Version)
	r.Running = status.Running
	if r.Alive, err = v.alive(ctx, status); err != nil {
		r.Error = err.Error()
	}
	if status.MaxContext > 0 {
		r.Context = status.MaxContext
	}
	if status.State != server.Ready {
		r.Running = -1
	}
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
