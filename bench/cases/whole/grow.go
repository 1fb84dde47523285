package whole

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/sallyport/sallyport/bench"
	"github.com/sallyport/sallyport/bench/field"
	"github.com/sallyport/sallyport/bench/load"
	"golang.org/x/sync/errgroup"
)

const (
	streamSandboxes = 20
	streamTime      = 12 * time.Second
	streamEvery     = 400 * time.Microsecond // an event of all streams together, at most
	streamFastest   = 2 * time.Millisecond   // between two of one
)

// sandboxes is how cost grows with the number of sandboxes.
func sandboxes() bench.Case {
	h := &house{}
	c := bench.Case{
		Name: "sandboxes", Title: "cost of many sandboxes, each with an agent that waits", Grows: "sandboxes", Reps: 1,
		Metrics: []bench.Metric{
			{Name: "gateway", Unit: "MB", Less: true}, {Name: "lookout", Unit: "MB", Less: true}, {Name: "wall", Unit: "MB", Less: true},
			{Name: "descriptors", Less: true}, {Name: "ready", Unit: "ms", Less: true}, {Name: "answer", Unit: "µs", Less: true},
		},
		Notes: "ready is the median time of the last sandboxes to start, up to five, from the command to its agent's first word. answer is the median time of " +
			"a request to the gate (GET /health, which the gateway answers) from the first sandbox, over one connection.",
	}
	for _, n := range []int{1, 20, 50, 100, 200} {
		c.Sides = append(c.Sides, bench.Side{Name: fmt.Sprint(n), X: float64(n), Start: func(ctx context.Context, f *field.Field) (bench.Runner, error) {
			return h.sized(ctx, f, f.Scale.N(n, min(n, 2)))
		}})
	}
	return c
}

// sized brings the house to n sandboxes and measures it as it is then: the next side
// adds more.
func (h *house) sized(ctx context.Context, f *field.Field, n int) (bench.Runner, error) {
	var took []int64
	last := time.Now()
	began := false
	err := h.enter(ctx, f, n, func(*field.Worker) {
		if now := time.Now(); began {
			took = append(took, int64(now.Sub(last)))
		}
		last, began = time.Now(), true
	})
	if err != nil {
		return nil, err
	}
	sample, err := h.measured(ctx, f)
	if err != nil {
		return nil, err
	}
	sample["ready"] = 0 // of one alone it is not told from the start of the rest
	if len(took) > 0 {
		sample["ready"] = percentile(slices.Clone(took[max(0, len(took)-5):]), .5) / 1e6
	}
	return runner{stop: h.leave, run: func(context.Context, *field.Field) (bench.Sample, error) { return sample, nil }}, nil
}

func (h *house) measured(ctx context.Context, f *field.Field) (bench.Sample, error) {
	p, err := productOf(ctx, f)
	if err != nil {
		return nil, err
	}
	sample := bench.Sample{}
	for name, one := range map[string]process{"gateway": p.gateway, "lookout": p.lookout, "wall": p.wall} {
		rss, err := settled(ctx, one)
		if err != nil {
			return nil, err
		}
		sample[name] = float64(rss) / 1e6
	}
	open, err := p.gateway.descriptors()
	if err != nil {
		return nil, err
	}
	sample["descriptors"] = float64(open)
	var times load.Times
	err = h.workers[0].Do(ctx, "get", load.GetArg{URL: model(h.workers[0]) + "/health", N: f.Scale.N(2000, 20), Status: 200}, &times)
	if err != nil {
		return nil, err
	}
	sample["answer"] = percentile(times.NS, .5) / 1e3
	return sample, nil
}

// streams is how cost grows with the number of streams that are open at once.
func streams() bench.Case {
	h := &house{}
	c := bench.Case{
		Name: "streams", Title: "cost of many streams of a model at once, from 20 sandboxes", Grows: "streams",
		Metrics: []bench.Metric{
			{Name: "p50", Unit: "µs", Less: true}, {Name: "p99", Unit: "µs", Less: true}, {Name: "memory", Unit: "MB", Less: true}, {Name: "events", Unit: "/s"},
		},
		Notes: "Time of an event from the origin to the client. All streams together have 2,500 events a second, or 500 of each where that is less. " +
			"memory is the gateway's resident memory while they are open.",
	}
	for _, n := range []int{1, 100, 1000, 2500, 5000} {
		c.Sides = append(c.Sides, bench.Side{Name: fmt.Sprint(n), X: float64(n), Start: func(ctx context.Context, f *field.Field) (bench.Runner, error) {
			if err := h.enter(ctx, f, f.Scale.N(streamSandboxes, 2), nil); err != nil {
				return nil, err
			}
			n := f.Scale.N(n, min(n, 4))
			return runner{stop: h.leave, run: func(ctx context.Context, f *field.Field) (bench.Sample, error) { return h.stream(ctx, f, n) }}, nil
		}})
	}
	return c
}

// stream has n streams read, by the sandboxes in equal parts.
func (h *house) stream(ctx context.Context, f *field.Field, n int) (bench.Sample, error) {
	took := streamTime
	if f.Scale.Smoke {
		took = 200 * time.Millisecond
	}
	p, err := productOf(ctx, f)
	if err != nil {
		return nil, err
	}
	every := max(streamFastest, time.Duration(n)*streamEvery)
	readers := min(n, len(h.workers))
	times := make([]load.Times, readers)
	tasks, gctx := errgroup.WithContext(ctx)
	began := time.Now()
	for i, w := range h.workers[:readers] {
		arg := load.EventsArg{URL: model(w), Streams: n / readers, Deltas: max(2, int(took/every)), Every: every}
		tasks.Go(func() error {
			err := w.Do(gctx, "each-event", arg, &times[i])
			if want := arg.Streams * arg.Deltas; err == nil && len(times[i].NS) != want {
				err = fmt.Errorf("%d events instead of %d", len(times[i].NS), want)
			}
			return err
		})
	}
	var rss int64
	tasks.Go(func() (err error) {
		if err = wait(gctx, took*2/3); err == nil {
			rss, err = p.gateway.status("VmRSS")
		}
		return err
	})
	if err := tasks.Wait(); err != nil {
		return nil, err
	}
	seconds := time.Since(began).Seconds()
	var all []int64
	for _, t := range times {
		all = append(all, t.NS...)
	}
	return bench.Sample{"p50": percentile(all, .5) / 1e3, "p99": percentile(all, .99) / 1e3, "memory": float64(rss) / 1e6, "events": float64(len(all)) / seconds}, nil
}
