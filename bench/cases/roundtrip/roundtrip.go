// Package roundtrip measures the harness's own way: a request that is answered at once,
// from a sandbox and from a container on a bridge. Nothing is forwarded.
package roundtrip

import (
	"context"
	"errors"
	"slices"

	"github.com/sallyport/sallyport/bench"
	"github.com/sallyport/sallyport/bench/field"
	"github.com/sallyport/sallyport/bench/load"
	"github.com/sallyport/sallyport/bench/peer"
)

// requests are made one after the other, on one connection.
const requests = 5000

// Cases is the one case.
func Cases() []bench.Case {
	return []bench.Case{{
		Name:  "round-trip",
		Title: "a request that is answered at once, without anything behind it",
		Metrics: []bench.Metric{
			{Name: "p50", Unit: "µs", Less: true},
			{Name: "p99", Unit: "µs", Less: true},
		},
		Sides: []bench.Side{
			{Name: bench.Direct, Start: direct},
			{Name: bench.Ours, Start: ours},
		},
		Notes: "GET /health, one after the other. `direct` is Go's net/http on the laptop's bridge. The gate records each request " +
			"before it answers, so that each waits for a commit of its own.",
	}}
}

// way asks a worker to get a URL.
type way struct {
	worker *field.Worker
	peer   *peer.Process // nil: none of ours
	url    string
}

func direct(ctx context.Context, f *field.Field) (bench.Runner, error) {
	at := f.BridgeAddr() + ":18001"
	p, err := f.Peer(ctx, peer.Spec{Name: "hello", Command: []string{f.PeerProgram(), "hello", at}, Ready: "tcp:" + at})
	if err != nil {
		return nil, err
	}
	w, err := f.Bridge(ctx)
	if err != nil {
		return nil, errors.Join(err, p.Stop())
	}
	return &way{worker: w, peer: p, url: "http://" + at + "/health"}, nil
}

func ours(ctx context.Context, f *field.Field) (bench.Runner, error) {
	if err := f.Product(ctx, field.Config{}); err != nil {
		return nil, err
	}
	w, err := f.Sandbox(ctx)
	if err != nil {
		return nil, err
	}
	return &way{worker: w, url: "http://" + w.Gate() + ":8000/health"}, nil
}

// Run implements bench.Runner.
func (w *way) Run(ctx context.Context, f *field.Field) (bench.Sample, error) {
	var times load.Times
	if err := w.worker.Do(ctx, "get", load.GetArg{URL: w.url, N: f.Scale.N(requests, 20), Status: 200}, &times); err != nil {
		return nil, err
	}
	slices.Sort(times.NS)
	at := func(share float64) float64 { return float64(times.NS[int(share*float64(len(times.NS)-1))]) / 1e3 }
	return bench.Sample{"p50": at(0.5), "p99": at(0.99)}, nil
}

// Stop implements bench.Runner.
func (w *way) Stop(ctx context.Context) error {
	err := w.worker.Stop(ctx)
	if w.peer != nil {
		err = errors.Join(err, w.peer.Stop())
	}
	return err
}
