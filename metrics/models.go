package metrics

import (
	"net/http"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/policy"
)

// maxModels bounds the models that have a label of their own.
const maxModels = 32

// Buckets in seconds. The prefill of a long prompt takes minutes on a small
// machine; a token takes 5 ms on a fast one.
var (
	firstTokenBuckets = []float64{0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320}
	perTokenBuckets   = []float64{0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2.5}
	durationBuckets   = []float64{0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600}
)

// models counts what agents had of models.
type models struct {
	names      []string
	requests   *prometheus.CounterVec // model, status
	tokens     *prometheus.CounterVec // model, direction
	firstToken *prometheus.HistogramVec
	perToken   *prometheus.HistogramVec
	duration   *prometheus.HistogramVec
}

func newModels(r *prometheus.Registry, names []string) models {
	m := models{
		requests: counter("sallyport_model_requests_total", "Requests that were sent to a model server, by the class of the status that the agent got.", "model", "status"),
		tokens:   counter("sallyport_model_tokens_total", "Tokens as the model servers reported them: of prompts (input) and of answers (output).", "model", "direction"),
		firstToken: histogram("sallyport_model_time_to_first_token_seconds",
			"From a request to the first piece of its streamed answer.", firstTokenBuckets),
		perToken: histogram("sallyport_model_time_per_output_token_seconds",
			"Time per token of a streamed answer after its first piece; an answer is one observation, its mean.", perTokenBuckets),
		duration: histogram("sallyport_model_request_duration_seconds", "From a request to the end of its answer.", durationBuckets),
	}
	for _, name := range names[:min(len(names), maxModels)] {
		m.names = append(m.names, label(name))
	}
	for _, name := range append(slices.Clone(m.names), other) {
		for _, status := range statuses {
			m.requests.WithLabelValues(name, status)
		}
		m.tokens.WithLabelValues(name, "input")
		m.tokens.WithLabelValues(name, "output")
		m.firstToken.WithLabelValues(name)
		m.perToken.WithLabelValues(name)
		m.duration.WithLabelValues(name)
	}
	r.MustRegister(m.requests, m.tokens, m.firstToken, m.perToken, m.duration)
	return m
}

// add counts an event of the model endpoint. Others, what was refused, and what
// the gateway answered itself are left out.
func (m models) add(e audit.Event) {
	if e.Layer != audit.LayerModel || e.Method != http.MethodPost || e.Verdict != policy.Allow.String() || e.Lost > 0 {
		return
	}
	name := oneOf(m.names, label(e.Model))
	m.requests.WithLabelValues(name, status(e.Status)).Inc()
	// What a model server reports is not believed to be sane.
	m.tokens.WithLabelValues(name, "input").Add(float64(max(e.TokensIn, 0)))
	m.tokens.WithLabelValues(name, "output").Add(float64(max(e.TokensOut, 0)))
	if sane(e.Duration) {
		m.duration.WithLabelValues(name).Observe(e.Duration)
	}
	if sane(e.FirstToken) {
		m.firstToken.WithLabelValues(name).Observe(e.FirstToken)
	}
	if sane(e.TokensPerSecond) {
		m.perToken.WithLabelValues(name).Observe(1 / e.TokensPerSecond)
	}
}

// sane reports whether a number was measured, and is one that sums survive.
func sane(f float64) bool { return f > 1e-9 && f < 1e9 }

func histogram(name, help string, buckets []float64) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, []string{"model"})
}
