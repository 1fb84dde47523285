package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// links is what came of forwarding sockets to a host and from it.
type links struct {
	path    string // of the socket that was made there
	listen  error  // why it does not listen for us
	dialled string // what was dialled; empty: nothing there could be
	dial    error  // why that failed
}

// forwarding tries both ways, once.
func (c *checkup) forwarding(ctx context.Context) *links {
	if c.links == nil {
		c.links = &links{}
		c.tryForwarding(ctx, c.links)
	}
	return c.links
}

// tryForwarding has the host listen at a socket in our folder, as a pull does,
// and dials it through the link, as a model's gateway does. Without that, an
// engine's socket is dialled.
func (c *checkup) tryForwarding(ctx context.Context, l *links) {
	made, err := c.makeBase(ctx)
	if err != nil {
		l.listen = err
		return
	}
	defer c.removeBase(ctx, made)
	l.path = c.site.base() + "/doctor-" + rand.Text()[:8] + ".sock"
	listener, err := c.site.ListenUnix(ctx, l.path)
	if l.listen = err; err == nil {
		defer listener.Close()
		l.dialled = l.path
		l.dial = roundTrip(ctx, listener, func() (net.Conn, error) { return c.site.Dial(ctx, "unix", l.path) })
		return
	}
	for _, e := range c.site.facts.Engines {
		if e.Usable {
			l.dialled = e.Path
			var conn net.Conn
			if conn, l.dial = c.site.Dial(ctx, "unix", e.Path); l.dial == nil {
				conn.Close()
			}
			return
		}
	}
}

// makeBase makes our folder on the machine, and says whether it was not there.
func (c *checkup) makeBase(ctx context.Context) (made bool, err error) {
	out, err := c.site.Sh(ctx, `umask 077; [ -d "$1" ] || { mkdir -p -- "$1" && echo made; }`, nil, c.site.base())
	if err != nil {
		return false, fmt.Errorf("make our folder on %s: %w", c.title, err)
	}
	return strings.TrimSpace(string(out)) == "made", nil
}

// removeBase removes the folder again that makeBase made, if it is empty.
func (c *checkup) removeBase(ctx context.Context, made bool) {
	if !made {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), checkTime)
	defer cancel()
	_, _ = c.site.Sh(ctx, `rmdir -- "$1" 2>/dev/null || :`, nil, c.site.base()) // an empty folder of ours does no harm
}

// roundTrip sends a byte there and back.
func roundTrip(ctx context.Context, l net.Listener, dial func() (net.Conn, error)) error {
	answered := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err == nil {
			defer conn.Close()
			setDeadline(ctx, conn)
			_, err = io.CopyN(conn, conn, 1)
		}
		answered <- err
	}()
	conn, err := dial()
	if err != nil {
		l.Close()
		<-answered
		return err
	}
	defer conn.Close()
	setDeadline(ctx, conn)
	stop := context.AfterFunc(ctx, func() { l.Close(); conn.Close() })
	defer stop()
	sent := []byte{0x5a}
	got := make([]byte, 1)
	_, err = conn.Write(sent)
	if err == nil {
		_, err = io.ReadFull(conn, got)
	}
	l.Close() // where the connection never came in
	if err = errors.Join(err, <-answered); err != nil {
		return fmt.Errorf("send a byte through a socket there and back: %w", err)
	}
	if got[0] != sent[0] {
		return errors.New("a byte through a socket there came back as another: somebody else listens at it")
	}
	return nil
}

func setDeadline(ctx context.Context, conn net.Conn) {
	if at, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(at)
		return
	}
	_ = conn.SetDeadline(time.Now().Add(checkTime))
}
