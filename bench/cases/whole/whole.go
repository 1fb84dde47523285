// Package whole measures the product as a whole: how a flood of one sandbox is felt
// in another, how long an agent takes to start, what gateway and wall need at rest,
// and how that grows with the number of sandboxes and streams.
package whole

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/sallyport/sallyport/bench"
	"github.com/sallyport/sallyport/bench/field"
	"github.com/sallyport/sallyport/bench/peer"
)

// Cases are the cases of this package.
func Cases() []bench.Case {
	return []bench.Case{flood(), start(), steps(), rest(), sandboxes(), streams()}
}

// house is the product with an origin and workers in sandboxes, which several sides
// of a case share. The first that enters starts it, the last that leaves ends it.
type house struct {
	mu      sync.Mutex
	inside  int
	workers []*field.Worker
	stops   []func(ctx context.Context) error // in the order of starts
}

// enter starts the house unless it is there, and has it have n sandboxes at least.
// added is told of each that it starts; nil: nobody is.
func (h *house) enter(ctx context.Context, f *field.Field, n int, added func(*field.Worker)) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.inside == 0 {
		if err := h.open(ctx, f); err != nil {
			return errors.Join(err, h.close(ctx))
		}
	}
	h.inside++
	for len(h.workers) < n {
		w, err := f.Sandbox(ctx)
		if err != nil {
			return errors.Join(err, h.left(ctx))
		}
		h.workers, h.stops = append(h.workers, w), append(h.stops, w.Stop)
		if added != nil {
			added(w)
		}
	}
	return nil
}

func (h *house) open(ctx context.Context, f *field.Field) error {
	socket := filepath.Join(f.Disk, "whole.sock")
	origin, err := f.Peer(ctx, peer.Spec{Name: "origin", Ready: "unix:" + socket, Command: []string{f.PeerProgram(), "origin", "-listen", "unix:" + socket}})
	if err != nil {
		return err
	}
	h.stops = append(h.stops, func(context.Context) error { return origin.Stop() })
	return f.Product(ctx, field.Config{Endpoint: "unix://" + socket})
}

// leave is for each that has entered.
func (h *house) leave(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.left(ctx)
}

// left is the same; h.mu is held.
func (h *house) left(ctx context.Context) error {
	if h.inside--; h.inside > 0 {
		return nil
	}
	return h.close(ctx)
}

// Many sandboxes end: each has two containers, and of all at once each would take
// longer than a worker may.
const (
	closing = 5 * time.Minute
	atOnce  = 16
)

// close ends everything: some sandboxes side by side, then what they needed.
func (h *house) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closing)
	defer cancel()
	errs := make([]error, len(h.workers))
	var all sync.WaitGroup
	places := make(chan struct{}, atOnce)
	for i, w := range h.workers {
		places <- struct{}{}
		all.Go(func() {
			errs[i] = w.Stop(ctx)
			<-places
		})
	}
	all.Wait()
	for _, stop := range slices.Backward(h.stops) {
		errs = append(errs, stop(ctx))
	}
	h.workers, h.stops = nil, nil
	return errors.Join(errs...)
}

// model is where a worker's sandbox has its model.
func model(w *field.Worker) string { return "http://" + net.JoinHostPort(w.Gate(), "8000") }

// runner is a side that is ready.
type runner struct {
	run  func(ctx context.Context, f *field.Field) (bench.Sample, error)
	stop func(ctx context.Context) error // nil: there is nothing to end
}

// Run measures once.
func (r runner) Run(ctx context.Context, f *field.Field) (bench.Sample, error) { return r.run(ctx, f) }

// Stop ends what was started.
func (r runner) Stop(ctx context.Context) error {
	if r.stop == nil {
		return nil
	}
	return r.stop(ctx)
}

// percentile is the value that a share of all are no larger than. It sorts them.
func percentile(all []int64, share float64) float64 {
	slices.Sort(all)
	return float64(all[int(float64(len(all)-1)*share)])
}
