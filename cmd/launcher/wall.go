package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/containerd/errdefs"
	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/containers"
	"github.com/sallyport/sallyport/wall"
	"golang.org/x/sys/unix"
)

// What the helper binary finds inside its container.
const (
	wallFolderInside = "/run/sallyport/wall"
	tokenVariable    = "SALLYPORT_TOKEN"
	labelImage       = "dev.sallyport.image"  // of a wall: the image that it was made from
	labelSocket      = "dev.sallyport.socket" // of a wall: the folder with the socket of its gateway
)

func (s *session) wallBind() containers.Bind {
	return containers.Bind{Source: s.caller.paths.WallFolder(), Target: wallFolderInside}
}

// startHelper starts a container of our own binary. The network's sysctls are
// set if it gets NET_ADMIN; without IPv6 on this host, those of IPv6 are left out.
func (s *session) startHelper(ctx context.Context, spec containers.HelperSpec) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	whole, cancel := uncut(ctx)
	defer cancel()
	spec.Image, spec.UID, spec.GID = s.helper, s.caller.uid, s.caller.gid
	if spec.NetAdmin {
		spec.Sysctls = wall.Sysctls(wall.HasIPv6())
	}
	id, err := s.engine.StartHelper(whole, spec)
	var refused *containers.SysctlError
	if errors.As(err, &refused) && refused.IPv6() {
		s.progress.note("this host has no IPv6: the sandbox gets none either")
		spec.Sysctls = wall.Sysctls(false)
		id, err = s.engine.StartHelper(whole, spec)
	}
	return id, err
}

// isCurrent reports whether a wall is of the image that this launcher has made.
func (s *session) isCurrent(c containers.Container) bool { return c.Labels[labelImage] == s.helper }

// startWall makes sure that a wall of this user's runs that will do. Launchers
// take turns at it, so that none removes what another is just starting.
func (s *session) startWall(ctx context.Context, willDo func(containers.Container) bool) error {
	unlock, err := s.lockWall(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	list, err := s.engine.List(ctx, map[string]string{containers.LabelRole: containers.RoleWall, containers.LabelOwner: strconv.Itoa(s.caller.uid)})
	if err != nil {
		return err
	}
	for _, c := range list {
		if c.State == "running" && c.Labels[labelSocket] == s.caller.paths.WallFolder() && willDo(c) {
			return s.awaitWall(ctx, c.ID, "running")
		}
	}
	for _, c := range list {
		if err := s.engine.Remove(ctx, c.ID); err != nil {
			return err
		}
	}
	secret, err := s.client.Wall(ctx)
	if err != nil {
		return fmt.Errorf("ask for the wall's token: %w", err)
	}
	labels := s.labels(containers.RoleWall)
	labels[labelImage], labels[labelSocket] = s.helper, s.caller.paths.WallFolder()
	spec := containers.HelperSpec{
		Name: "sallyport-wall-" + strconv.Itoa(s.caller.uid), Cmd: []string{"wall"}, NetAdmin: true,
		Binds: []containers.Bind{s.wallBind()}, Env: []string{tokenVariable + "=" + secret.Token}, Labels: labels,
	}
	id, err := s.startHelper(ctx, spec)
	for range 25 { // an engine that is still removing the old one has its name in use
		if !errdefs.IsConflict(err) || ctx.Err() != nil {
			break
		}
		pause(ctx)
		id, err = s.startHelper(ctx, spec)
	}
	if err != nil {
		return err
	}
	return s.awaitWall(ctx, id, "started")
}

// lockWall waits for this launcher's turn. The lock ends with the process.
func (s *session) lockWall(ctx context.Context) (unlock func(), err error) {
	f, err := s.caller.openFile(s.caller.paths.State, "wall.lock", os.O_RDWR)
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			f.Close()
			return nil, fmt.Errorf("wait for other launchers: %w", err)
		}
		select {
		case <-time.After(20 * time.Millisecond): // a lock that is waited for cannot be given up
		case <-ctx.Done():
			f.Close()
			return nil, ctx.Err()
		}
	}
}

// awaitWall waits until the gateway has the wall's connection.
func (s *session) awaitWall(ctx context.Context, id, state string) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	for {
		status, err := s.client.Status(ctx)
		if err == nil && status.Wall.Up {
			families := "IPv4"
			if s.wallIPv6 = status.Wall.IPv6; s.wallIPv6 {
				families = "IPv4 and IPv6"
			}
			s.progress.done("wall", "%s, %s", state, families)
			return nil
		}
		if container, err := s.engine.State(ctx, id); err == nil && !container.Running {
			return fmt.Errorf("the wall ended%s", s.lastLines(ctx, id))
		}
		select {
		case <-time.After(10 * time.Millisecond): // the status is a picture, not a stream
		case <-ctx.Done():
			return fmt.Errorf("the wall did not connect to the gateway: %w%s", ctx.Err(), s.lastLines(ctx, id))
		}
	}
}

// lastLines is what a container of ours said last, for an error.
func (s *session) lastLines(ctx context.Context, id string) string {
	logs, err := s.engine.Logs(context.WithoutCancel(ctx), id, 5)
	if err != nil || len(logs) == 0 {
		return ""
	}
	return "; it says:\n" + audit.Printable(string(logs))
}
