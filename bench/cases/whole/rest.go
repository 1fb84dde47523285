package whole

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sallyport/sallyport/bench"
	"github.com/sallyport/sallyport/bench/field"
	"github.com/sallyport/sallyport/control"
	"github.com/sallyport/sallyport/internal/lab"
)

const (
	restTime  = 20 * time.Second // that is looked at
	calmTime  = 5 * time.Second  // before that
	startWait = 20 * time.Second // for a gateway to answer
)

// rest is what gateway and wall need while nothing happens, and how long a gateway
// takes to be there.
func rest() bench.Case {
	return bench.Case{
		Name: "rest", Title: "gateway and wall at rest, no sandbox; a gateway's start to its first answer",
		Metrics: []bench.Metric{
			{Name: "gateway", Unit: "MB", Less: true}, {Name: "lookout", Unit: "MB", Less: true}, {Name: "wall", Unit: "MB", Less: true},
			{Name: "gateway cpu", Unit: "%", Less: true}, {Name: "wall cpu", Unit: "%", Less: true}, {Name: "start", Unit: "ms", Less: true},
		},
		Sides: []bench.Side{{Name: bench.Ours, Start: func(ctx context.Context, f *field.Field) (bench.Runner, error) {
			return runner{run: atRest}, f.Product(ctx, field.Config{})
		}}},
		Bars: []bench.Bar{
			{Metric: "gateway", Reported: true, Aim: 30}, {Metric: "wall", Reported: true, Aim: 30},
			{Metric: "gateway cpu", Reported: true, Aim: .1}, {Metric: "wall cpu", Reported: true, Aim: .1}, {Metric: "start", Reported: true, Aim: 150},
		},
		Notes: "Memory is resident memory, most of which are pages of the program's file, " +
			"that gateway, lookout and wall share. cpu is a share of one core over 20 s, the lookout's with the gateway's. start is from the " +
			"command (gateway run) to the first answer on the control socket.",
	}
}

func atRest(ctx context.Context, f *field.Field) (bench.Sample, error) {
	start, end, err := coldGateway(ctx, f)
	if err != nil {
		return nil, err
	}
	sample, err := used(ctx, f)
	if err == nil {
		sample["start"] = start
	}
	return sample, errors.Join(err, end())
}

// used looks at what is used for a while.
func used(ctx context.Context, f *field.Field) (bench.Sample, error) {
	calm, look := calmTime, restTime
	if f.Scale.Smoke {
		calm, look = 100*time.Millisecond, 200*time.Millisecond
	}
	if err := wait(ctx, calm); err != nil {
		return nil, err
	}
	p, err := productOf(ctx, f)
	if err != nil {
		return nil, err
	}
	all := []process{p.gateway, p.lookout, p.wall}
	var before, after [3]time.Duration
	began := time.Now()
	for i, one := range all {
		if before[i], err = one.busy(); err != nil {
			return nil, err
		}
	}
	if err := wait(ctx, look); err != nil {
		return nil, err
	}
	took := time.Since(began)
	for i, one := range all {
		if after[i], err = one.busy(); err != nil {
			return nil, err
		}
	}
	share := func(d time.Duration) float64 { return 100 * d.Seconds() / took.Seconds() }
	sample := bench.Sample{"gateway cpu": share(after[0] - before[0] + after[1] - before[1]), "wall cpu": share(after[2] - before[2])}
	for i, name := range []string{"gateway", "lookout", "wall"} {
		rss, err := all[i].status("VmRSS")
		if err != nil {
			return nil, err
		}
		sample[name] = float64(rss) / 1e6
	}
	return sample, nil
}

// coldGateway ends the gateway and starts another one, times it to its first answer, in
// milliseconds, and waits for the wall to have found it. end is what ends it.
func coldGateway(ctx context.Context, f *field.Field) (ms float64, end func() error, err error) {
	down := func(ctx context.Context) error {
		if out, err := f.Lab.Laptop.Command(ctx, "gateway", "down", "--force").CombinedOutput(); err != nil {
			return fmt.Errorf("gateway down: %w: %s", err, out)
		}
		return nil
	}
	paths := control.Paths{Runtime: fmt.Sprintf("/run/user/%d/sallyport", lab.UserID)} // as the laptop's environment says
	client := control.NewClient(f.Lab.Laptop.Outside(paths.ControlSocket()))
	if _, err := client.Status(ctx); err == nil { // else: an earlier run has ended it
		if err := down(ctx); err != nil {
			return 0, nil, err
		}
	}
	cmd := f.Lab.Laptop.Command(context.WithoutCancel(ctx), "gateway", "run")
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, nil, err
	}
	end = func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), startWait)
		defer cancel()
		return errors.Join(down(ctx), cmd.Wait())
	}
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	for {
		status, err := client.Status(ctx)
		if err == nil && ms == 0 {
			ms = time.Since(began).Seconds() * 1e3
		}
		if err == nil && status.Wall.Up {
			return ms, end, nil
		}
		if err := wait(ctx, time.Millisecond); err != nil {
			return 0, nil, errors.Join(fmt.Errorf("the gateway has no wall: %w", err), end())
		}
	}
}
