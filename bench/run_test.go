package bench

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestRunInTurns(t *testing.T) {
	var log []string
	a, b, c := &script{name: "a", values: []float64{1}}, &script{name: "b", values: []float64{2}}, &script{name: "c", values: []float64{3}}
	r, err := Run(t.Context(), nil, caseOf(&log, a, b, c), Options{})
	if err != nil || r.Err() != nil {
		t.Fatal(err, r.Err())
	}
	want := "a start,b start,c start," + // all are ready before the first is measured
		"a run,b run,c run,b run,c run,a run,c run,a run,b run," + // each repetition begins with the next one
		"c stop,b stop,a stop"
	if got := strings.Join(log, ","); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for i, s := range r.Sides {
		if got := s.values("v"); !slices.Equal(got, []float64{float64(i + 1), float64(i + 1), float64(i + 1)}) {
			t.Errorf("%s: %v", s.Name, got)
		}
	}
}

func TestRepetitions(t *testing.T) {
	for _, c := range []struct {
		what string
		of   int
		o    Options
		v    []float64
		want int
	}{
		{"usual", 0, Options{}, []float64{10}, 3},
		{"the case's own", 5, Options{}, []float64{10}, 5},
		{"asked for", 5, Options{Reps: 1}, []float64{10}, 1},
		{"smoke", 5, Options{Smoke: true, Reps: 4}, []float64{10}, 1},
		{"noisy", 0, Options{}, []float64{10, 14, 10}, 5},
		{"just not noisy", 0, Options{}, []float64{8, 10, 10}, 3},
		{"noisy smoke", 0, Options{Smoke: true}, []float64{10, 100}, 1},
		{"noisy at the end too", 0, Options{}, []float64{10, 20, 30, 40, 50, 60}, 5},
	} {
		var log []string
		quiet := &script{name: "quiet", values: []float64{1}}
		s := &script{name: "s", values: c.v}
		of := caseOf(&log, quiet, s)
		of.Reps = c.of
		r, err := Run(t.Context(), nil, of, c.o)
		if err != nil || r.Err() != nil {
			t.Fatal(c.what, err, r.Err())
		}
		if got := len(r.Sides[1].Samples); got != c.want {
			t.Errorf("%s: %d runs, want %d", c.what, got, c.want)
		}
		if got := len(r.Sides[0].Samples); got > c.want || got < min(c.want, 3) {
			t.Errorf("%s: %d runs of the quiet one", c.what, got)
		}
	}
}

// What is judged by its worst run is not measured again until it looks better.
func TestWorstIsNotRepeated(t *testing.T) {
	var log []string
	of := caseOf(&log, &script{name: "s", values: []float64{0, 3, 1}})
	of.Metrics[0].Worst = true
	r, err := Run(t.Context(), nil, of, Options{})
	if err != nil || len(r.Sides[0].Samples) != 3 {
		t.Errorf("%d runs, %v", len(r.Sides[0].Samples), err)
	}
}

func TestFailures(t *testing.T) {
	for _, c := range []struct {
		what string
		bad  *script
		want string // error of the side
		runs int    // samples that it has all the same
	}{
		{"does not start", &script{start: errors.New("no such program")}, "start: no such program", 0},
		{"cut short", &script{values: []float64{1}, err: errCut}, "stream 3 was cut short", 1},
		{"another metric", &script{sample: Sample{"w": 1}}, "no value of v", 0},
		{"does not stop", &script{values: []float64{1}, stop: errors.New("it lives")}, "stop: it lives", 3},
		{"both", &script{err: errCut, stop: errors.New("it lives")}, "stream 3 was cut short\nstop: it lives", 0},
	} {
		var log []string
		good := &script{name: "good", values: []float64{1}}
		c.bad.name = "bad"
		r, err := Run(t.Context(), nil, caseOf(&log, c.bad, good), Options{})
		if err != nil {
			t.Fatal(c.what, err)
		}
		if got := r.Sides[0]; got.Error != c.want || len(got.Samples) != c.runs {
			t.Errorf("%s: %d samples, error %q", c.what, len(got.Samples), got.Error)
		}
		if err := r.Err(); err == nil || !strings.Contains(err.Error(), "c: bad: "+c.want) {
			t.Errorf("%s: %v", c.what, err)
		}
		if got := r.Sides[1]; got.Error != "" || len(got.Samples) != 3 {
			t.Errorf("%s: the other side: %+v", c.what, got)
		}
		for _, name := range []string{"good", "bad"} {
			started, stopped := slices.Contains(log, name+" start"), slices.Contains(log, name+" stop")
			if name == "bad" && c.bad.start != nil {
				started = false
			}
			if started != stopped {
				t.Errorf("%s: %s: %v", c.what, name, log)
			}
		}
	}
}

func TestSampleHasToBeComplete(t *testing.T) {
	for _, s := range []Sample{nil, {"w": 1}, {"v": 1, "w": 1}} {
		if complete(s, []Metric{{Name: "v"}}) == nil {
			t.Errorf("%v passed", s)
		}
	}
	if err := complete(Sample{"v": 0}, []Metric{{Name: "v"}}); err != nil {
		t.Error(err)
	}
}

// Ctrl-C: nothing more is measured, and everything is stopped in an orderly way.
func TestInterrupted(t *testing.T) {
	var log []string
	ctx, cancel := context.WithCancel(t.Context())
	a, b := &script{name: "a", values: []float64{1}, cancel: cancel}, &script{name: "b", values: []float64{1}}
	r, err := Run(ctx, nil, caseOf(&log, a, b), Options{})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if r.Err() != nil {
		t.Errorf("the stops failed: %v", r.Err())
	}
	if got, want := strings.Join(log, ","), "a start,b start,a run,b stop,a stop"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
