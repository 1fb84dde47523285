package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/sallyport/sallyport/containers"
	"github.com/sallyport/sallyport/control"
	"github.com/sallyport/sallyport/sandbox"
	"golang.org/x/sync/errgroup"
)

const (
	retryPause = 200 * time.Millisecond // between attempts to bring something back
	// bringBackTries is how often the gateway is brought back before it is asked
	// again how the sandbox is, which may have ended.
	bringBackTries = 10
	maxNotes       = 8 // that the user hears of; the same one once
	// worthTelling is how often the wall fails to come back before the user
	// hears of it: the engine may take a moment to see that the old one ended.
	worthTelling = 3
)

// supervise keeps gateway and wall running while an agent does, until ctx ends.
// The reason why the sandbox is lost goes to lost. It returns what the user
// should hear of.
func (r *agentRun) supervise(ctx context.Context, lost chan<- string) (notes []string) {
	quiet := *r.session
	quiet.progress = newProgress(io.Discard, true, false)
	heard := make(chan string, 16)
	collected := make(chan struct{})
	go func() {
		defer close(collected)
		for note := range heard {
			if !slices.Contains(notes, note) && len(notes) < maxNotes {
				notes = append(notes, note)
			}
		}
	}()
	tell := func(format string, args ...any) { heard <- fmt.Sprintf(format, args...) }
	wake := make(chan struct{}, 1)
	var tasks errgroup.Group
	tasks.Go(func() error { quiet.keepGateway(ctx, lost, wake, tell); return nil })
	tasks.Go(func() error { quiet.keepWall(ctx, wake, tell); return nil })
	_ = tasks.Wait() // they tell what went wrong
	close(heard)
	<-collected
	return notes
}

// keepGateway follows the sandbox's state and starts the gateway again when it
// is gone; the registration is on disk, keys are handed over anew.
func (s *session) keepGateway(ctx context.Context, lost chan<- string, wake chan<- struct{}, tell func(string, ...any)) {
	for ctx.Err() == nil {
		err := s.client.Watch(ctx, s.id, func(state sandbox.State) error {
			if state.Phase != sandbox.Ready {
				signalTo(wake)
			}
			if state.Phase == sandbox.Ended {
				return errEnded
			}
			return nil
		})
		if errors.Is(err, errEnded) {
			lost <- "the sandbox's holder ended, and with it the way to the model"
			return
		}
		if ctx.Err() != nil {
			return
		}
		for range bringBackTries { // it may run, and not have our keys yet
			err := s.bringBackGateway(ctx)
			if err == nil || ctx.Err() != nil {
				break
			}
			tell("bring the gateway back: %v", err)
			pause(ctx)
		}
		pause(ctx)
	}
}

var errEnded = errors.New("ended")

// bringBackGateway starts the gateway unless somebody has. Either way it lacks
// the keys of this launcher's GPU hosts.
func (s *session) bringBackGateway(ctx context.Context) error {
	_, _, err := s.startGateway(ctx)
	if err != nil {
		return err
	}
	for _, host := range s.hosts {
		err = errors.Join(err, s.client.SetHost(ctx, host))
	}
	return err
}

// keepWall starts the wall again when it is gone.
func (s *session) keepWall(ctx context.Context, wake chan struct{}, tell func(string, ...any)) {
	failures := 0
	for ctx.Err() == nil {
		events, failed := s.engine.Events(ctx)
		signalTo(wake) // for what happened before
		open := true
		for open {
			select {
			case <-ctx.Done():
				return
			case e, ok := <-events:
				if open = ok; !ok || !s.isOurWall(e) {
					continue
				}
			case <-failed:
				open = false
				continue
			case <-wake:
			}
			err := s.bringBackWall(ctx)
			if err == nil || ctx.Err() != nil {
				failures = 0
				continue
			}
			if failures++; failures >= worthTelling {
				tell("bring the wall back: %v", err)
			}
			pause(ctx)
			signalTo(wake)
		}
		pause(ctx)
	}
}

func (s *session) isOurWall(e containers.Event) bool {
	return e.Action == "die" && e.Labels[containers.LabelRole] == containers.RoleWall && e.Labels[containers.LabelOwner] == strconv.Itoa(s.caller.uid)
}

// bringBackWall starts the wall if none runs; a launcher of another version may
// have started one of its own.
func (s *session) bringBackWall(ctx context.Context) error {
	err := s.startWall(ctx, func(containers.Container) bool { return true })
	if errors.Is(err, control.ErrNotRunning) {
		return nil // without a gateway there is nothing to connect to; it wakes us again
	}
	return err
}

func signalTo(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func pause(ctx context.Context) {
	timer := time.NewTimer(retryPause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
