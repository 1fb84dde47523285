package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/sallyport/sallyport/config"
	"github.com/sallyport/sallyport/containers"
	"github.com/sallyport/sallyport/control"
	"github.com/sallyport/sallyport/tunnel"
)

// request is what was asked for on the command line.
type request struct {
	agent string // claude, shell or run
	image string // of run
	model string
	args  []string // the agent's own
}

// session is one run of an agent, from the configuration to the summary.
type session struct {
	options  *options
	request  request
	caller   caller
	config   *config.Config
	progress *progress
	engine   *containers.Engine
	client   *control.Client
	binary   string // the gateway's
	id       string // of the sandbox
	token    string // of its holder
	launcher string // our own label
	helper   string // image
	holder   string // id of its container; empty: none yet
	demo     string // id of the stand-in model's container; empty: none (yet)
	model    model
	sites    *sites
	hosts    []tunnel.Host // GPU hosts that the gateway was told of
	target   *target       // the demo's listener on this host; nil: not the demo
	unsafe   string        // why the project should not have been mounted; empty: it may be
	wallIPv6 bool          // the wall serves IPv6
	ipv6     bool          // the sandbox has IPv6
	watch    []string      // paths that git on this machine obeys
	undo     []func(context.Context) error
}

const (
	cleanupTime = 30 * time.Second // for what is done after the end, be it by Ctrl-C
	createTime  = 60 * time.Second // for the engine to create and start a container
)

// uncut is for a call that makes something: cut short, it might make it all the
// same, and nobody would know to remove it. Look at ctx after it.
func uncut(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), createTime)
}

// runSession runs an agent and returns its exit code as an exitError.
func (o *options) runSession(ctx context.Context, r request) error {
	s, err := o.newSession(ctx, r)
	if err != nil {
		return err
	}
	defer s.engine.Close()
	if o.dryRun {
		return s.planSession(ctx)
	}
	code, err := s.run(ctx)
	if err != nil {
		return err
	}
	if code != 0 {
		return &exitError{code: code}
	}
	return nil
}

func (o *options) newSession(ctx context.Context, r request) (*session, error) {
	c, err := o.caller()
	if err != nil {
		return nil, err
	}
	cfg, err := o.loadConfig(c)
	if err != nil {
		return nil, err
	}
	s := &session{options: o, request: r, caller: c, config: cfg, client: control.NewClient(c.paths.ControlSocket()),
		progress: o.newProgress(), sites: o.newSites(cfg, c, true), token: rand.Text() + rand.Text()}
	if s.model, err = findModel(cfg, r.model); err != nil {
		return nil, usage(err)
	}
	if s.binary, err = o.gatewayBinary(); err != nil {
		return nil, err
	}
	if s.launcher, err = launcherID(os.Getpid()); err != nil {
		return nil, err
	}
	var id [6]byte
	rand.Read(id[:])
	s.id = hex.EncodeToString(id[:])
	if s.engine, err = containers.Open(ctx, o.dockerHost(cfg)); err != nil {
		return nil, err
	}
	if _, err = s.engine.Check(ctx); err != nil {
		s.engine.Close()
		return nil, err
	}
	return s, nil
}

func (o *options) dockerHost(cfg *config.Config) string {
	if cfg.Docker.Host != "" {
		return cfg.Docker.Host
	}
	return o.getenv("DOCKER_HOST")
}

