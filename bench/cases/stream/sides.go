package stream

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"slices"

	"github.com/sallyport/sallyport/bench"
	"github.com/sallyport/sallyport/bench/field"
	"github.com/sallyport/sallyport/bench/peer"
)

// The peers' names as sides.
const (
	reverseProxy = "httputil.ReverseProxy"
	wholeProxy   = "httputil.ReverseProxy, full duplex" // which loses no stream
	nginx        = "nginx"
)

// way is a side that is ready: workers, each with the address that it asks for
// streams, and what is between them and the origin.
type way struct {
	workers []*field.Worker
	urls    []string                                 // of workers, in their order
	rss     func(ctx context.Context) (int64, error) // of what is between, in bytes; nil: nothing is
	base    int64                                    // rss without streams; zero: not known yet
	stops   []func(ctx context.Context) error        // in the order of starts
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

// measure is one run over a way.
type measure func(ctx context.Context, f *field.Field, w *way) (bench.Sample, error)

// runner is a way that is measured.
type runner struct {
	*way
	run measure
}

// Run measures once.
func (r runner) Run(ctx context.Context, f *field.Field) (bench.Sample, error) {
	return r.run(ctx, f, r.way)
}

// opener makes a way to the origin with a number of workers. What it has started is
// in w also where it fails.
type opener func(ctx context.Context, f *field.Field, w *way, workers int) error

// openers are all ways that there are.
var openers = []struct {
	name string
	open opener
}{
	{bench.Direct, openDirect},
	{bench.Ours, openOurs},
	{bench.Alone, openAlone},
	{reverseProxy, openReverseProxy()},
	{wholeProxy, openReverseProxy("-duplex")},
	{nginx, openNginx},
}

// sides are those of the names, in the order of openers.
func sides(run measure, workers int, names ...string) (out []bench.Side) {
	for _, o := range openers {
		if !slices.Contains(names, o.name) {
			continue
		}
		out = append(out, bench.Side{Name: o.name, Start: func(ctx context.Context, f *field.Field) (bench.Runner, error) {
			w := &way{}
			if err := o.open(ctx, f, w, workers); err != nil {
				return nil, errors.Join(err, w.Stop(context.WithoutCancel(ctx)))
			}
			return runner{w, run}, nil
		}})
	}
	return out
}

// Ports at the laptop's address on the bridge.
const (
	originPort       = "18100"
	reverseProxyPort = "18101"
	nginxPort        = "18102"
	alonePort        = "18103"
)

// start runs a program on the laptop.
func (w *way) start(ctx context.Context, f *field.Field, s peer.Spec) (*peer.Process, error) {
	p, err := f.Peer(ctx, s)
	if err == nil {
		w.stops = append(w.stops, func(context.Context) error { return p.Stop() })
	}
	return p, err
}

// origin runs an origin of this way's own at a socket that it returns. As our
// gateway's, the peers' way to it is a socket of the machine.
func (w *way) origin(ctx context.Context, f *field.Field, name string) (socket string, err error) {
	socket = filepath.Join(f.Disk, name+".sock")
	_, err = w.start(ctx, f, peer.Spec{Name: "origin of " + name, Ready: "unix:" + socket,
		Command: []string{f.PeerProgram(), "origin", "-listen", "unix:" + socket}})
	return socket, err
}

// onBridge adds workers on the bridge, which ask addr.
func (w *way) onBridge(ctx context.Context, f *field.Field, addr string, n int) error {
	for range n {
		if err := w.add(f.Bridge(ctx)); err != nil {
			return err
		}
		w.urls = append(w.urls, "http://"+addr)
	}
	return nil
}

func (w *way) add(worker *field.Worker, err error) error {
	if err == nil {
		w.workers, w.stops = append(w.workers, worker), append(w.stops, worker.Stop)
	}
	return err
}

// between notes the process that is between the workers and the origin.
func (w *way) between(p *peer.Process) {
	w.rss = func(context.Context) (int64, error) { return p.RSS() }
}

func openDirect(ctx context.Context, f *field.Field, w *way, n int) error {
	at := net.JoinHostPort(f.BridgeAddr(), originPort)
	_, err := w.start(ctx, f, peer.Spec{Name: "origin", Ready: "tcp:" + at,
		Command: []string{f.PeerProgram(), "origin", "-listen", "tcp:" + at}})
	if err != nil {
		return err
	}
	return w.onBridge(ctx, f, at, n)
}

func openOurs(ctx context.Context, f *field.Field, w *way, n int) error {
	socket, err := w.origin(ctx, f, "sallyport")
	if err != nil {
		return err
	}
	if err := f.Product(ctx, field.Config{Endpoint: "unix://" + socket}); err != nil {
		return err
	}
	for range n {
		if err := w.add(f.Sandbox(ctx)); err != nil {
			return err
		}
		gate := w.workers[len(w.workers)-1].Gate()
		w.urls = append(w.urls, "http://"+net.JoinHostPort(gate, "8000"))
	}
	w.rss = func(ctx context.Context) (int64, error) {
		u, err := f.Gateway(ctx)
		return u.RSS, err
	}
	return nil
}

func openAlone(ctx context.Context, f *field.Field, w *way, n int) error {
	return w.behind(ctx, f, n, "alone", alonePort, func(at, socket string) peer.Spec {
		return peer.Spec{Command: []string{f.PeerProgram(), "alone", "-record", filepath.Join(f.Disk, "alone"),
			"-model", at, "-origin", "unix:" + socket}}
	})
}

func openReverseProxy(more ...string) opener {
	return func(ctx context.Context, f *field.Field, w *way, n int) error {
		return w.behind(ctx, f, n, "reverseproxy", reverseProxyPort, func(at, socket string) peer.Spec {
			return peer.Spec{Command: append([]string{f.PeerProgram(), "reverseproxy", "-listen", "tcp:" + at,
				"-origin", "unix:" + socket, "-log", filepath.Join(f.Disk, "reverseproxy.log")}, more...)}
		})
	}
}

func openNginx(ctx context.Context, f *field.Field, w *way, n int) error {
	return w.behind(ctx, f, n, "nginx", nginxPort, func(at, socket string) peer.Spec {
		return peer.Nginx(at, socket, filepath.Join(f.Disk, "nginx"), filepath.Join(f.Disk, "nginx.log"))
	})
}

// behind puts a program of spec, at a port of the bridge, between an origin and the
// workers.
func (w *way) behind(ctx context.Context, f *field.Field, n int, name, port string, spec func(at, socket string) peer.Spec) error {
	socket, err := w.origin(ctx, f, name)
	if err != nil {
		return err
	}
	at := net.JoinHostPort(f.BridgeAddr(), port)
	s := spec(at, socket)
	s.Name, s.Ready = name, "tcp:"+at
	p, err := w.start(ctx, f, s)
	if err != nil {
		return err
	}
	w.between(p)
	return w.onBridge(ctx, f, at, n)
}
