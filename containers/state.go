package containers

import (
	"context"
	"errors"
	"fmt"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/client"
)

// ErrNoContainer is returned for a container that the engine does not know.
var ErrNoContainer = errors.New("there is no such container")

// State is what became of a container.
type State struct {
	Running   bool
	ExitCode  int // once it has run
	OOMKilled bool
}

// State asks for the present state of a container; ErrNoContainer if there is none.
func (e *Engine) State(ctx context.Context, id string) (State, error) {
	res, err := e.api.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
	switch {
	case cerrdefs.IsNotFound(err):
		return State{}, fmt.Errorf("container %s: %w", short(id), ErrNoContainer)
	case err != nil:
		return State{}, fmt.Errorf("look at container %s: %w", short(id), err)
	case res.Container.State == nil:
		return State{}, fmt.Errorf("look at container %s: the engine does not say how it is", short(id))
	}
	s := res.Container.State
	return State{Running: s.Running, ExitCode: s.ExitCode, OOMKilled: s.OOMKilled}, nil
}

// Ping reports whether the engine answers.
func (e *Engine) Ping(ctx context.Context) error {
	_, err := e.api.Ping(ctx, client.PingOptions{})
	return err
}
