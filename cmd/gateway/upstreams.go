package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/control"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/sandbox"
	"golang.org/x/sync/semaphore"
)

const (
	placeDialTime  = 10 * time.Second // for the place in use, where there is another to go to
	placeCheckTime = 5 * time.Second  // for a place to say that it is healthy, before or instead of a move
)

// upstream is the way of one sandbox to its model. It leads to one place, and
// stays there for the sake of the server's prefix cache. Where that cannot be
// dialled, or is not healthy after an answer failed, the next connection leads to
// another healthy place. A request that was sent is not sent again.
type upstream struct {
	dial  func(context.Context, sandbox.Place) (net.Conn, error)
	alive func(context.Context, sandbox.Place) error                             // asks /health
	check func(context.Context, sandbox.Upstream, []sandbox.Place) []placeReport // of spare places
	// moved records a move before it is made; its error prevents it.
	moved func(from, to sandbox.Place, why error) error

	turn  *semaphore.Weighted // of who asks for health and chooses; one at a time
	mu    sync.Mutex
	model sandbox.Upstream // its Place is the one in use
	doubt error            // why that may be unhealthy; nil: no reason to think so
}

// placeReport is what is known of a place before one is chosen.
type placeReport = control.PlaceCheck

func (u *upstream) now() (sandbox.Upstream, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.model, u.doubt
}

func (u *upstream) set(model sandbox.Upstream, doubt error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.model, u.doubt = model, doubt
}

// Where names the place in use.
func (u *upstream) Where() string {
	model, _ := u.now()
	return model.String()
}

// Trouble has the health of the place in use asked for before the next
// connection.
func (u *upstream) Trouble(why string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.doubt = errors.New(why)
}

// Dial connects to the place in use, after a move if there is a reason for one.
func (u *upstream) Dial(ctx context.Context) (net.Conn, error) {
	model, doubt := u.now()
	if len(model.Spare) == 0 {
		return u.dial(ctx, model.Place())
	}
	if doubt != nil {
		u.settle(ctx)
		model, _ = u.now()
	}
	conn, err := u.dialPlace(ctx, model.Place())
	if err == nil || ctx.Err() != nil {
		return conn, err
	}
	to, moveErr := u.move(ctx, model.Place(), err)
	if moveErr != nil {
		return nil, fmt.Errorf("%w; %w", err, moveErr)
	}
	return u.dialPlace(ctx, to)
}

func (u *upstream) dialPlace(ctx context.Context, p sandbox.Place) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, placeDialTime)
	defer cancel()
	return u.dial(ctx, p)
}

// settle asks the doubted place for its health, and moves if it has none. Where
// no other place is healthy either, the doubt stays, for the next connection.
func (u *upstream) settle(ctx context.Context) {
	if u.turn.Acquire(ctx, 1) != nil {
		return // ctx has ended: Dial fails by itself
	}
	defer u.turn.Release(1)
	model, doubt := u.now()
	if doubt == nil {
		return // another connection has settled it
	}
	asking, cancel := context.WithTimeout(ctx, placeCheckTime)
	err := u.alive(asking, model.Place())
	cancel()
	if err == nil {
		u.set(model, nil)
		return
	}
	_, _ = u.leave(ctx, model, fmt.Errorf("%w (after: %w)", err, doubt))
}

// move leads to another place than from, unless another connection has moved
// already, and returns the place in use.
func (u *upstream) move(ctx context.Context, from sandbox.Place, why error) (sandbox.Place, error) {
	if err := u.turn.Acquire(ctx, 1); err != nil {
		return sandbox.Place{}, err
	}
	defer u.turn.Release(1)
	model, _ := u.now()
	if model.Place() != from {
		return model.Place(), nil
	}
	return u.leave(ctx, model, why)
}

// leave moves model to the best of its spare places; the turn is held.
func (u *upstream) leave(ctx context.Context, model sandbox.Upstream, why error) (sandbox.Place, error) {
	asking, cancel := context.WithTimeout(ctx, placeCheckTime)
	defer cancel()
	reports := u.check(asking, model, model.Spare)
	best := choose(reports, model.Name)
	if best < 0 {
		return sandbox.Place{}, fmt.Errorf("no other place is healthy: %s", ailments(reports))
	}
	to := model.Spare[best]
	if err := u.moved(model.Place(), to, why); err != nil {
		return sandbox.Place{}, fmt.Errorf("cannot move to %s: %w", to, err)
	}
	u.set(model.Prefer(best+1), nil)
	return to, nil
}

// newUpstream is the way of a plugged sandbox to its model.
func (g *gateway) newUpstream(s sandbox.Plugged) *upstream {
	return &upstream{
		dial: g.dialPlace, check: g.checkPlaces, turn: semaphore.NewWeighted(1), model: s.Upstream,
		alive: func(ctx context.Context, p sandbox.Place) error {
			return askHealth(ctx, g.asker(s.Upstream.Token, p))
		},
		moved: func(from, to sandbox.Place, why error) error {
			_, err := g.audit.Append(audit.Event{Subject: s.Subject(), Layer: audit.LayerControl, Proto: to.Network, Host: to.Host, Dst: to.Address,
				Verdict: policy.Allow.String(), Rule: "model-place", Reason: fmt.Sprintf("moved from %s to %s: %v", from, to, why)})
			if err != nil {
				return err
			}
			g.log.Warn("a sandbox's model is reached at another place", "sandbox", s.Sandbox, "from", from.String(), "to", to.String(), "why", audit.Printable(why.Error()))
			if err := g.hub.Move(s.Sandbox, to); err != nil {
				g.log.Error("keep a sandbox's place; a gateway that comes back begins at the old one", "sandbox", s.Sandbox, "err", err)
			}
			return nil
		},
	}
}
