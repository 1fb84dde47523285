package bench

import (
	"context"
	"errors"
	"fmt"

	"github.com/sallyport/sallyport/bench/field"
)

// script is a side that gives these values of its one metric, and then an error.
type script struct {
	name   string
	values []float64
	log    *[]string
	err    error // of Run when there are no more values; nil: the last value again
	start  error
	stop   error
	sample Sample // instead of values; nil: those
	cancel func() // called by the first run
	runs   int
}

func (s *script) side() Side {
	return Side{Name: s.name, Start: func(context.Context, *field.Field) (Runner, error) {
		s.note("start")
		if s.start != nil {
			return nil, s.start
		}
		return s, nil
	}}
}

func (s *script) note(what string) { *s.log = append(*s.log, s.name+" "+what) }

// Run implements Runner.
func (s *script) Run(context.Context, *field.Field) (Sample, error) {
	s.note("run")
	if s.cancel != nil {
		s.cancel()
	}
	if s.sample != nil {
		return s.sample, nil
	}
	at := s.runs
	s.runs++
	if at >= len(s.values) {
		if s.err != nil {
			return nil, s.err
		}
		at = len(s.values) - 1
	}
	return Sample{"v": s.values[at]}, nil
}

// Stop implements Runner.
func (s *script) Stop(ctx context.Context) error {
	s.note("stop")
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("nothing can be stopped any more: %w", err)
	}
	return s.stop
}

var errCut = errors.New("stream 3 was cut short")

// caseOf is a case with these sides and one metric.
func caseOf(log *[]string, scripts ...*script) Case {
	c := Case{Name: "c", Title: "a case", Metrics: []Metric{{Name: "v", Unit: "µs", Less: true}}}
	for _, s := range scripts {
		s.log = log
		c.Sides = append(c.Sides, s.side())
	}
	return c
}

// sided is a result with these values of one metric by side.
func sided(m Metric, bars []Bar, sides ...SideResult) Result {
	return Result{Case: Case{Name: "c", Title: "a case", Metrics: []Metric{m}, Bars: bars}, Sides: sides}
}

func values(name string, v ...float64) SideResult {
	s := SideResult{Name: name}
	for _, x := range v {
		s.Samples = append(s.Samples, Sample{"v": x})
	}
	return s
}
