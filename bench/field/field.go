// Package field is where benchmarks happen: a laptop of the lab's with a Docker
// engine, a GPU host and an internet, none with a route to a real network; the
// product as its user runs it; and workers in containers, which put load on it.
package field

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/sallyport/sallyport/internal/lab"
)

// Scale is how much of everything is done.
type Scale struct {
	// Smoke: just enough to see that the harness works; its numbers mean nothing.
	Smoke bool
}

// N is a number of things to do: full, or few for a smoke.
func (s Scale) N(full, few int) int {
	if s.Smoke {
		return few
	}
	return full
}

// Field is the lab, with what runs in it. Its methods may be called at the same time.
type Field struct {
	Lab   *lab.Lab
	Scale Scale
	// Programs is a folder with the static programs load, peer, gateway and
	// launcher; it has the same path on the laptop, in the user's home.
	Programs string
	// Disk is a folder of the user's on the disk that the record lies on, with the
	// same path here; peers write their logs there.
	Disk string

	bin  string       // where the programs were built
	idle *http.Server // answers for a model where a case has none
	gone chan struct{}

	mu      sync.Mutex
	config  *Config // that the product runs with; nil: it does not run
	number  int     // of the last worker
	stopped []func() error
}

// Options say what field to make.
type Options struct {
	Engine lab.Engine // the laptop's; empty: 28
	Scale  Scale
}

// Start builds the programs and the lab. Close must follow.
func Start(ctx context.Context, o Options) (_ *Field, err error) {
	if o.Engine == "" {
		o.Engine = lab.Engine28
	}
	f := &Field{Scale: o.Scale}
	if f.bin, err = build(ctx); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	if f.Lab, err = lab.Start(ctx, lab.Options{Engine: o.Engine, Bin: f.bin, Agent: true}); err != nil {
		return nil, err
	}
	f.Programs = filepath.Join(f.Lab.Laptop.Home, "programs")
	f.Disk = filepath.Join(f.Lab.Laptop.Home, "disk")
	for _, dir := range []string{f.Programs, f.Disk} {
		if err := f.folder(dir); err != nil {
			return nil, err
		}
	}
	if err := f.install(); err != nil {
		return nil, err
	}
	return f, f.serveIdle()
}

// closing bounds the orderly end of what runs; the lab ends the rest.
const closing = time.Minute

// Close ends everything and removes it.
func (f *Field) Close() error {
	var errs []error
	if f.Lab != nil {
		ctx, cancel := context.WithTimeout(context.Background(), closing)
		defer cancel()
		errs = append(errs, f.Reset(ctx))
		if f.idle != nil {
			errs = append(errs, f.idle.Close())
			<-f.gone
		}
		errs = append(errs, f.Lab.Close())
	}
	return errors.Join(append(errs, os.RemoveAll(f.bin))...)
}

// Reset ends what cases left running, the product too, and removes its record: the
// next case finds what the first one did.
func (f *Field) Reset(ctx context.Context) error {
	f.mu.Lock()
	stops := f.stopped
	f.stopped = nil
	f.mu.Unlock()
	var errs []error
	for i := len(stops) - 1; i >= 0; i-- {
		errs = append(errs, stops[i]())
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	errs = append(errs, f.stopProduct(ctx))
	errs = append(errs, os.RemoveAll(filepath.Join(f.Lab.Laptop.Home, ".local/state/sallyport")))
	return errors.Join(errs...)
}

// atReset has something ended at the latest by Reset.
func (f *Field) atReset(stop func() error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stopped = append(f.stopped, stop)
}

// folder makes a folder of the user's.
func (f *Field) folder(path string) error {
	if err := errors.Join(os.MkdirAll(path, 0o755), os.Chown(path, lab.UserID, lab.UserID)); err != nil {
		return fmt.Errorf("a folder of the user's: %w", err)
	}
	return nil
}

// BridgeAddr is the laptop's address on the bridge of Bridge's workers, for peers and
// origins to listen at.
func (f *Field) BridgeAddr() string { return "172.17.0.1" }

// PeerProgram is the path, on the laptop, of the program bench/cmd/peer.
func (f *Field) PeerProgram() string { return filepath.Join(f.Programs, "peer") }
