package metrics

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sallyport/sallyport/audit"
)

// attempts counts what was tried, and what is known by its number only.
type attempts struct {
	decisions *prometheus.CounterVec // layer, verdict, origin
	lost      *prometheus.CounterVec // kind, bound
	in, out   *prometheus.CounterVec // layer
}

func newAttempts(r *prometheus.Registry) attempts {
	a := attempts{
		decisions: counter("sallyport_decisions_total",
			"Attempts that were decided (of packets: packets), by the layer that saw them, the verdict, and whose they were.",
			"layer", "verdict", "origin"),
		lost: counter("sallyport_lost_attempts_total",
			"Attempts that are known by their number only, by the layer that missed them. bound says whether that is exact or at most so many.",
			"kind", "bound"),
		in:  counter("sallyport_received_bytes_total", "Bytes that came from sandboxes in what was recorded.", "layer"),
		out: counter("sallyport_sent_bytes_total", "Bytes that went to sandboxes in what was recorded.", "layer"),
	}
	for _, layer := range layers {
		for _, verdict := range verdicts {
			for _, origin := range origins {
				a.decisions.WithLabelValues(layer, verdict, origin)
			}
		}
		a.lost.WithLabelValues(layer, bound(false))
		a.lost.WithLabelValues(layer, bound(true))
		a.in.WithLabelValues(layer)
		a.out.WithLabelValues(layer)
	}
	r.MustRegister(a.decisions, a.lost, a.in, a.out)
	return a
}

func (a attempts) add(e audit.Event) {
	layer := oneOf(layers, string(e.Layer))
	if e.Lost > 0 {
		a.lost.WithLabelValues(layer, bound(e.About)).Add(float64(e.Lost))
		return
	}
	a.decisions.WithLabelValues(layer, oneOf(verdicts, e.Verdict), origin(e.Subject)).Add(float64(max(e.Count, 1)))
	a.in.WithLabelValues(layer).Add(float64(max(e.BytesIn, 0)))
	a.out.WithLabelValues(layer).Add(float64(max(e.BytesOut, 0)))
}

func bound(about bool) string {
	if about {
		return "at_most"
	}
	return "exact"
}

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
}
