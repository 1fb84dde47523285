package ssh

import (
	"context"
	"errors"
	"net"
	"slices"

	"github.com/sallyport/sallyport/bench"
	"github.com/sallyport/sallyport/bench/field"
	"github.com/sallyport/sallyport/bench/peer"
	"github.com/sallyport/sallyport/internal/lab"
)

// Ports: of peers on the laptop, and of programs on the GPU host for who comes
// without SSH.
const (
	openSSHPort  = "18600"
	openAESPort  = "18601"
	tunnelPort   = "18602"
	modelSSHPort = "18603"
	modelAESPort = "18604"
	farEndPort   = "18610"
	modelPort    = "18611"
)

const aes = "aes128-gcm@openssh.com"

// run measures a way once.
type run func(ctx context.Context, f *field.Field, w way) (bench.Sample, error)

// way is a side that is ready: a worker, and the address that it asks.
type way struct {
	worker  *field.Worker
	address string
	run     run
	stops   []func(context.Context) error // in the order of starts
}

// Run measures once.
func (w way) Run(ctx context.Context, f *field.Field) (bench.Sample, error) { return w.run(ctx, f, w) }

// Stop ends what was started.
func (w way) Stop(ctx context.Context) error {
	var errs []error
	for _, stop := range slices.Backward(w.stops) {
		errs = append(errs, stop(ctx))
	}
	return errors.Join(errs...)
}

// add adds what leads from a worker to place, on the GPU host.
type add func(ctx context.Context, f *field.Field, w *way, place string) error

// side is one whose program on the GPU host listens at a socket.
func side(name, program string, a add, r run) bench.Side {
	return bench.Side{Name: name, Start: func(ctx context.Context, f *field.Field) (bench.Runner, error) {
		return open(ctx, f, program, socketOf(name), a, r)
	}}
}

// direct is the side without SSH: there, the program on the GPU host listens at a
// port.
func direct(program, port string, r run) bench.Side {
	return bench.Side{Name: bench.Direct, Start: func(ctx context.Context, f *field.Field) (bench.Runner, error) {
		address := net.JoinHostPort(lab.GPUHostLAN, port)
		return open(ctx, f, program, "tcp:"+address, func(ctx context.Context, f *field.Field, w *way, _ string) error {
			w.address = address
			return w.onBridge(ctx, f)
		}, r)
	}}
}

// ways are the sides of the cases about SSH alone.
func ways(r run) []bench.Side {
	return []bench.Side{
		direct("farend", farEndPort, r),
		side(openSSH, "farend", overOpenSSH(openSSHPort, ""), r),
		side(openAES, "farend", overOpenSSH(openAESPort, aes), r),
		side(tunnel, "farend", overTunnel, r),
	}
}

// models are the sides of the case about a model.
func models(r run) []bench.Side {
	return []bench.Side{
		direct("origin", modelPort, r),
		side(openSSH, "origin", overOpenSSH(modelSSHPort, ""), r),
		side(openAES, "origin", overOpenSSH(modelAESPort, aes), r),
		side(bench.Ours, "origin", overProduct, r),
	}
}

func overOpenSSH(port, cipher string) add {
	return func(ctx context.Context, f *field.Field, w *way, socket string) error {
		return w.over(ctx, f, peer.OpenSSH("ssh-L-"+port, at(f, port), lab.Alias, socket, cipher), at(f, port))
	}
}

func overTunnel(ctx context.Context, f *field.Field, w *way, socket string) error {
	address := at(f, tunnelPort)
	return w.over(ctx, f, peer.Spec{Name: "tunnel", Ready: "tcp:" + address,
		Command: []string{f.PeerProgram(), "tunnel", address, lab.Alias, socket}}, address)
}

func overProduct(ctx context.Context, f *field.Field, w *way, socket string) (err error) {
	if err := f.Product(ctx, field.Config{Endpoint: "unix://" + socket, Host: true}); err != nil {
		return err
	}
	if w.worker, err = f.Sandbox(ctx); err != nil {
		return err
	}
	w.stops = append(w.stops, w.worker.Stop)
	w.address = net.JoinHostPort(w.worker.Gate(), "8000")
	return nil
}

// onBridge adds the worker.
func (w *way) onBridge(ctx context.Context, f *field.Field) (err error) {
	if w.worker, err = f.Bridge(ctx); err != nil {
		return err
	}
	w.stops = append(w.stops, w.worker.Stop)
	return nil
}

// over leads through a peer of the laptop's, which listens at address.
func (w *way) over(ctx context.Context, f *field.Field, s peer.Spec, address string) error {
	p, err := f.Peer(ctx, s)
	if err != nil {
		return err
	}
	w.stops = append(w.stops, func(context.Context) error { return p.Stop() })
	w.address = address
	return w.onBridge(ctx, f)
}

// open starts a program on the GPU host, and what else a adds. All of it ends if
// something fails.
func open(ctx context.Context, f *field.Field, program, listen string, a add, r run) (bench.Runner, error) {
	w := &way{run: r}
	stop, err := startOnHost(ctx, f, program, listen)
	if err == nil {
		w.stops = append(w.stops, stop)
		err = a(ctx, f, w, place(listen))
	}
	if err != nil {
		return nil, errors.Join(err, w.Stop(context.WithoutCancel(ctx)))
	}
	return *w, nil
}
