package verify

import (
	"context"
	"slices"
	"time"
)

const (
	plugTime  = 20 * time.Second     // for a sandbox to be plugged
	plugPause = 2 * time.Millisecond // nothing tells a process without privileges that its routes have changed
)

// AwaitPlug waits until the sandbox has its routes, which are set last, for an agent's
// container may start while the wall plugs its network. It waits 20 s at most and
// judges nothing: that is for Quick.
func AwaitPlug(ctx context.Context, s QuickSpec) {
	ctx, cancel := context.WithTimeout(ctx, plugTime)
	defer cancel()
	tick := time.NewTicker(plugPause)
	defer tick.Stop()
	for s.Root != nil && !plugged(s) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// plugged reports whether each family that the sandbox is to have is routed.
func plugged(s QuickSpec) bool {
	all := func(r route) bool { return r.all }
	four, err := routes4(s.Root)
	if err != nil || !slices.ContainsFunc(four, all) {
		return false
	}
	if !s.Gateway6.IsValid() {
		return true
	}
	six, err := routes6(s.Root)
	return err == nil && slices.ContainsFunc(six, all)
}
