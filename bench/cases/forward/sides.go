package forward

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/sallyport/sallyport/bench"
	"github.com/sallyport/sallyport/bench/field"
	"github.com/sallyport/sallyport/bench/peer"
)

// The peers' names as sides, and that of our own proxy beside the intercept.
const (
	squid        = "squid"
	goproxy      = "goproxy"
	tinyproxy    = "tinyproxy"
	throughProxy = "sallyport's proxy"
)

// Addresses at the laptop's end of the bridge.
const (
	squidPort     = "18201"
	goproxyPort   = "18202"
	tinyproxyPort = "18203"
	alonePort     = "18204"
	aloneDirect   = "18205"
)

// nowhere is what a sandbox connects to directly: a documentation address.
const nowhere = "198.51.100.7:443"

// way is a side that is ready.
type way struct {
	worker  *field.Worker
	proxy   string // host:port; empty: none is between
	says    string // in the proxy's refusals, see load.RefuseArg
	direct  string // host:port whose connections are intercepted; empty: none
	target  string // name:port of the far end
	port    string // of the far end
	passing bool   // the far end is to be reached
	stops   []func(ctx context.Context) error
}

// Stop ends what was started.
func (w *way) Stop(ctx context.Context) error {
	var errs []error
	for _, stop := range slices.Backward(w.stops) {
		errs = append(errs, stop(ctx))
	}
	w.stops = nil
	return errors.Join(errs...)
}

// runner is a way that is measured.
type runner struct {
	*way
	run measure
}

// Run measures once.
func (r runner) Run(ctx context.Context, f *field.Field) (bench.Sample, error) {
	return r.run(ctx, f, r.way)
}

// openers make a way. What they have started is in it also where they fail.
var openers = []struct {
	name string
	open func(ctx context.Context, f *field.Field, w *way) error
}{
	{bench.Direct, openDirect},
	{bench.Ours, openOurs},
	{bench.Alone, openAlone},
	{squid, openSquid},
	{goproxy, openGoproxy},
	{tinyproxy, openTinyproxy},
}

// refusing are sides, in the order of openers, by which nothing is reached.
func refusing(run measure, names ...string) []bench.Side { return sides(run, false, names) }

// passing are sides, in the order of openers, by which the far end is reached.
func passing(run measure, names ...string) []bench.Side { return sides(run, true, names) }

func sides(run measure, passing bool, names []string) (out []bench.Side) {
	for i, o := range openers {
		if !slices.Contains(names, o.name) {
			continue
		}
		out = append(out, bench.Side{Name: o.name, Start: func(ctx context.Context, f *field.Field) (bench.Runner, error) {
			w := &way{port: strconv.Itoa(farPort + i), passing: passing}
			if err := o.open(ctx, f, w); err != nil {
				return nil, errors.Join(err, w.Stop(context.WithoutCancel(ctx)))
			}
			return runner{w, run}, nil
		}})
	}
	return out
}

// renamed gives a side another name.
func renamed(all []bench.Side, from, to string) []bench.Side {
	for i := range all {
		if all[i].Name == from {
			all[i].Name = to
		}
	}
	return all
}

// refusedBy is in our refusals' bodies.
const refusedBy = "sallyport: NAME:443 is not on the allow list."

func openDirect(ctx context.Context, f *field.Field, w *way) error {
	at := net.JoinHostPort(f.BridgeAddr(), w.port)
	if err := w.farEnd(f.Lab.Laptop.Host, at); err != nil {
		return err
	}
	w.target = at
	return w.work(f.Bridge(ctx))
}

func openOurs(ctx context.Context, f *field.Field, w *way) error {
	if err := w.far(f); err != nil {
		return err
	}
	if err := f.Product(ctx, field.Config{Allow: []string{`{host: "` + farName + `", ports: [` + w.port + `]}`}}); err != nil {
		return err
	}
	if err := w.work(f.Sandbox(ctx)); err != nil {
		return err
	}
	w.proxy, w.direct, w.says = net.JoinHostPort(w.worker.Gate(), "3128"), nowhere, refusedBy
	return nil
}

func openAlone(ctx context.Context, f *field.Field, w *way) error {
	w.says, w.direct = refusedBy, net.JoinHostPort(f.BridgeAddr(), aloneDirect)
	return w.behind(ctx, f, alonePort, func(at string) peer.Spec {
		return peer.Spec{Name: "alone", Ready: "tcp:" + at, Command: []string{f.PeerProgram(), "alone",
			"-record", filepath.Join(f.Disk, "alone"), "-proxy", at, "-intercept", w.direct, "-allow", w.target}}
	})
}

func openSquid(ctx context.Context, f *field.Field, w *way) error {
	w.says = "NAME"
	return w.behind(ctx, f, squidPort, func(at string) peer.Spec {
		return peer.Squid(at, filepath.Join(f.Disk, "squid"), w.target)
	})
}

func openGoproxy(ctx context.Context, f *field.Field, w *way) error {
	w.says = "NAME:443 is refused"
	return w.behind(ctx, f, goproxyPort, func(at string) peer.Spec {
		return peer.Spec{Name: "goproxy", Ready: "tcp:" + at, Command: []string{f.PeerProgram(), "goproxy",
			"-listen", "tcp:" + at, "-log", filepath.Join(f.Disk, "goproxy.log"), "-allow", w.target}}
	})
}

func openTinyproxy(ctx context.Context, f *field.Field, w *way) error {
	w.says = "filtered"
	return w.behind(ctx, f, tinyproxyPort, func(at string) peer.Spec {
		return peer.Tinyproxy(at, filepath.Join(f.Disk, "tinyproxy"), w.target)
	})
}

// behind puts a proxy at a port of the bridge between a worker and the far end.
func (w *way) behind(ctx context.Context, f *field.Field, port string, spec func(at string) peer.Spec) error {
	if err := w.far(f); err != nil {
		return err
	}
	w.proxy = net.JoinHostPort(f.BridgeAddr(), port)
	p, err := f.Peer(ctx, spec(w.proxy))
	if err != nil {
		return err
	}
	w.stops = append(w.stops, func(context.Context) error { return p.Stop() })
	return w.work(f.Bridge(ctx))
}

// work notes the way's worker.
func (w *way) work(worker *field.Worker, err error) error {
	if err == nil {
		w.worker, w.stops = worker, append(w.stops, worker.Stop)
	}
	return err
}
