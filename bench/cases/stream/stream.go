// Package stream measures the model endpoint: what it adds to each event of a
// stream, whether it loses streams, and what a silent one costs.
package stream

import (
	"context"
	"fmt"
	"time"

	"github.com/sallyport/sallyport/bench"
	"github.com/sallyport/sallyport/bench/field"
	"github.com/sallyport/sallyport/bench/load"
)

// Cases are the cases of this package.
func Cases() []bench.Case {
	return []bench.Case{
		latency("sse-1", "1 stream, an event each 2 ms", load.EventsArg{Streams: 1, Deltas: 4000, Every: 2 * time.Millisecond, Warm: 200}),
		latency("sse-32", "32 streams, each with an event each 10 ms", load.EventsArg{Streams: 32, Deltas: 800, Every: 10 * time.Millisecond, Warm: 50}),
		latency("sse-32-batch", "32 streams, all with an event at the same time, each 10 ms", load.EventsArg{Streams: 32, Deltas: 800, Every: 10 * time.Millisecond, Warm: 50, Together: true}),
		lost(),
		idle(),
	}
}

// latency is the time from the origin's write of an event to the client's read. The
// origin writes the time into each; both are processes of one kernel.
func latency(name, title string, arg load.EventsArg) bench.Case {
	run := func(ctx context.Context, f *field.Field, w *way) (bench.Sample, error) {
		arg := arg
		arg.URL, arg.Deltas, arg.Warm = w.urls[0], f.Scale.N(arg.Deltas, 20), f.Scale.N(arg.Warm, 0)
		var t load.EventTimes
		if err := w.workers[0].Do(ctx, "events", arg, &t); err != nil {
			return nil, err
		}
		if want := arg.Streams * (arg.Deltas - arg.Warm); t.N != want {
			return nil, fmt.Errorf("%d events instead of %d", t.N, want)
		}
		return bench.Sample{"p50": float64(t.P50) / 1e3, "p99": float64(t.P99) / 1e3}, nil
	}
	c := bench.Case{
		Name: name, Title: "model endpoint, time of an event from the origin to the client: " + title,
		Metrics: []bench.Metric{{Name: "p50", Unit: "µs", Less: true}, {Name: "p99", Unit: "µs", Less: true}},
		Sides:   sides(run, 1, bench.Direct, bench.Ours, bench.Alone, wholeProxy, nginx),
		Reps:    5,
		Notes: "Each has one hop more than direct: a wakeup of one more process, a read and a write. The bar is of what is added to direct. " +
			"When an event is due is said before the stream begins, and is the same for every side. Without full duplex, httputil.ReverseProxy cuts streams: see lost-streams.",
	}
	for _, m := range c.Metrics {
		c.Bars = append(c.Bars, bench.Bar{Metric: m.Name, Of: wholeProxy, Base: bench.Direct, Bar: 1.1, Aim: 1, AimOf: nginx})
	}
	return c
}

// lost counts streams that do not arrive whole.
func lost() bench.Case {
	run := func(ctx context.Context, f *field.Field, w *way) (bench.Sample, error) {
		arg := load.BurstArg{URL: w.urls[0], N: f.Scale.N(100_000, 200), Clients: 16, Seed: 1}
		var b load.Burst
		if err := w.workers[0].Do(ctx, "burst", arg, &b); err != nil {
			return nil, err
		}
		if sum := b.Done + b.Lost + b.Cut + b.Wrong; sum != arg.N {
			return nil, fmt.Errorf("%d streams were counted instead of %d", sum, arg.N)
		}
		return bench.Sample{"lost": float64(b.Lost), "cut": float64(b.Cut), "wrong": float64(b.Wrong), "rate": float64(b.Done) / b.Seconds}, nil
	}
	c := bench.Case{
		Name: "lost-streams", Title: "model endpoint, 100,000 streams of mixed size, the origin answers before it reads the request",
		Metrics: []bench.Metric{
			{Name: "lost", Less: true, Worst: true}, {Name: "cut", Less: true, Worst: true},
			{Name: "wrong", Less: true, Worst: true}, {Name: "rate", Unit: "/s"},
		},
		Sides: sides(run, 1, bench.Ours, reverseProxy, nginx),
		Notes: "Lost: no answer, or one that is not 200. Cut: it ended early. Wrong: another byte than the origin's. " +
			"A request is 0.1 to 130 kB, an answer 1 to 64 events of up to 4 kB, over 16 connections.",
	}
	for _, m := range []string{"lost", "cut", "wrong"} {
		c.Bars = append(c.Bars, bench.Bar{Metric: m, Bar: 0})
	}
	return c
}
