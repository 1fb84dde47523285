package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/sallyport/sallyport/agents"
	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/containers"
	"github.com/sallyport/sallyport/control"
	"github.com/sallyport/sallyport/sandbox"
)

func (s *session) labels(role string) map[string]string {
	labels := map[string]string{
		containers.LabelRole: role, containers.LabelOwner: strconv.Itoa(s.caller.uid),
		containers.LabelLauncher: s.launcher, containers.LabelSandbox: s.id, containers.LabelProject: s.caller.folder,
	}
	if role == containers.RoleWall {
		delete(labels, containers.LabelLauncher)
		delete(labels, containers.LabelSandbox)
		delete(labels, containers.LabelProject)
	}
	return labels
}

func (s *session) subject() audit.Subject {
	// "proof" until the way has been shown to be closed.
	return audit.Subject{Sandbox: s.id, Agent: proofAgent, Model: s.model.Name, Project: s.caller.folder}
}

// startSandbox registers the sandbox, starts its holder, and waits until it is
// plugged.
func (s *session) startSandbox(ctx context.Context) (sandbox.Addresses, error) {
	addresses, err := s.register(ctx)
	if err != nil {
		return addresses, err
	}
	if err := s.startHolder(ctx); err != nil {
		return addresses, err
	}
	return addresses, s.awaitPlug(ctx, addresses)
}

// register has the gateway know the sandbox, and give it addresses.
func (s *session) register(ctx context.Context) (sandbox.Addresses, error) {
	profile, err := s.profile(sandbox.Addresses{})
	if err != nil {
		return sandbox.Addresses{}, err
	}
	s.undo = append(s.undo, s.removeHolder, s.unregister) // undone from the last: the log says who ended it
	addresses, err := s.client.Register(ctx, sandbox.Registration{Token: s.token, Subject: s.subject(),
		Endpoints: profile.Endpoints, Upstream: s.model.Upstream, UnsafeMount: s.unsafe})
	if err != nil {
		return addresses, fmt.Errorf("register the sandbox: %w", err)
	}
	s.ipv6 = s.wallIPv6 && addresses.Gate6.IsValid()
	return addresses, nil
}

// holderName names the container whose network the agent's joins.
func (s *session) holderName() string { return "sallyport-holder-" + s.id }

func (s *session) startHolder(ctx context.Context) (err error) {
	s.holder, err = s.startHelper(ctx, containers.HelperSpec{
		Name: s.holderName(), Cmd: []string{"hold"}, NetAdmin: true,
		Binds: []containers.Bind{s.wallBind()}, Env: []string{tokenVariable + "=" + s.token}, Labels: s.labels(containers.RoleHolder),
	})
	return err
}

// makeAgent registers the sandbox and starts its holder, and makes the agent's
// container meanwhile: for that only the addresses have to be known.
func (s *session) makeAgent(ctx context.Context, image string, mounts []containers.Bind) (container string, profile agents.Profile, addresses sandbox.Addresses, err error) {
	if addresses, err = s.register(ctx); err != nil {
		return "", profile, addresses, err
	}
	if profile, err = s.profile(addresses); err != nil {
		return "", profile, addresses, err
	}
	spec, err := s.agentSpec(profile, addresses, image, mounts)
	if err != nil {
		return "", profile, addresses, err
	}
	s.undo = append(s.undo, func(ctx context.Context) error { return s.engine.Remove(ctx, spec.Name) })
	err = sideBySide(
		func() error { return s.startHolder(ctx) },
		func() (err error) { container, err = s.createAgent(ctx, spec); return err },
	)
	return container, profile, addresses, err
}

// awaitUp waits for the model and for the sandbox's plug, both of which may have come
// up while the agent's container started.
func (s *session) awaitUp(ctx context.Context, model func() (control.ModelCheck, error), addresses sandbox.Addresses) error {
	check, err := model()
	if err != nil {
		return err
	}
	if s.model.StandIn() {
		s.useModel(check)
	}
	return s.awaitPlug(ctx, addresses)
}

// awaitPlug waits until the sandbox is plugged.
func (s *session) awaitPlug(ctx context.Context, addresses sandbox.Addresses) error {
	state, err := s.awaitReady(ctx)
	if err != nil {
		return err
	}
	if state.IPv6 != s.ipv6 { // the agent's container was told otherwise
		return errors.New("the wall was replaced while the sandbox started; hint: try again")
	}
	s.progress.done("sandbox", "%s: model at %s:%d", s.id, addresses.Gate4, sandbox.ModelPort)
	return nil
}

// unregister ends the sandbox; one that is not, or no more, is no error.
func (s *session) unregister(ctx context.Context) error {
	err := s.client.Unregister(ctx, s.id)
	if errors.Is(err, control.ErrNotRunning) {
		return nil // it drops what no holder claims
	}
	return err
}

func (s *session) removeHolder(ctx context.Context) error {
	if s.holder == "" {
		return nil
	}
	return s.engine.Remove(ctx, s.holder)
}

// awaitReady waits until the sandbox is ready, or says why it is not.
func (s *session) awaitReady(ctx context.Context) (ready sandbox.State, err error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	err = s.client.Watch(ctx, s.id, func(state sandbox.State) error {
		switch state.Phase {
		case sandbox.Ready:
			ready = state
			return errReady
		case sandbox.Ended:
			return fmt.Errorf("the sandbox ended: %s", state.Why)
		}
		return nil
	})
	if errors.Is(err, errReady) {
		return ready, nil
	}
	return ready, fmt.Errorf("wait for the sandbox: %w (gateway status names the log)%s", err, s.lastLines(ctx, s.holder))
}

var errReady = errors.New("ready")

// profile describes the agent; without addresses only what it needs of the
// model is meaningful.
func (s *session) profile(a sandbox.Addresses) (agents.Profile, error) {
	gate := a.Gate4.String()
	if !a.Gate4.IsValid() {
		gate = "127.0.0.1"
	}
	identity, err := agents.ReadGitIdentity(s.caller.ownHome, s.options.getenv("XDG_CONFIG_HOME"))
	if err != nil {
		s.progress.warn("no git identity: %v", err)
	}
	opts := agents.Options{
		BaseURL:  fmt.Sprintf("http://%s:%d", gate, sandbox.ModelPort),
		ProxyURL: fmt.Sprintf("http://%s:%d", gate, sandbox.ProxyPort),
		Model:    s.model.Name, MaxContext: s.model.MaxContext, Project: s.caller.folder, HomeDir: homeInside,
		PermissionMode: s.config.Agent.PermissionMode, Term: s.options.getenv("TERM"), Timezone: s.options.getenv("TZ"),
		Git: identity, Args: s.request.args,
	}
	switch s.request.agent {
	case "claude":
		return agents.Claude(opts)
	case "shell":
		return agents.Shell(opts)
	}
	return agents.Run(opts)
}
