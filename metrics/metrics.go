// Package metrics says in numbers what the gateway does, for Prometheus: one
// handler, and a registry of its own. It counts the events that it is handed and
// asks its sources at each scrape; it stores nothing, decides nothing and opens no
// socket. What an agent chooses is never a label: every value of every label comes
// from a fixed set, from the configuration, or is "other".
package metrics

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/control"
	"github.com/sallyport/sallyport/sandbox"
)

const (
	maxScrapes = 4                // at once; more are answered 503
	scrapeTime = 10 * time.Second // for one; a slower one is answered 503
)

// Sources are what a scrape asks. They are called at any time, by several
// goroutines at once. A nil one's metrics are left out.
type Sources struct {
	Store     func() audit.Health
	Sandboxes func() []sandbox.State
	Hosts     func() []control.HostStatus
	Wall      func() (up, ipv6 bool)
	// Models are the names that can stand as the label "model": those of the
	// configuration and those that are known without it. Only the first 32 do.
	Models  []string
	Version string // the program's
}

// Metrics counts events and answers scrapes. It is safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry
	attempts attempts
	models   models
}

// New makes a Metrics that has counted nothing.
func New(s Sources) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry()}
	m.attempts = newAttempts(m.registry)
	m.models = newModels(m.registry, s.Models)
	m.registry.MustRegister(newState(s), buildInfo(s.Version),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Observe counts one event that was recorded. It has to be the event as it was
// handed to the store: what the store returns of a repeat is the sum of all so
// far. Repeats of that kind are passed over.
func (m *Metrics) Observe(e audit.Event) {
	if e.Open || e.RepeatOf != "" {
		return
	}
	m.attempts.add(e)
	m.models.add(e)
}

// Handler answers scrapes.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: maxScrapes, Timeout: scrapeTime})
}

// buildInfo is a metric whose value says nothing and whose label does.
func buildInfo(version string) prometheus.Collector {
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "sallyport_build_info", Help: "The gateway's version, as a label; always 1.",
		ConstLabels: prometheus.Labels{"version": label(version)},
	})
	info.Set(1)
	return info
}
