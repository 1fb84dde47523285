package main

import (
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/config"
	"github.com/sallyport/sallyport/control"
	"github.com/sallyport/sallyport/metrics"
	"github.com/sallyport/sallyport/models"
	"github.com/sallyport/sallyport/sandbox"
)

// record is the store of events, and the metrics that count what it was given.
type record struct {
	*audit.Store
	metrics *metrics.Metrics
}

// Append stores e, and counts it if it was stored.
func (r *record) Append(e audit.Event) (audit.Event, error) {
	stored, err := r.Store.Append(e)
	if err == nil {
		r.metrics.Observe(e)
	}
	return stored, err
}

// AppendAll stores all of events or none, and counts them if they were stored.
func (r *record) AppendAll(events []audit.Event) ([]audit.Event, error) {
	stored, err := r.Store.AppendAll(events)
	if err == nil {
		for _, e := range events {
			r.metrics.Observe(e)
		}
	}
	return stored, err
}

// AppendEach stores all of events or none, and counts them if they were stored.
func (r *record) AppendEach(events []audit.Event) error {
	err := r.Store.AppendEach(events)
	if err == nil {
		for _, e := range events {
			r.metrics.Observe(e)
		}
	}
	return err
}

// openRecord opens the store as the configuration says.
func (g *gateway) openRecord() error {
	c := g.config.Audit
	o := audit.Options{Keep: time.Duration(c.Keep), Max: int64(c.Max), Log: g.log}
	if c.OnFailure == config.FailContinue {
		o.OnFailure = audit.FailContinue
	}
	if c.Sink != "" {
		o.Sink = &audit.SinkOptions{Path: c.Sink, MaxBytes: int64(c.SinkMax), Files: int(c.SinkFiles)}
	}
	store, err := audit.Open(g.paths.Audit(), o)
	if err != nil {
		return err
	}
	g.audit = &record{Store: store, metrics: metrics.New(metrics.Sources{
		Store: store.Health, Sandboxes: func() []sandbox.State { return g.hub.List() }, Hosts: func() []control.HostStatus { return g.hosts.status() },
		Wall: func() (up, ipv6 bool) { return g.hub.WallUp() }, Models: g.modelNames(), Version: version(),
	})}
	return nil
}

// modelNames are those that the user may name, and so may stand in a metric.
func (g *gateway) modelNames() []string {
	var names []string
	for _, m := range g.config.Models {
		names = append(names, m.Name)
	}
	for _, p := range models.All() {
		names = append(names, p.Name)
	}
	return names
}
