// Package record has the cases of the audit record and of the policy: how their
// cost grows with what they hold, and what a plain file in the record's place would
// take. They run within the harness, on the disk that the product's record is on.
package record

import (
	"context"
	"syscall"
	"time"

	"github.com/sallyport/sallyport/bench"
	"github.com/sallyport/sallyport/bench/field"
)

// Cases are the cases of this package.
func Cases() []bench.Case {
	return []bench.Case{appended(), events(), rules()}
}

// runner is a side made of functions.
type runner struct {
	run  func(context.Context) (bench.Sample, error)
	stop func() error // nil: there is nothing to end
}

func (r runner) Run(ctx context.Context, _ *field.Field) (bench.Sample, error) { return r.run(ctx) }

func (r runner) Stop(context.Context) error {
	if r.stop == nil {
		return nil
	}
	return r.stop()
}

// cpuTime is what this process has used of the processor.
func cpuTime() (time.Duration, error) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, err
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}

// meter measures how fast n things are done, and what of the processor each takes.
type meter struct {
	began time.Time
	cpu   time.Duration
}

func begin() (meter, error) {
	cpu, err := cpuTime()
	return meter{began: time.Now(), cpu: cpu}, err
}

func (m meter) end(n int) (perSecond, cpuMicros float64, err error) {
	took := time.Since(m.began)
	cpu, err := cpuTime()
	return float64(n) / took.Seconds(), (cpu - m.cpu).Seconds() * 1e6 / float64(n), err
}
