package metrics

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/control"
	"github.com/sallyport/sallyport/sandbox"
)

// maxHosts bounds the GPU hosts that have a label of their own; all are counted.
const maxHosts = 64

var phases = []string{string(sandbox.Waiting), string(sandbox.Held), string(sandbox.Ready), string(sandbox.Ended), other}

// metric is one number of a source, and how it is published.
type metric[S any] struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(S) float64
}

func gauge[S any](name, help string, value func(S) float64, labels ...string) metric[S] {
	return metric[S]{prometheus.NewDesc(name, help, labels, nil), prometheus.GaugeValue, value}
}

func total[S any](name, help string, value func(S) float64, labels ...string) metric[S] {
	return metric[S]{prometheus.NewDesc(name, help, labels, nil), prometheus.CounterValue, value}
}

func (m metric[S]) send(to chan<- prometheus.Metric, source S, labels ...string) {
	to <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(source), labels...)
}

// state is what the sources say at the time of a scrape. It implements
// prometheus.Collector.
type state struct {
	Sources
	store     []metric[audit.Health]
	hosts     []metric[control.HostStatus]
	allHosts  metric[int]
	sandboxes metric[int]
	wall      metric[bool]
	wallIPv6  metric[bool]
}

func newState(s Sources) *state {
	return &state{Sources: s, store: storeMetrics(), hosts: hostMetrics(),
		allHosts:  gauge("sallyport_tunnel_hosts", "GPU hosts that the gateway was told of.", integer, nil...),
		sandboxes: gauge("sallyport_sandboxes", "Sandboxes by how far they have come; only ready ones are served.", integer, "phase"),
		wall:      gauge("sallyport_wall_up", "Whether the wall is connected; without it no sandbox is served.", truth),
		wallIPv6:  gauge("sallyport_wall_ipv6", "Whether the wall has IPv6.", truth),
	}
}

func hostMetrics() []metric[control.HostStatus] {
	type h = control.HostStatus
	return []metric[h]{
		gauge("sallyport_tunnel_up", "Whether the SSH connection to a GPU host is there.", func(s h) float64 { return truth(s.Up) }, "host"),
		total("sallyport_tunnel_reconnects_total", "SSH connections to a GPU host after the first one.", func(s h) float64 { return float64(s.Reconnects) }, "host"),
		gauge("sallyport_tunnel_change_timestamp_seconds", "When the connection to a GPU host last came or went; 0: it has never been tried.", func(s h) float64 {
			if s.Since.IsZero() {
				return 0
			}
			return float64(s.Since.UnixMilli()) / 1e3
		}, "host"),
	}
}

func storeMetrics() []metric[audit.Health] {
	type h = audit.Health
	return []metric[h]{
		total("sallyport_store_chained_events_total", "Events in the record's chain since it was begun: the number of its last one.", func(s h) float64 { return float64(s.Head.Seq) }),
		total("sallyport_store_appended_events_total", "Events that this gateway has stored.", func(s h) float64 { return float64(s.Appended) }),
		total("sallyport_store_joined_attempts_total", "Attempts that were counted as repeats of an event.", func(s h) float64 { return float64(s.Joined) }),
		gauge("sallyport_store_open_rows", "Repeats that are still being counted.", func(s h) float64 { return float64(s.Open) }),
		gauge("sallyport_store_size_bytes", "Size of the record's database and its write-ahead log.", func(s h) float64 { return float64(s.Bytes) }),
		gauge("sallyport_store_commit_lag_seconds", "How long the last transaction took, from its first event to its commit.", func(s h) float64 { return s.CommitLag.Seconds() }),
		gauge("sallyport_store_failing", "Whether nothing can be stored.", func(s h) float64 { return truth(s.Failing != "") }),
		gauge("sallyport_store_set_aside", "Whether a damaged record was set aside and a new one begun.", func(s h) float64 { return truth(s.SetAside != "") }),
		total("sallyport_store_not_kept_attempts_total", "Attempts that were let pass without a record (on_failure: continue).", func(s h) float64 { return float64(s.NotKept) }),
		total("sallyport_store_pruned_events_total", "Events deleted for their age or the record's size.", func(s h) float64 { return float64(s.Pruned) }),
		gauge("sallyport_sink_queued_events", "Events that wait to be written to the JSON Lines sink.", func(s h) float64 { return float64(s.SinkQueued) }),
		total("sallyport_sink_dropped_events_total", "Events that the sink never got; the record has them.", func(s h) float64 { return float64(s.SinkDropped) }),
		gauge("sallyport_sink_failing", "Whether nothing reaches the sink.", func(s h) float64 { return truth(s.SinkFailing != "") }),
	}
}

// Describe implements prometheus.Collector.
func (s *state) Describe(to chan<- *prometheus.Desc) {
	for _, m := range s.store {
		to <- m.desc
	}
	for _, m := range s.hosts {
		to <- m.desc
	}
	for _, d := range []*prometheus.Desc{s.allHosts.desc, s.sandboxes.desc, s.wall.desc, s.wallIPv6.desc} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (s *state) Collect(to chan<- prometheus.Metric) {
	if s.Store != nil {
		health := s.Store()
		for _, m := range s.store {
			m.send(to, health)
		}
	}
	if s.Wall != nil {
		up, ipv6 := s.Wall()
		s.wall.send(to, up)
		s.wallIPv6.send(to, ipv6)
	}
	s.collectSandboxes(to)
	s.collectHosts(to)
}

func (s *state) collectSandboxes(to chan<- prometheus.Metric) {
	if s.Sandboxes == nil {
		return
	}
	count := map[string]int{}
	for _, box := range s.Sandboxes() {
		count[oneOf(phases, string(box.Phase))]++
	}
	for _, phase := range phases {
		s.sandboxes.send(to, count[phase], phase)
	}
}

func (s *state) collectHosts(to chan<- prometheus.Metric) {
	if s.Hosts == nil {
		return
	}
	hosts := s.Hosts()
	s.allHosts.send(to, len(hosts))
	var seen []string
	for _, host := range hosts {
		name := label(host.Name)
		if len(seen) == maxHosts || slices.Contains(seen, name) {
			continue // the same series twice would fail the whole scrape
		}
		seen = append(seen, name)
		for _, m := range s.hosts {
			m.send(to, host, name)
		}
	}
}

func integer(n int) float64 { return float64(n) }

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
