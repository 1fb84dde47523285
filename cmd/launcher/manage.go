package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/config"
	"github.com/sallyport/sallyport/containers"
	"github.com/sallyport/sallyport/control"
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

// sandboxID is the beginning of one, long enough to be meant.
var sandboxID = regexp.MustCompile(`^[0-9a-f]{4,12}$`)

// stopSandboxes ends sandboxes in the order in which a launcher does: agent, registration,
// and what is left.
func (o *options) stopSandboxes(ctx context.Context, engine *containers.Engine, c caller, named []string, all bool) error {
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
