package tunnel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

// Dial opens a stream to addr as the host sees it: host:port for "tcp", a path
// for "unix". Without a link it has one made at once, and waits: until ctx ends,
// or 20 s if ctx has no deadline. The error is a *TargetError if the host is
// fine and the target is not; a *HostKeyError or *AuthError if the host is
// refused, or refuses us; else one that errors.Is finds ErrLinkDown in. A stream
// fails when the link does; it is never moved to the next link.
func (c *Client) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if network != "tcp" && network != "unix" || addr == "" {
		return nil, fmt.Errorf("dial %s %q through %s: only tcp and unix are possible", network, addr, c.host.Name)
	}
	var conn net.Conn
	err := c.overLink(ctx, func(ctx context.Context, l *link) (err error) {
		conn, err = l.dial(ctx, c.host.Name, target{network, addr})
		return err
	})
	return conn, err
}

// overLink calls f with the link, once there is one, and ctx with a limit. f sends
// nothing of the caller's: if the link is lost meanwhile, the next one will do.
func (c *Client) overLink(ctx context.Context, f func(context.Context, *link) error) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, defaultDialTime)
		defer cancel()
	}
	for {
		l, err := c.await(ctx)
		if err != nil {
			return err
		}
		err = f(ctx, l)
		if errors.Is(err, ErrLinkDown) && l.cause() != nil && ctx.Err() == nil {
			continue
		}
		return err
	}
}

// await returns the link, once there is one.
func (c *Client) await(ctx context.Context) (*link, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.attempts
	if c.usable() == nil && permanent(c.lastErr) && time.Since(c.lastEnd) < permanentFresh {
		return nil, c.lastErr
	}
	c.waiting++
	defer func() { c.waiting-- }()
	for asked := false; ; asked = true {
		if l := c.usable(); l != nil {
			return l, nil
		}
		if c.attempts > before && permanent(c.lastErr) {
			return nil, c.lastErr
		}
		if !asked {
			select {
			case c.wake <- struct{}{}:
			default: // asked for already
			}
		}
		changed := c.changed
		c.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
		c.mu.Lock()
		if ctx.Err() != nil {
			return nil, c.gaveUp(ctx)
		}
	}
}

// usable is the link if there is one that lives. c.mu is held.
func (c *Client) usable() *link {
	if c.link == nil || done(c.link.down) {
		return nil
	}
	return c.link
}

// gaveUp says why there is no link. c.mu is held.
func (c *Client) gaveUp(ctx context.Context) error {
	err := c.lastErr
	if err == nil {
		err = errors.New("no connection yet")
	}
	var down *LinkError
	if errors.As(err, &down) {
		err = down.Err
	}
	return &LinkError{Host: c.host.Name, Err: fmt.Errorf("%w (gave up waiting: %w)", err, context.Cause(ctx))}
}
