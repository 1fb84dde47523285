package metrics_test

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/control"
	"github.com/sallyport/sallyport/metrics"
	"github.com/sallyport/sallyport/sandbox"
)

// hostile is an event of which everything was chosen by an enemy, the layer and
// the verdict too.
func hostile(i int) audit.Event {
	s := fmt.Sprintf("x%d\xff\n\"}\x1b[2J{evil=\"%d", i, rand.Int())
	numbers := []float64{math.Inf(1), math.Inf(-1), math.NaN(), -1, math.MaxFloat64, math.SmallestNonzeroFloat64}
	integers := []int64{math.MinInt64, -1, 0, math.MaxInt64}
	e := audit.Event{
		Subject: audit.Subject{Sandbox: s, Agent: s, Model: s, Project: s}, Layer: audit.Layer(s), Proto: s, Src: s, Dst: s, Host: s, SNI: s, Method: s,
		Path: s, Verdict: s, Rule: s, Reason: s, Session: s, Status: int(integers[i%4]), BytesIn: integers[i%4], BytesOut: integers[(i+1)%4],
		Count: integers[i%4], TokensIn: integers[i%4], TokensOut: integers[(i+2)%4], Duration: numbers[i%6], FirstToken: numbers[(i+1)%6],
		TokensPerSecond: numbers[(i+2)%6], Process: &audit.Process{Exe: s, Command: s, Unknown: s},
	}
	switch i % 3 {
	case 1: // a request, as far as that can be seen
		e.Layer, e.Method, e.Verdict = audit.LayerModel, "POST", "allowed"
	case 2:
		e.Lost, e.About = integers[3], i%2 == 0
	}
	return e
}

// However many events, and whatever is in them: the same series, all numbers.
func TestNothingThatAnAgentChoosesIsALabel(t *testing.T) {
	m := metrics.New(sources())
	before := slices.Sorted(maps.Keys(samples(t, scrape(t, m))))
	var enemies sync.WaitGroup
	for k := range 8 {
		enemies.Go(func() {
			for i := range 500 {
				m.Observe(hostile(k*500 + i))
			}
		})
	}
	enemies.Wait()
	after := samples(t, scrape(t, m))
	if got := slices.Sorted(maps.Keys(after)); !slices.Equal(got, before) {
		t.Errorf("%d series, and then %d", len(before), len(got))
	}
	for series, value := range after {
		if strings.HasPrefix(series, "sallyport_") && (value < 0 || math.IsNaN(value) || math.IsInf(value, 0)) {
			t.Errorf("%s is %v", series, value)
		}
	}
}

// Names of the configuration are bounded too, and none of them fails a scrape.
func TestLabelsOfTheConfigurationAreBounded(t *testing.T) {
	s := sources()
	long := strings.Repeat("ü", 100)
	s.Models = []string{long, long, "\xff", "", "demo", "demo"}
	for i := range 1000 {
		s.Models = append(s.Models, fmt.Sprint("model", i))
	}
	s.Hosts = func() []control.HostStatus {
		hosts := []control.HostStatus{{Name: "a\xff\n\x1b"}, {Name: long + "1"}, {Name: long + "2"}, {Name: ""}}
		for i := range 1000 {
			hosts = append(hosts, control.HostStatus{Name: fmt.Sprint("host", i), Reconnects: -1})
		}
		return hosts
	}
	s.Sandboxes = func() []sandbox.State {
		var boxes []sandbox.State
		for i := range 1000 {
			boxes = append(boxes, sandbox.State{Phase: sandbox.Phase(fmt.Sprint(i))})
		}
		return boxes
	}
	s.Version = long
	m := metrics.New(s)
	text := scrape(t, m)
	count := func(start string) int { return strings.Count(text, "\n"+start) }
	if hosts, models := count("sallyport_tunnel_up{"), count("sallyport_model_time_to_first_token_seconds_sum{"); hosts != 64 || models > 33 || models < 30 {
		t.Errorf("%d hosts, %d models", hosts, models)
	}
	for line := range strings.Lines(text) {
		if len(line) > 300 || strings.Contains(line, "\x1b") || strings.Contains(line, "\xff") {
			t.Errorf("%q", line)
		}
	}
	if got := samples(t, text)["sallyport_tunnel_hosts"]; got != 1004 {
		t.Errorf("%v hosts", got)
	}
}
