package containers

import (
	"context"
	"errors"
	"fmt"
	"strconv"
)

// Sweep removes the agents, probes, holders and demo models of one user whose launcher
// is gone, and returns them; walls outlive their launcher and stay. alive gets
// a LabelLauncher value and says whether that launcher still runs. Other
// owners' containers are never touched, whatever alive says.
func (e *Engine) Sweep(ctx context.Context, owner int, alive func(launcher string) bool) ([]Container, error) {
	if alive == nil {
		return nil, errors.New("sweep containers: alive is nil")
	}
	list, err := e.List(ctx, map[string]string{LabelOwner: strconv.Itoa(owner), LabelLauncher: ""})
	if err != nil {
		return nil, fmt.Errorf("sweep containers: %w", err)
	}
	var removed []Container
	var failed []error
	// An agent or probe goes before the holder whose network it is in.
	for _, role := range []string{RoleAgent, RoleProbe, RoleHolder, RoleModel} {
		for _, c := range list {
			if !sweepable(c, role, strconv.Itoa(owner)) || alive(c.Labels[LabelLauncher]) {
				continue
			}
			if err := e.Remove(ctx, c.ID); err != nil {
				failed = append(failed, err)
				continue
			}
			removed = append(removed, c)
		}
	}
	return removed, errors.Join(failed...)
}

// sweepable checks again what the engine was asked to filter by: what is
// removed here must not hang on an engine's reading of a filter.
func sweepable(c Container, role, owner string) bool {
	return c.Labels[LabelRole] == role && c.Labels[LabelOwner] == owner && c.Labels[LabelLauncher] != ""
}
