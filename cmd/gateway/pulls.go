package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/control"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/proxy"
	"golang.org/x/sync/errgroup"
)

const (
	maxPullHosts = 100
	maxPullConns = 32  // a downloader has a handful
	maxPullQueue = 256 // connections that the launcher was not told of yet; the record has all
)

// clearPulls removes what a gateway that was killed left of its pulls.
func clearPulls(folder string) error {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return fmt.Errorf("look for what is left of pulls: %w", err)
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(folder, e.Name())); err != nil {
			return fmt.Errorf("remove what is left of a pull: %w", err)
		}
	}
	return nil
}

// pull is the way out of one pull of weights, for as long as ctx lasts: a forward
// proxy on a socket of its own, with a policy of its own. The sandboxes' policy
// has no part in it, nor has it in theirs.
func (g *gateway) pull(ctx context.Context, r control.PullRequest, tell func(control.PullEvent) error) (err error) {
	if r.Name == "" || len(r.Name) > 100 || strings.ContainsFunc(r.Name, func(c rune) bool { return !unicode.IsPrint(c) }) {
		return errors.New("open a way out for a pull: it has no name")
	}
	if len(r.Hosts) == 0 || len(r.Hosts) > maxPullHosts {
		return fmt.Errorf("open a way out for the pull of %s: %d hosts are named; 1 to %d are possible", r.Name, len(r.Hosts), maxPullHosts)
	}
	rules, err := policy.New(r.Hosts)
	if err != nil {
		return fmt.Errorf("open a way out for the pull of %s: %w; hint: hub.hosts and hub.endpoint in your config", r.Name, err)
	}
	id := make([]byte, 6)
	rand.Read(id) // never fails, and fills it: crypto/rand
	subject := audit.Subject{Sandbox: "pull-" + hex.EncodeToString(id), Agent: "pull", Model: r.Name}
	folder := filepath.Join(g.paths.Pulls(), subject.Sandbox)
	if err := os.Mkdir(folder, 0o700); err != nil {
		return fmt.Errorf("open a way out for the pull of %s: %w", r.Name, err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	socket := filepath.Join(folder, "proxy.sock")
	l, err := listenUnix("unix", socket)
	if err != nil {
		return err
	}
	defer l.Close()
	queue := make(chan control.PullConnection, maxPullQueue)
	forward := &proxy.Forward{
		Subject: subject, Policy: func() *policy.Policy { return rules }, Dial: g.dialAllowed, MaxConns: maxPullConns,
		Record: func(e audit.Event) error { return g.recordPull(subject, e, queue) }, Log: g.log.With("pull", subject.Sandbox),
	}
	if err := tell(control.PullEvent{Ready: &control.PullReady{ID: subject.Sandbox, Socket: socket}}); err != nil {
		return err
	}
	tasks, ctx := errgroup.WithContext(ctx)
	tasks.Go(func() error { return forward.Serve(ctx, l) })
	tasks.Go(func() error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case c := <-queue:
				if err := tell(control.PullEvent{Connection: &c}); err != nil {
					return err
				}
			}
		}
	})
	return tasks.Wait()
}

// recordPull keeps an event and has the launcher told of it.
func (g *gateway) recordPull(subject audit.Subject, e audit.Event, queue chan<- control.PullConnection) error {
	e.Subject = subject
	if _, err := g.audit.Append(e); err != nil {
		return err
	}
	select {
	case queue <- control.PullConnection{Host: audit.Printable(e.Host), Port: e.Port, Verdict: e.Verdict, Reason: audit.Printable(e.Reason), Bytes: e.BytesOut}:
	default:
	}
	return nil
}