// run does the steps in their order. Whatever was begun is undone at the end,
// also after Ctrl-C at any step.
func (s *session) run(ctx context.Context) (code int, err error) {
	defer func() {
		if ctx.Err() != nil && errors.Is(err, context.Canceled) {
			err = errInterrupted
		}
		err = errors.Join(err, s.cleanUp(context.WithoutCancel(ctx)))
	}()
	mounts, err := s.projectMounts()
	if err != nil {
		return 0, err
	}
	if s.caller.root {
		s.tellRoot()
	}
	if err := s.caller.makeHome(); err != nil {
		return 0, err
	}
	if err := s.prepareShared(ctx); err != nil {
		return 0, err
	}
	image, err := s.agentImage(ctx)
	if err != nil {
		return 0, err
	}
	begun, cancel := context.WithCancel(ctx)
	model, err := s.beginModel(begun)
	defer func() { // nothing is begun any more when it is undone
		cancel()
		_, _ = model()
	}()
	if err != nil {
		return 0, err
	}
	container, profile, addresses, err := s.makeAgent(ctx, image, mounts)
	if err != nil {
		return 0, err
	}
	return s.runAgent(ctx, container, profile, func(ctx context.Context) error { return s.awaitUp(ctx, model, addresses) })
}

// cleanUp undoes what was begun, the last first.
func (s *session) cleanUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, cleanupTime)
	defer cancel()
	var err error
	for i := len(s.undo) - 1; i >= 0; i-- {
		err = errors.Join(err, s.undo[i](ctx))
	}
	if err != nil && s.engine.Ping(ctx) != nil {
		return errors.New("the Docker engine does not answer: the next launcher removes what is left of this sandbox")
	}
	return err
}

// tellRoot says what is different for a root caller.
func (s *session) tellRoot() {
	s.progress.note("you are root: the agent and the gateway run as uid %d", s.caller.uid)
	if s.options.configFile == "" && len(s.config.Policy.Allow) > 0 {
		s.progress.warn("the gateway reads the configuration of uid %d, so the rules in %s do not apply; hint: name a file that it can read with --config", s.caller.uid, s.config.Path)
	}
}

// prepareShared removes what killed launchers left, and has the gateway and the wall
// run, and their image made.
func (s *session) prepareShared(ctx context.Context) error {
	var swept []containers.Container
	var status control.Status
	var started bool
	var installed string
	var kept error // why the running gateway keeps its rules
	err := sideBySide(
		func() (err error) {
			if swept, err = s.engine.Sweep(ctx, s.caller.uid, launcherAlive); err != nil {
				return err
			}
			return s.sweepFolders()
		},
		func() (err error) {
			if status, started, err = s.startGateway(ctx); err == nil && !started {
				kept = s.client.Reload(ctx)
			}
			return err
		},
		func() (err error) { installed, err = s.makeHelper(ctx); return err },
	)
	if len(swept) > 0 {
		s.progress.note("removed %d containers that a launcher which was killed left behind", len(swept))
	}
	if err != nil {
		return err
	}
	state := "running"
	if started {
		state = "started in the background"
	}
	s.progress.done("gateway", "%s, pid %d", state, status.PID)
	s.checkBinary(status, installed)
	if kept != nil {
		s.progress.warn("the running gateway keeps its old rules: %v", kept)
	}
	return s.startWall(ctx, s.isCurrent)
}

// makeHelper makes the image of the gateway's binary, unless it is there, and
// returns the binary's SHA-256.
func (s *session) makeHelper(ctx context.Context) (installed string, err error) {
	if installed, err = hashFile(s.binary); err != nil {
		return "", fmt.Errorf("read the gateway's binary: %w", err)
	}
	s.helper, err = s.engine.EnsureHelperOf(ctx, s.binary, installed)
	return installed, err
}

// checkBinary says so if the gateway that runs is not the one that is installed, or
// has another configuration.
func (s *session) checkBinary(status control.Status, installed string) {
	if status.Binary != installed {
		s.progress.note("the running gateway is of another version; hint: gateway down --force, and the next launcher starts this one")
	}
	if status.Config != s.config.Path && !s.caller.root {
		s.progress.warn("the running gateway's rules are those of %s, not of %s; hint: gateway down --force, and start again", orDefaults(status.Config), orDefaults(s.config.Path))
	}
}

func orDefaults(configFile string) string {
	if configFile == "" {
		return "no file (the defaults)"
	}
	return configFile
}
