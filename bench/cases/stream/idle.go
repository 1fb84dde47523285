package stream

import (
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sallyport/sallyport/bench"
	"github.com/sallyport/sallyport/bench/field"
	"github.com/sallyport/sallyport/bench/load"
)

const (
	idleWorkers = 4   // a sandbox may have 256 connections at once
	idleStreams = 250 // of each worker
	warming     = 4   // streams of each worker before memory is looked at
	looks       = 16  // at memory, each after a pause
	pause       = time.Second / 2
	holding     = 15 * time.Second // from a worker's last stream's start to the end of all of them
)

// idle is what a silent stream costs the process that is between.
func idle() bench.Case {
	return bench.Case{
		Name: "idle-memory", Title: "model endpoint, memory of 1,000 streams that say nothing, each",
		Metrics: []bench.Metric{{Name: "each", Unit: "kB", Less: true}},
		// Alone has one listener, and with it the limit of one sandbox.
		Sides: append(sides(holdStreams, idleWorkers, bench.Ours, wholeProxy, nginx), sides(holdStreams, 1, bench.Alone)...),
		Bars:  []bench.Bar{{Metric: "each", Of: wholeProxy, Bar: 1.1}},
		Notes: "Resident memory of the process with 1,000 open streams less that after its start and a few streams, both " +
			"the least of some seconds; 4 sandboxes or containers with 250 streams each. A sandbox may have 256 connections " +
			"at once: the listener without the wall has 250 streams. Memory that a first run leaves free counts in the next.",
	}
}

// holdStreams opens streams. What the way needs without any is looked at before its
// first ones: what it has kept from those would be taken off the next ones' memory.
func holdStreams(ctx context.Context, f *field.Field, w *way) (bench.Sample, error) {
	if w.base == 0 {
		if _, err := w.rssWith(ctx, f, warming); err != nil {
			return nil, err
		}
		base, err := w.settled(ctx, f)
		if err != nil {
			return nil, err
		}
		w.base = base
	}
	n := f.Scale.N(idleStreams, 5)
	with, err := w.rssWith(ctx, f, n)
	if err != nil {
		return nil, err
	}
	return bench.Sample{"each": float64(with-w.base) / float64(n*len(w.workers)) / 1e3}, nil
}

// rssWith is the memory with n open streams of each worker. It returns when they
// have ended.
func (w *way) rssWith(ctx context.Context, f *field.Field, n int) (int64, error) {
	open := make([]time.Time, len(w.workers))
	holding := time.Duration(f.Scale.N(int(holding), int(holding/3)))
	tasks, opening := errgroup.WithContext(ctx)
	for i, worker := range w.workers {
		tasks.Go(func() error {
			arg := load.HoldArg{URL: w.urls[i], Streams: n, For: holding}
			err := worker.Do(opening, "hold", arg, nil)
			open[i] = time.Now()
			return err
		})
	}
	if err := tasks.Wait(); err != nil {
		return 0, err
	}
	rss, err := w.settled(ctx, f)
	if err != nil {
		return 0, err
	}
	first, last := slices.MinFunc(open, time.Time.Compare), slices.MaxFunc(open, time.Time.Compare)
	if time.Since(first) >= holding {
		return 0, fmt.Errorf("streams ended %v after the first were open, before memory was looked at", holding)
	}
	select {
	case <-time.After(time.Until(last.Add(holding))):
	case <-ctx.Done():
	}
	return rss, ctx.Err()
}

// settled is the least resident memory of some seconds, in bytes.
func (w *way) settled(ctx context.Context, f *field.Field) (least int64, err error) {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for range f.Scale.N(looks, 2) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
		now, err := w.rss(ctx)
		if err != nil {
			return 0, err
		}
		if least == 0 || now < least {
			least = now
		}
	}
	return least, nil
}
