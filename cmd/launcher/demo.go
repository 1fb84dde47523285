package main

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"github.com/sallyport/sallyport/containers"
)

// prepareDemo makes what the stand-in model needs to start.
func (s *session) prepareDemo(ctx context.Context) error {
	folder := s.modelSocketFolder()
	s.undo = append(s.undo, func(context.Context) error { return s.caller.removeFolder(folder) })
	if err := s.caller.makeFolder(folder); err != nil {
		return err
	}
	target, stop, err := startTarget(ctx)
	if err != nil {
		return err
	}
	s.target = target
	s.undo = append(s.undo, func(context.Context) error { return stop() }, s.removeDemo)
	s.model.Upstream.Address = filepath.Join(folder, "model.sock")
	return nil
}

// startDemo starts the stand-in model in a container without a network.
func (s *session) startDemo(ctx context.Context) (err error) {
	s.demo, err = s.startHelper(ctx, containers.HelperSpec{
		Name: "sallyport-demo-" + s.id, Cmd: []string{"demo-model", "--host-listener", s.target.Address()},
		Binds:  []containers.Bind{{Source: s.modelSocketFolder(), Target: modelFolderInside}},
		Labels: s.labels(containers.RoleModel),
	})
	if err != nil {
		return err
	}
	if err := s.awaitSocket(ctx, s.model.Upstream.Address, s.demo); err != nil {
		return fmt.Errorf("the stand-in model did not start: %w%s", err, s.lastLines(ctx, s.demo))
	}
	return nil
}

func (s *session) removeDemo(ctx context.Context) error {
	if s.demo == "" {
		return nil
	}
	return s.engine.Remove(ctx, s.demo)
}

// awaitSocket waits until a server in a container listens on a unix socket.
func (s *session) awaitSocket(ctx context.Context, path, container string) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	dialer := &net.Dialer{}
	for {
		c, err := dialer.DialContext(ctx, "unix", path)
		if err == nil {
			return c.Close()
		}
		if state, err := s.engine.State(ctx, container); err == nil && !state.Running {
			return fmt.Errorf("it ended with exit code %d", state.ExitCode)
		}
		select {
		case <-time.After(10 * time.Millisecond): // nothing tells when a socket begins to listen
		case <-ctx.Done():
			return fmt.Errorf("it does not listen: %w", ctx.Err())
		}
	}
}
