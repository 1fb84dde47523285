package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"
)

// Options says what lab to build.
type Options struct {
	Engine  Engine        // the laptop's; empty: Engine20
	Setting EngineOptions // of that engine

	// Bin is a folder with the gateway and launcher to be tried, seen read-only on
	// the laptop and first in the user's PATH; empty: none. See Binaries.
	Bin string

	// GPUEngine is the GPU host's engine; empty: it has none.
	GPUEngine GPUEngine

	// GPUDevices gives the GPU host stand-ins of an AMD GPU's device files.
	GPUDevices bool

	// Agent loads Sallyport's agent image too, which is built on this machine's own
	// network the first time (minutes).
	Agent bool
}

// Lab is three hosts and what connects them.
type Lab struct {
	Laptop   *Laptop
	GPUHost  *GPUHost
	Internet *Internet

	// AgentImage is the agent image's name on the laptop's engine, with
	// Options.Agent.
	AgentImage string

	place *place
	once  sync.Once
	err   error
}

// start bounds Start when nothing has to be made first.
const start = 2 * time.Minute

// New is Start and Close for one test. It skips the test where the lab cannot
// be, but not in CI.
func New(t testing.TB, o Options) *Lab {
	t.Helper()
	l, err := Start(t.Context(), o)
	skipOrFail(t, err)
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// ErrUnavailable is wrapped by Start's error where no lab can be built at all.
var ErrUnavailable = errors.New("the lab needs root on Linux")

func skipOrFail(t testing.TB, err error) {
	t.Helper()
	switch {
	case errors.Is(err, ErrUnavailable) && os.Getenv("CI") == "":
		t.Skip(err)
	case err != nil:
		t.Fatal(err)
	}
}

// Start builds a lab, with the engine and sshd running. What is missing in the
// cache is made first, whatever time that takes.
func Start(ctx context.Context, o Options) (_ *Lab, err error) {
	if o.Engine == "" {
		o.Engine = Engine20
	}
	if os.Geteuid() != 0 {
		return nil, ErrUnavailable
	}
	made, err := prepare(ctx, o)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, start)
	defer cancel()
	l := &Lab{AgentImage: made.agent.name}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close())
		}
	}()
	if l.place, err = newPlace(); err != nil {
		return nil, err
	}
	if err := l.build(made, o); err != nil {
		return nil, err
	}
	if err := l.GPUHost.StartSSH(ctx); err != nil {
		return nil, err
	}
	if err := l.Laptop.StartEngine(ctx, o.Setting); err != nil {
		return nil, err
	}
	if o.GPUEngine != GPUEngineNone {
		if err := l.GPUHost.StartEngine(ctx); err != nil {
			return nil, err
		}
		if err := l.GPUHost.tidy(ctx); err != nil {
			return nil, err
		}
	}
	return l, l.Laptop.loadImages(ctx, made)
}

// build makes the hosts and their network; nothing runs there yet.
func (l *Lab) build(made *prepared, o Options) error {
	k, err := newKeys()
	if err != nil {
		return err
	}
	var hosts [3]*Host
	for i, name := range []string{"laptop", "gpuhost", "internet"} {
		if hosts[i], err = newHost(name, true); err != nil {
			return errors.Join(err, closeHosts(hosts[:i]))
		}
	}
	if err := connect(hosts[0], hosts[1], hosts[2]); err != nil {
		return errors.Join(err, closeHosts(hosts[:]))
	}
	var errs [3]error
	l.Laptop, errs[0] = newLaptop(hosts[0], l.place, o.Engine, made.root(o.Engine), o.Bin)
	l.GPUHost, errs[1] = newGPUHost(hosts[1], l.place, made.root(Engine28), k, o)
	l.Internet, errs[2] = newInternet(hosts[2])
	if err := errors.Join(errs[:]...); err != nil {
		return err
	}
	return l.Laptop.sshFiles(k)
}

func closeHosts(hosts []*Host) error {
	for _, h := range hosts {
		h.close()
	}
	return nil
}

// Close ends everything that runs in the lab and removes it.
func (l *Lab) Close() error {
	l.once.Do(func() {
		var errs []error
		if l.Laptop != nil {
			l.Laptop.close()
			if l.Laptop.store != nil {
				errs = append(errs, l.Laptop.store.release())
			}
		}
		if l.GPUHost != nil {
			l.GPUHost.close()
			if l.GPUHost.engine != nil {
				errs = append(errs, l.GPUHost.engine.store.release())
			}
		}
		if l.Internet != nil {
			l.Internet.close()
		}
		if l.place != nil {
			errs = append(errs, l.place.remove())
		}
		if l.err = errors.Join(errs...); l.err != nil {
			l.err = fmt.Errorf("lab: close: %w", l.err)
		}
	})
	return l.err
}

// Dir is a folder that is the lab's own and has the same path on every host and
// in the test process. Its files are gone after Close; the engine's and sshd's
// logs are there.
func (l *Lab) Dir() string { return l.place.shared }

// Shared builds the labs that the tests of a package share, each when it is
// first asked for. Close it in TestMain.
type Shared struct {
	Options Options // Engine is set by Get

	mu   sync.Mutex
	labs map[Engine]*Lab
	errs map[Engine]error
}

// Get returns the lab with that engine. It skips the test where the lab cannot
// be, but not in CI.
func (s *Shared) Get(t testing.TB, e Engine) *Lab {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.labs == nil {
		s.labs, s.errs = make(map[Engine]*Lab), make(map[Engine]error)
	}
	if s.labs[e] == nil && s.errs[e] == nil {
		o := s.Options
		o.Engine = e
		s.labs[e], s.errs[e] = Start(context.WithoutCancel(t.Context()), o)
	}
	skipOrFail(t, s.errs[e])
	return s.labs[e]
}

// Close closes the labs that were built.
func (s *Shared) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, l := range s.labs {
		if l != nil {
			errs = append(errs, l.Close())
		}
	}
	return errors.Join(errs...)
}
