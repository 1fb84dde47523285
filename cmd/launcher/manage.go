package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/config"
	"github.com/sallyport/sallyport/containers"
	"github.com/sallyport/sallyport/control"
	"github.com/spf13/cobra"
)

// open is what the commands share that look at sandboxes.
func (o *options) open(ctx context.Context) (caller, *config.Config, *containers.Engine, error) {
	c, err := o.caller()
	if err != nil {
		return c, nil, nil, err
	}
	cfg, err := o.loadConfig(c)
	if err != nil {
		return c, nil, nil, err
	}
	engine, err := containers.Open(ctx, o.dockerHost(cfg))
	if err != nil {
		return c, nil, nil, err
	}
	if _, err := engine.Check(ctx); err != nil {
		engine.Close()
		return c, nil, nil, err
	}
	return c, cfg, engine, nil
}

func (o *options) list(ctx context.Context, engine *containers.Engine, c caller, role string) ([]containers.Container, error) {
	return engine.List(ctx, map[string]string{containers.LabelRole: role, containers.LabelOwner: strconv.Itoa(c.uid)})
}

func newStatusCommand(o *options) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:     "status",
		Short:   "Say which sandboxes run",
		Example: "  launcher status\n  launcher status --json | jq .sandboxes",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, _, engine, err := o.open(cmd.Context())
			if err != nil {
				return err
			}
			defer engine.Close()
			agents, err := o.list(cmd.Context(), engine, c, containers.RoleAgent)
			if err != nil {
				return err
			}
			status, err := control.NewClient(c.paths.ControlSocket()).Status(cmd.Context())
			if err != nil && !errors.Is(err, control.ErrNotRunning) {
				return err
			}
			return o.printStatus(asJSON, status, err == nil, agents)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func newStopCommand(o *options) *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use:   "stop [SANDBOX…]",
		Short: "End agents and their sandboxes; with --all also the wall and the gateway",
		Example: `  launcher stop 3fa85f645717
  launcher stop --all`,
		RunE: func(cmd *cobra.Command, ids []string) error {
			if len(ids) == 0 == !all {
				return usage(errors.New("name sandboxes (see launcher status), or use --all"))
			}
			for _, id := range ids {
				if !sandboxID.MatchString(id) {
					return usage(fmt.Errorf("%q is no sandbox; hint: launcher status names them, and the first four digits will do", id))
				}
			}
			c, _, engine, err := o.open(cmd.Context())
			if err != nil {
				return err
			}
			defer engine.Close()
			return o.stop(cmd.Context(), engine, c, ids, all)
		},
	}
	c.Flags().BoolVar(&all, "all", false, "all of this user's sandboxes, the wall and the gateway")
	return c
}

// sandboxID is the beginning of one, long enough to be meant.
var sandboxID = regexp.MustCompile(`^[0-9a-f]{4,12}$`)

// stop ends sandboxes in the order in which a launcher does: agent, registration,
// and what is left.
func (o *options) stop(ctx context.Context, engine *containers.Engine, c caller, named []string, all bool) error {
	client := control.NewClient(c.paths.ControlSocket())
	found := map[string]bool{}
	for _, role := range []string{containers.RoleAgent, containers.RoleHolder, containers.RoleModel, containers.RoleWall} {
		list, err := o.list(ctx, engine, c, role)
		if err != nil {
			return err
		}
		for _, container := range list {
			id := container.Labels[containers.LabelSandbox]
			if !all && !slices.ContainsFunc(named, func(n string) bool { return strings.HasPrefix(id, n) }) {
				continue
			}
			if role == containers.RoleHolder {
				if err := client.Unregister(ctx, id); err != nil && !errors.Is(err, control.ErrNotRunning) {
					return err
				}
			}
			if err := engine.Remove(ctx, container.ID); err != nil {
				return err
			}
			if id != "" && !found[id] {
				found[id] = true
				fmt.Fprintf(o.stdout, "stopped %s\n", id)
			}
		}
	}
	if all {
		if err := endGateway(ctx, client); err != nil {
			return err
		}
		_, err := fmt.Fprintln(o.stdout, "stopped the wall and the gateway")
		return err
	}
	for _, n := range named {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(found)), func(id string) bool { return strings.HasPrefix(id, n) }) {
			return fmt.Errorf("there is no sandbox %s; hint: launcher status", n)
		}
	}
	return nil
}

// endGateway ends the gateway, if one runs, and waits until it is gone.
func endGateway(ctx context.Context, client *control.Client) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := client.Down(ctx, true); errors.Is(err, control.ErrNotRunning) {
		return nil
	} else if err != nil {
		return err
	}
	for {
		if _, err := client.Status(ctx); errors.Is(err, control.ErrNotRunning) {
			return nil
		}
		select {
		case <-time.After(10 * time.Millisecond): // nothing tells when a socket is closed
		case <-ctx.Done():
			return errors.New("the gateway said that it ends, and has not; hint: gateway status names its pid and its log")
		}
	}
}

func newBuildCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "build",
		Short: "Build the agent image, unless it is there",
		Long: `Build the agent image, unless it is there, and print its name. "launcher claude" does
it by itself. The settings are those of the configuration: agent.claude_version,
agent.extra_ca, agent.build_network.

Where packages come from mirrors, as on a CI machine, these variables of the
environment say so. They change how the image is built, not what is in it:
  SALLYPORT_BUILD_APT_SOURCES  file that replaces the base image's apt sources
  SALLYPORT_BUILD_APT_CONF     file of apt.conf settings
  SALLYPORT_BUILD_NPM_REGISTRY URL of the npm registry`,
		Example: "  launcher build\n  SALLYPORT_BUILD_NPM_REGISTRY=http://mirror.example:4873 launcher build",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, cfg, engine, err := o.open(cmd.Context())
			if err != nil {
				return err
			}
			defer engine.Close()
			p := newProgress(o.stderr, o.quiet, false)
			image, err := o.buildAgent(cmd.Context(), engine, cfg, c, p)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(o.stdout, image)
			return err
		},
	}
}

// buildAgent builds the agent image for the caller unless it is there.
func (o *options) buildAgent(ctx context.Context, engine *containers.Engine, cfg *config.Config, c caller, p *progress) (string, error) {
	spec := containers.BuildSpec{UID: c.uid, GID: c.gid, Version: cfg.Agent.ClaudeVersion, Network: cfg.Agent.BuildNetwork,
		NpmRegistry: o.getenv("SALLYPORT_BUILD_NPM_REGISTRY"),
		Progress:    func(line string) { p.note("%s", audit.Printable(line)) }}
	for _, file := range []struct {
		variable string
		text     *string
	}{{"SALLYPORT_BUILD_APT_SOURCES", &spec.AptSources}, {"SALLYPORT_BUILD_APT_CONF", &spec.AptConf}} {
		if path := o.getenv(file.variable); path != "" {
			data, err := os.ReadFile(path)
			if err != nil {
				return "", usage(fmt.Errorf("%s: %w", file.variable, err))
			}
			*file.text = string(data)
		}
	}
	if cfg.Agent.ExtraCA != "" {
		pem, err := os.ReadFile(cfg.Agent.ExtraCA)
		if err != nil {
			return "", usage(fmt.Errorf("agent.extra_ca: %w", err))
		}
		spec.ExtraCA = pem
	}
	return engine.BuildAgent(ctx, spec)
}
