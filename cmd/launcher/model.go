package main

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/config"
	"github.com/sallyport/sallyport/containers"
	"github.com/sallyport/sallyport/models"
	"github.com/sallyport/sallyport/sandbox"
	"github.com/sallyport/sallyport/tunnel"
	"github.com/spf13/cobra"
)

// model is the model of a session and the way to it.
type model struct {
	models.Profile
	Upstream sandbox.Upstream
	ssh      string // destination of its GPU host; empty: this machine
}

// findModel looks a name up in the configuration and among the known models.
func findModel(cfg *config.Config, name string) (model, error) {
	for _, entry := range cfg.Models {
		if strings.EqualFold(entry.Name, name) || slices.ContainsFunc(entry.Aliases, func(a string) bool { return strings.EqualFold(a, name) }) {
			return configured(cfg, entry)
		}
	}
	known, ok := models.Resolve(name)
	switch {
	case ok && known.StandIn():
		return model{Profile: known, Upstream: sandbox.Upstream{Name: known.Served, Network: "unix", Controlled: true}}, nil
	case ok:
		return model{}, fmt.Errorf("model %q is not in your configuration; hint: add it to models, with the endpoint of its server (see config.example.yaml)", name)
	}
	return model{}, fmt.Errorf("there is no model %q; hint: %s", name, strings.Join(modelNames(cfg), ", "))
}

func configured(cfg *config.Config, entry config.Model) (model, error) {
	known, _ := models.Resolve(entry.Name)
	if entry.Model != "" {
		if byWeights, ok := models.Resolve(entry.Model); ok {
			known = byWeights
		}
	}
	m := model{Profile: models.Merge(known, models.Override{Name: entry.Name, Aliases: entry.Aliases, Model: entry.Model,
		MaxContext: entry.Context, Engine: models.Engine(entry.Engine), Endpoint: entry.Endpoint.String()})}
	if m.Endpoint == "" {
		return model{}, fmt.Errorf("model %q has no endpoint; hint: start its server (vllm serve … --uds PATH, without a network) and set endpoint: unix://PATH", entry.Name)
	}
	address, err := models.ParseEndpoint(m.Endpoint)
	if err != nil {
		return model{}, err
	}
	m.Upstream = sandbox.Upstream{Name: m.Served, Aliases: append([]string{m.Name}, m.Aliases...), Host: entry.Host,
		Network: address.Network, Address: address.Addr, Token: string(entry.Token)}
	for _, host := range cfg.Hosts {
		if host.Name == entry.Host {
			m.ssh = host.SSH
			if m.ssh == "" {
				m.ssh = host.Name
			}
		}
	}
	return m, nil
}

func modelNames(cfg *config.Config) []string {
	names := []string{"demo"}
	for _, m := range cfg.Models {
		names = append(names, m.Name)
	}
	return names
}

// completeModels completes the model's name in the shell.
func (o *options) completeModels(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	at := 0
	if cmd.Name() == "run" { // behind the image
		at = 1
	}
	c, err := o.caller()
	if err != nil || len(args) != at {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	cfg, err := o.loadConfig(c)
	if err != nil {
		return []string{"demo"}, cobra.ShellCompDirectiveNoFileComp
	}
	return modelNames(cfg), cobra.ShellCompDirectiveNoFileComp
}

// reachModel starts the demo's stand-in, or hands the GPU host over, and asks the
// gateway whether the server answers.
func (s *session) reachModel(ctx context.Context) error {
	switch {
	case s.model.StandIn():
		if err := s.startDemo(ctx); err != nil {
			return err
		}
	case s.model.ssh != "":
		if err := s.resolveHost(ctx); err != nil {
			return err
		}
	}
	check, err := s.client.CheckModel(ctx, s.model.Upstream)
	if err != nil {
		return err
	}
	if !check.OK {
		return fmt.Errorf("the model server at %s is not ready: %s\nhint: is it running, and is models.endpoint right? gateway status shows the way to it", s.model.Upstream, audit.Printable(check.Error))
	}
	if len(check.Models) > 0 && !slices.Contains(check.Models, s.model.Upstream.Name) {
		s.progress.warn("the model server calls its models %s, not %s; hint: set models.model in the configuration",
			strings.Join(check.Models, ", "), s.model.Upstream.Name)
	}
	network := "without a network"
	if !s.model.Upstream.Controlled {
		network = "network of this server: not controlled"
	}
	s.progress.done("model", "%s at %s, %s", s.model.Name, s.model.Upstream, network)
	return nil
}

// startDemo starts the stand-in model in a container without a network.
func (s *session) startDemo(ctx context.Context) error {
	folder := s.modelSocketFolder()
	s.undo = append(s.undo, func(context.Context) error { return s.caller.removeFolder(folder) })
	if err := s.caller.makeFolder(folder); err != nil {
		return err
	}
	target, stop, err := startTarget(ctx)
	if err != nil {
		return err
	}
	s.target = target
	s.undo = append(s.undo, func(context.Context) error { return stop() })
	id, err := s.startHelper(ctx, containers.HelperSpec{
		Name: "sallyport-demo-" + s.id, Cmd: []string{"demo-model", "--host-listener", target.Address()},
		Binds:  []containers.Bind{{Source: folder, Target: modelFolderInside}},
		Labels: s.labels(containers.RoleModel),
	})
	if err != nil {
		return err
	}
	s.undo = append(s.undo, func(ctx context.Context) error { return s.engine.Remove(ctx, id) })
	s.model.Upstream.Address = filepath.Join(folder, "model.sock")
	if err := s.awaitSocket(ctx, s.model.Upstream.Address, id); err != nil {
		return fmt.Errorf("the stand-in model did not start: %w%s", err, s.lastLines(ctx, id))
	}
	return nil
}

// awaitSocket waits until a server in a container listens on a unix socket.
func (s *session) awaitSocket(ctx context.Context, path, container string) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	dialer := &net.Dialer{}
	for {
		c, err := dialer.DialContext(ctx, "unix", path)
		if err == nil {
			return c.Close()
		}
		if state, err := s.engine.State(ctx, container); err == nil && !state.Running {
			return fmt.Errorf("it ended with exit code %d", state.ExitCode)
		}
		select {
		case <-time.After(10 * time.Millisecond): // nothing tells when a socket begins to listen
		case <-ctx.Done():
			return fmt.Errorf("it does not listen: %w", ctx.Err())
		}
	}
}

// resolveHost reads the user's SSH settings, asks for passphrases, and hands the
// host to the gateway.
func (s *session) resolveHost(ctx context.Context) error {
	var files []string
	if s.config.SSH.Config != "" {
		files = []string{s.config.SSH.Config}
	}
	host, err := tunnel.Resolve(ctx, s.model.ssh, tunnel.Options{Home: s.caller.ownHome, ConfigFiles: files,
		AgentSock:  s.options.getenv("SSH_AUTH_SOCK"),
		Passphrase: func(path string) ([]byte, error) { return askPassphrase(ctx, path) }})
	if err != nil {
		return fmt.Errorf("GPU host %s: %w", s.model.Upstream.Host, err)
	}
	host.Name = s.model.Upstream.Host
	s.host = &host
	return s.client.SetHost(ctx, host)
}
