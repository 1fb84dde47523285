package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sallyport/sallyport/bench/field"
)

const (
	usualReps = 3
	moreReps  = 2    // for a side that is noisy
	noisy     = 0.25 // spread above which it is
	stopTime  = time.Minute
)

// Options say how cases are run.
type Options struct {
	Reps  int                              // repetitions instead of each case's own; zero: its own
	Smoke bool                             // each side once, whatever the noise
	Say   func(format string, args ...any) // progress, a line each; nil: none
}

func (o Options) say(format string, args ...any) {
	if o.Say != nil {
		o.Say(format, args...)
	}
}

// SideResult is what one side measured.
type SideResult struct {
	Name    string   `json:"name"`
	X       float64  `json:"x,omitempty"`
	Samples []Sample `json:"samples"`
	Error   string   `json:"error,omitempty"` // why there are no more samples; empty: there are all
}

// Result is what one case measured.
type Result struct {
	Case  Case         `json:"case"`
	Sides []SideResult `json:"sides"`
}

// Err is not nil if a side failed.
func (r Result) Err() error {
	var errs []error
	for _, s := range r.Sides {
		if s.Error != "" {
			errs = append(errs, fmt.Errorf("%s: %s: %s", r.Case.Name, s.Name, s.Error))
		}
	}
	return errors.Join(errs...)
}

// Run runs a case: all its sides are readied, then measured in turns, each repetition
// beginning with the next one. A side that fails is measured no more; the others go on.
// Sides that were noisy are measured some times more, in turns too. The error is ctx's
// end; failures of sides are in the result.
func Run(ctx context.Context, f *field.Field, c Case, o Options) (Result, error) {
	r := &run{field: f, of: c, options: o, runners: make([]Runner, len(c.Sides)), result: Result{Case: c}}
	for _, s := range c.Sides {
		r.result.Sides = append(r.result.Sides, SideResult{Name: s.Name, X: s.X})
	}
	r.start(ctx)
	r.measure(ctx)
	r.stop(ctx)
	return r.result, ctx.Err()
}

// run is a case that runs.
type run struct {
	field   *field.Field
	of      Case
	options Options
	runners []Runner // by side; nil: it did not start, or failed
	result  Result
}

func (r *run) start(ctx context.Context) {
	for i, s := range r.of.Sides {
		if ctx.Err() != nil {
			return
		}
		r.options.say("%s: %s: start", r.of.Name, s.Name)
		runner, err := s.Start(ctx, r.field)
		if err != nil {
			r.fail(i, fmt.Errorf("start: %w", err))
			continue
		}
		r.runners[i] = runner
	}
}

// fail notes why a side has no more samples.
func (r *run) fail(side int, err error) {
	s := &r.result.Sides[side]
	s.Error = errors.Join(errorOf(s.Error), err).Error()
	r.options.say("%s: %s: FAILED: %v", r.of.Name, s.Name, err)
}

func errorOf(text string) error {
	if text == "" {
		return nil
	}
	return errors.New(text)
}

func (r *run) measure(ctx context.Context) {
	reps := r.reps()
	all := func(int) bool { return true }
	for rep := range reps {
		r.turn(ctx, rep, all)
	}
	if r.options.Smoke {
		return
	}
	again := r.noisy()
	for rep := range moreReps {
		r.turn(ctx, reps+rep, func(side int) bool { return again[side] })
	}
}

func (r *run) reps() int {
	switch {
	case r.options.Smoke:
		return 1
	case r.options.Reps > 0:
		return r.options.Reps
	case r.of.Reps > 0:
		return r.of.Reps
	}
	return usualReps
}

// noisy says which sides have a metric whose spread is too wide. One whose every run
// is judged is as it is.
func (r *run) noisy() map[int]bool {
	again := map[int]bool{}
	for i := range r.result.Sides {
		s := &r.result.Sides[i]
		for _, m := range r.of.Metrics {
			if spread := s.Spread(m); !m.Worst && spread > noisy && r.runners[i] != nil {
				again[i] = true
				r.options.say("%s: %s: %s varies by %.0f %%: again", r.of.Name, s.Name, m.Name, 100*spread)
				break
			}
		}
	}
	return again
}

// turn measures those sides once each that are wanted, from another one on each time.
func (r *run) turn(ctx context.Context, rep int, wanted func(side int) bool) {
	n := len(r.runners)
	for k := range n {
		i := (rep + k) % n
		if r.runners[i] == nil || !wanted(i) {
			continue
		}
		if ctx.Err() != nil {
			return
		}
		r.sample(ctx, i, rep)
	}
}

func (r *run) sample(ctx context.Context, i, rep int) {
	began := time.Now()
	sample, err := r.runners[i].Run(ctx, r.field)
	if err == nil {
		err = complete(sample, r.of.Metrics)
	}
	if err != nil {
		r.fail(i, err)
		r.end(ctx, i)
		return
	}
	s := &r.result.Sides[i]
	s.Samples = append(s.Samples, sample)
	r.options.say("%s: %s: run %d: %s (%.1f s)", r.of.Name, s.Name, rep+1, line(sample, r.of.Metrics), time.Since(began).Seconds())
}

// complete is an error unless a sample has what the case says, and no more.
func complete(s Sample, metrics []Metric) error {
	if len(s) != len(metrics) {
		return fmt.Errorf("%d values of %d metrics", len(s), len(metrics))
	}
	for _, m := range metrics {
		if _, ok := s[m.Name]; !ok {
			return fmt.Errorf("no value of %s", m.Name)
		}
	}
	return nil
}

func (r *run) stop(ctx context.Context) {
	for i := len(r.runners) - 1; i >= 0; i-- {
		if r.runners[i] != nil {
			r.end(ctx, i)
		}
	}
}

// end stops a side, also after ctx has ended.
func (r *run) end(ctx context.Context, i int) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
	defer cancel()
	if err := r.runners[i].Stop(ctx); err != nil {
		r.fail(i, fmt.Errorf("stop: %w", err))
	}
	r.runners[i] = nil
}
