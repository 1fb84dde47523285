package main

import (
	"testing"

	"github.com/sallyport/sallyport/control"
	"github.com/sallyport/sallyport/sandbox"
)

func TestChoosePlace(t *testing.T) {
	ok := func(running, sessions int, models ...string) control.PlaceCheck {
		return control.PlaceCheck{OK: true, Running: running, Sessions: sessions, Models: models}
	}
	bad := control.PlaceCheck{Error: "no", Running: -1}
	for name, c := range map[string]struct {
		places []control.PlaceCheck
		want   int
	}{
		"none":                     {nil, -1},
		"none healthy":             {[]control.PlaceCheck{bad, bad}, -1},
		"the healthy one":          {[]control.PlaceCheck{bad, ok(9, 9)}, 1},
		"the first of equals":      {[]control.PlaceCheck{ok(0, 0), ok(0, 0)}, 0},
		"fewer requests":           {[]control.PlaceCheck{ok(2, 0), ok(1, 5)}, 1},
		"fewer sessions":           {[]control.PlaceCheck{ok(1, 2), ok(1, 1)}, 1},
		"one that does not say":    {[]control.PlaceCheck{ok(1, 0), ok(-1, 0)}, 1},
		"unknown is as good as 0":  {[]control.PlaceCheck{ok(0, 0), ok(-1, 0)}, 0},
		"the one with the model":   {[]control.PlaceCheck{ok(0, 0, "other"), ok(7, 7, "x", "gpt-oss")}, 1},
		"one that names no models": {[]control.PlaceCheck{ok(0, 0, "other"), ok(7, 7)}, 1},
	} {
		if got := choose(c.places, "gpt-oss"); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

func TestSummarizePlaces(t *testing.T) {
	a, b := sandbox.Place{Host: "a", Network: "unix", Address: "/a"}, sandbox.Place{Host: "b", Network: "unix", Address: "/b"}
	none := summarize([]control.PlaceCheck{{Place: a, Error: "no way"}, {Place: b, Error: "it answered 503"}}, "m")
	if none.OK || none.Error != "a (unix:///a): no way; b (unix:///b): it answered 503" || len(none.Places) != 2 {
		t.Errorf("%+v", none)
	}
	one := summarize([]control.PlaceCheck{{Place: a, Error: "no way"}}, "m")
	if one.OK || one.Error != "no way" {
		t.Errorf("%+v", one)
	}
	found := summarize([]control.PlaceCheck{{Place: a, Error: "no way"}, {Place: b, OK: true, Models: []string{"m"}, Version: "1"}}, "m")
	if !found.OK || found.Chosen != 1 || found.Version != "1" || len(found.Models) != 1 || found.Error != "" {
		t.Errorf("%+v", found)
	}
}

func TestCountRequests(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want int
		ok   bool
	}{
		"vLLM":            {"# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running{engine=\"0\",model_name=\"a b}\"} 2.0\nvllm:num_requests_waiting{engine=\"0\"} 1.0\nvllm:num_requests_running_total{} 7\n", 3, true},
		"two engines":     {"vllm:num_requests_running{engine=\"0\"} 1\nvllm:num_requests_running{engine=\"1\"} 2\n", 3, true},
		"llama.cpp":       {"llamacpp:requests_processing 1\nllamacpp:requests_deferred 4\n", 5, true},
		"others":          {"http_requests_total 5\n", 0, false},
		"nonsense":        {"vllm:num_requests_running NaN\nvllm:num_requests_waiting\nvllm:num_requests_running{ 5\n", 0, false},
		"hostile numbers": {"vllm:num_requests_running 1e300\nvllm:num_requests_running -4\n", 0, false},
		"a time":          {"llamacpp:requests_processing 2 1700000000000\n", 2, true},
	} {
		if got, ok := countRequests([]byte(c.text)); got != c.want || ok != c.ok {
			t.Errorf("%s: %d %t, want %d %t", name, got, ok, c.want, c.ok)
		}
	}
}
