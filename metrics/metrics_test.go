package metrics_test

import (
	"context"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/control"
	"github.com/sallyport/sallyport/metrics"
	"github.com/sallyport/sallyport/sandbox"
)

// sources are those of a gateway that has something to say of everything.
func sources() metrics.Sources {
	return metrics.Sources{
		Store: func() audit.Health {
			return audit.Health{Head: audit.Head{Seq: 42}, Open: 3, Bytes: 4096, Appended: 40, Joined: 1800, NotKept: 7, Failing: "disk full",
				CommitLag: 20 * time.Millisecond, SinkQueued: 5, SinkDropped: 6, Pruned: 11}
		},
		Sandboxes: func() []sandbox.State {
			return []sandbox.State{{Phase: sandbox.Ready}, {Phase: sandbox.Ready}, {Phase: sandbox.Waiting}, {Phase: "unheard of"}}
		},
		Hosts: func() []control.HostStatus {
			return []control.HostStatus{{Name: "strix", Up: true, Since: time.Unix(1000, 0), Reconnects: 2}, {Name: "bare"}}
		},
		Wall:    func() (up, ipv6 bool) { return true, false },
		Models:  []string{"gpt-oss", "demo"},
		Version: "v1.2.3",
	}
}

// scrape is what a monitor gets.
func scrape(t *testing.T, m *metrics.Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("%d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

// samples are the values by the series as it is written.
func samples(t *testing.T, text string) map[string]float64 {
	t.Helper()
	found := map[string]float64{}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		series, number, ok := cutLast(strings.TrimSuffix(line, "\n"))
		value, err := strconv.ParseFloat(number, 64)
		if _, twice := found[series]; !ok || err != nil || twice {
			t.Fatalf("%q: %v", line, err)
		}
		found[series] = value
	}
	return found
}

func cutLast(line string) (before, after string, ok bool) {
	i := strings.LastIndexByte(line, ' ')
	if i < 0 {
		return line, "", false
	}
	return line[:i], line[i+1:], true
}

func agentEvent(e audit.Event) audit.Event {
	e.Subject = audit.Subject{Sandbox: "3fa85f645717", Agent: "claude", Model: "gpt-oss"}
	return e
}

func TestWhatIsCounted(t *testing.T) {
	m := metrics.New(sources())
	for _, e := range []audit.Event{
		agentEvent(audit.Event{Layer: audit.LayerDNS, Verdict: "denied", Count: 1}),
		agentEvent(audit.Event{Layer: audit.LayerDNS, Verdict: "denied"}), // not stored yet: its count is set there
		agentEvent(audit.Event{Layer: audit.LayerPacket, Verdict: "denied", Count: 40, BytesIn: 100}),
		agentEvent(audit.Event{Layer: audit.LayerProxy, Verdict: "allowed", Count: 1, BytesIn: 10, BytesOut: 2000}),
		{Subject: audit.Subject{Sandbox: "3fa85f645717", Agent: "proof"}, Layer: audit.LayerDNS, Verdict: "denied", Count: 1},
		{Subject: audit.Subject{Sandbox: "pull-1", Agent: "pull"}, Layer: audit.LayerProxy, Verdict: "allowed", Count: 1},
		{Layer: audit.LayerControl, Verdict: "denied", Count: 1},
		agentEvent(audit.Event{Layer: audit.LayerPacket, Verdict: "denied", Rule: "lost", Lost: 500}),
		agentEvent(audit.Event{Layer: audit.LayerIntercept, Verdict: "denied", Rule: "lost", Lost: 5, About: true}),
		// What the store makes of repeats was counted when they came.
		agentEvent(audit.Event{Layer: audit.LayerDNS, Verdict: "denied", Count: 1000, RepeatOf: "a", Open: true}),
		agentEvent(audit.Event{Layer: audit.LayerDNS, Verdict: "denied", Count: 1000, RepeatOf: "a"}),
		agentEvent(audit.Event{Layer: audit.LayerModel, Method: "POST", Verdict: "allowed", Status: 200, TokensIn: 900, TokensOut: 100,
			Duration: 12, FirstToken: 2, TokensPerSecond: 10}),
		agentEvent(audit.Event{Layer: audit.LayerModel, Method: "POST", Verdict: "allowed", Status: 503, Duration: 0.1}),
		agentEvent(audit.Event{Layer: audit.LayerModel, Method: "GET", Verdict: "allowed", Status: 200, Duration: 1}), // the gateway's own answer
		agentEvent(audit.Event{Layer: audit.LayerModel, Method: "POST", Verdict: "denied", Status: 403, Duration: 1}),
	} {
		m.Observe(e)
	}
	got := samples(t, scrape(t, m))
	for series, want := range map[string]float64{
		`sallyport_decisions_total{layer="dns",origin="agent",verdict="denied"}`:       2,
		`sallyport_decisions_total{layer="dns",origin="proof",verdict="denied"}`:       1,
		`sallyport_decisions_total{layer="packet",origin="agent",verdict="denied"}`:    40,
		`sallyport_decisions_total{layer="proxy",origin="agent",verdict="allowed"}`:    1,
		`sallyport_decisions_total{layer="proxy",origin="pull",verdict="allowed"}`:     1,
		`sallyport_decisions_total{layer="control",origin="other",verdict="denied"}`:   1,
		`sallyport_decisions_total{layer="control",origin="other",verdict="allowed"}`:  0,
		`sallyport_decisions_total{layer="intercept",origin="agent",verdict="denied"}`: 0,
		`sallyport_decisions_total{layer="model",origin="agent",verdict="denied"}`:     1,
		`sallyport_lost_attempts_total{bound="exact",kind="packet"}`:                   500,
		`sallyport_lost_attempts_total{bound="at_most",kind="intercept"}`:              5,
		`sallyport_lost_attempts_total{bound="exact",kind="control"}`:                  0,
		`sallyport_received_bytes_total{layer="packet"}`:                               100,
		`sallyport_sent_bytes_total{layer="proxy"}`:                                    2000,
		`sallyport_model_requests_total{model="gpt-oss",status="2xx"}`:                 1,
		`sallyport_model_requests_total{model="gpt-oss",status="5xx"}`:                 1,
		`sallyport_model_requests_total{model="gpt-oss",status="4xx"}`:                 0,
		`sallyport_model_tokens_total{direction="input",model="gpt-oss"}`:              900,
		`sallyport_model_tokens_total{direction="output",model="gpt-oss"}`:             100,
		`sallyport_model_time_to_first_token_seconds_sum{model="gpt-oss"}`:             2,
		`sallyport_model_time_to_first_token_seconds_count{model="gpt-oss"}`:           1,
		`sallyport_model_time_per_output_token_seconds_sum{model="gpt-oss"}`:           0.1,
		`sallyport_model_request_duration_seconds_count{model="gpt-oss"}`:              2,
	} {
		if value, ok := got[series]; !ok || value != want {
			t.Errorf("%s %v (%t), want %v", series, value, ok, want)
		}
	}
}

func TestWhatTheSourcesSay(t *testing.T) {
	got := samples(t, scrape(t, metrics.New(sources())))
	for series, want := range map[string]float64{
		`sallyport_build_info{version="v1.2.3"}`:                  1,
		`sallyport_wall_up`:                                       1,
		`sallyport_wall_ipv6`:                                     0,
		`sallyport_sandboxes{phase="ready"}`:                      2,
		`sallyport_sandboxes{phase="waiting"}`:                    1,
		`sallyport_sandboxes{phase="held"}`:                       0,
		`sallyport_sandboxes{phase="other"}`:                      1,
		`sallyport_tunnel_hosts`:                                  2,
		`sallyport_tunnel_up{host="strix"}`:                       1,
		`sallyport_tunnel_up{host="bare"}`:                        0,
		`sallyport_tunnel_reconnects_total{host="strix"}`:         2,
		`sallyport_tunnel_change_timestamp_seconds{host="strix"}`: 1000,
		`sallyport_tunnel_change_timestamp_seconds{host="bare"}`:  0,
		`sallyport_store_chained_events_total`:                    42,
		`sallyport_store_appended_events_total`:                   40,
		`sallyport_store_joined_attempts_total`:                   1800,
		`sallyport_store_open_rows`:                               3,
		`sallyport_store_size_bytes`:                              4096,
		`sallyport_store_commit_lag_seconds`:                      0.02,
		`sallyport_store_failing`:                                 1,
		`sallyport_store_set_aside`:                               0,
		`sallyport_store_not_kept_attempts_total`:                 7,
		`sallyport_store_pruned_events_total`:                     11,
		`sallyport_sink_queued_events`:                            5,
		`sallyport_sink_dropped_events_total`:                     6,
		`sallyport_sink_failing`:                                  0,
	} {
		if value, ok := got[series]; !ok || value != want {
			t.Errorf("%s %v (%t), want %v", series, value, ok, want)
		}
	}
}

// A gateway that has no source for something leaves it out and says the rest.
func TestNoSources(t *testing.T) {
	text := scrape(t, metrics.New(metrics.Sources{}))
	if strings.Contains(text, "sallyport_store_") || !strings.Contains(text, "sallyport_decisions_total") {
		t.Error(text)
	}
}

// Prometheus' own rules for names, units and help texts.
func TestConventions(t *testing.T) {
	text := scrape(t, metrics.New(sources()))
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(families)) {
		ours := strings.HasPrefix(name, "sallyport_")
		if help := families[name].GetHelp(); ours && (len(help) < 20 || !strings.HasSuffix(help, ".")) {
			t.Errorf("%s: help %q", name, help)
		}
	}
}

// It is served on a unix socket, as any handler.
func TestUnixSocket(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "m"))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: metrics.New(sources()).Handler()}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	t.Cleanup(func() { server.Close(); <-done })
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", l.Addr().String())
	}}}
	answer, err := client.Get("http://gateway/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK || !strings.Contains(string(body), "sallyport_wall_up 1") {
		t.Errorf("%s, %v: %s", answer.Status, err, body)
	}
}
