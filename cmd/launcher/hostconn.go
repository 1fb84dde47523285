package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/user"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sallyport/sallyport/config"
	"github.com/sallyport/sallyport/machine"
	"github.com/sallyport/sallyport/tunnel"
)

// localName is what --host and the configuration call this machine.
const localName = "local"

// site is a machine that runs model servers, as this launcher reaches it.
type site struct {
	name     string // of the configuration; "" is this machine
	settings config.Machine
	*machine.Machine
	facts machine.Facts
	ssh   *tunnel.Host // nil: this machine

	dockerHost  string // path of the Docker socket that the user named; empty: none
	hostingOnce sync.Once
	hosting     hosting
	hostingErr  error
	closeOnce   sync.Once
	disconnect  func()
}

// close ends what was opened. It may be called more than once.
func (s *site) close() {
	s.closeOnce.Do(func() {
		if s.hosting.engine != nil {
			s.hosting.engine.Close()
		}
		s.disconnect()
	})
}

// sites opens each machine once. It is safe for concurrent use.
type sites struct {
	options *options
	config  *config.Config
	caller  caller
	ask     bool // for passphrases, on the terminal

	patience time.Duration // of a survey with one machine

	asking sync.Mutex // one passphrase is asked for at a time
	mu     sync.Mutex
	open   map[string]*opening
}

type opening struct {
	once sync.Once
	site *site
	err  error
}

func (o *options) newSites(cfg *config.Config, c caller, ask bool) *sites {
	return &sites{options: o, config: cfg, caller: c, ask: ask, patience: surveyTime, open: map[string]*opening{}}
}

// get opens the machine of that name ("": this one), or returns what it was
// opened as before.
func (s *sites) get(ctx context.Context, name string) (*site, error) {
	s.mu.Lock()
	o := s.open[name]
	if o == nil {
		o = &opening{}
		s.open[name] = o
	}
	s.mu.Unlock()
	o.once.Do(func() { o.site, o.err = s.connect(ctx, name) })
	return o.site, o.err
}

// closeAll ends all connections, and waits for them.
func (s *sites) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.open {
		if o.site != nil {
			o.site.close()
		}
	}
}

// modelsAt are the models whose servers of ours could run on a machine.
func (s *sites) modelsAt(host string) []model {
	return slices.DeleteFunc(allModels(s.config), func(m model) bool { return !m.ours() || !m.at(host) })
}

func (s *sites) connect(ctx context.Context, name string) (*site, error) {
	if name == "" {
		return s.here(ctx)
	}
	i := slices.IndexFunc(s.config.Hosts, func(h config.Host) bool { return h.Name == name })
	if i < 0 {
		return nil, usage(fmt.Errorf("no host is called %q; hint: add it to hosts in the configuration", name))
	}
	settings := s.config.Hosts[i]
	host, err := s.resolve(ctx, settings)
	if err != nil {
		return nil, err
	}
	client, err := tunnel.New(host, slog.New(slog.DiscardHandler)) // what fails is returned by Dial
	if err != nil {
		return nil, fmt.Errorf("GPU host %s: %w", name, err)
	}
	running, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- client.Run(running) }()
	there := &site{name: name, settings: settings.Machine, Machine: machine.Remote(name, client), ssh: &host,
		disconnect: func() { stop(); <-ended }}
	ctx, giveUp := context.WithCancelCause(ctx)
	var watch sync.WaitGroup
	watch.Go(func() { firstAttempt(ctx, client, giveUp) })
	defer watch.Wait()
	defer giveUp(nil)
	if there.facts, err = there.Facts(ctx); err != nil {
		there.close()
		return nil, fmt.Errorf("GPU host %s: %w", name, unreachable(ctx, client, err))
	}
	return there, nil
}

// firstAttempt gives up if the first attempt to reach a host fails, as ssh does;
// once it has been reached, links that are lost are made anew.
func firstAttempt(ctx context.Context, c *tunnel.Client, giveUp context.CancelCauseFunc) {
	for ctx.Err() == nil {
		switch state := c.State(); {
		case state.Up:
			return
		case state.LastError != "":
			giveUp(&unreachableError{state.LastError})
			return
		}
		select {
		case <-time.After(20 * time.Millisecond): // nothing tells when an attempt ends
		case <-ctx.Done():
		}
	}
}

// unreachableError is why a host could not be reached.
type unreachableError struct{ text string }

func (e *unreachableError) Error() string { return e.text }

// unreachable is err, or why the host was given up: a *tunnel.HostKeyError or
// *tunnel.AuthError where it is one.
func unreachable(ctx context.Context, c *tunnel.Client, err error) error {
	cause := new(unreachableError)
	if !errors.As(context.Cause(ctx), &cause) {
		return err
	}
	_, last := c.Dial(ctx, "unix", "/") // ctx has ended, so it only says why there is no link
	if key := new(tunnel.HostKeyError); errors.As(last, &key) {
		return key
	}
	if auth := new(tunnel.AuthError); errors.As(last, &auth) {
		return auth
	}
	return cause
}

// sshHost is all that is needed to reach a host by SSH.
func (s *sites) sshHost(ctx context.Context, name string) (tunnel.Host, error) {
	s.mu.Lock()
	o := s.open[name]
	s.mu.Unlock()
	if o != nil && o.site != nil && o.site.ssh != nil {
		return *o.site.ssh, nil
	}
	i := slices.IndexFunc(s.config.Hosts, func(h config.Host) bool { return h.Name == name })
	if i < 0 {
		return tunnel.Host{}, usage(fmt.Errorf("no host is called %q; hint: add it to hosts in the configuration", name))
	}
	return s.resolve(ctx, s.config.Hosts[i])
}

// here is this machine, as the user that agents and servers run as.
func (s *sites) here(ctx context.Context) (*site, error) {
	there := &site{settings: s.config.Local, disconnect: func() {},
		Machine: machine.Local(machine.LocalOptions{Home: s.caller.home, UID: s.caller.uid, GID: s.caller.gid, Environ: s.options.environ})}
	if socket, ok := strings.CutPrefix(s.options.dockerHost(s.config), "unix://"); ok {
		there.dockerHost = socket
	}
	var err error
	if there.facts, err = there.Facts(ctx); err != nil {
		return nil, fmt.Errorf("look at this machine: %w", err)
	}
	return there, nil
}

// resolve reads the user's SSH settings for a host, and asks for passphrases if
// that is allowed.
func (s *sites) resolve(ctx context.Context, h config.Host) (tunnel.Host, error) {
	o := tunnel.Options{Home: s.caller.ownHome, AgentSock: s.options.getenv("SSH_AUTH_SOCK")}
	if _, err := user.Current(); err != nil { // no entry in passwd(5)
		o.User = s.options.getenv("USER")
	}
	if s.config.SSH.Config != "" {
		o.ConfigFiles = []string{s.config.SSH.Config}
	}
	if s.ask {
		o.Passphrase = func(path string) ([]byte, error) { return askPassphrase(ctx, path) }
	}
	destination := h.SSH
	if destination == "" {
		destination = h.Name
	}
	s.asking.Lock()
	defer s.asking.Unlock()
	host, err := tunnel.Resolve(ctx, destination, o)
	if err != nil {
		return host, fmt.Errorf("GPU host %s: %w", h.Name, err)
	}
	host.Name = h.Name
	return host, nil
}
