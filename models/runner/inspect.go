package runner

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"golang.org/x/sys/unix"
)

// killGrace is how long Stop waits after it has killed a runner: what is left is
// the kernel's work (a process that waits for its GPU, say).
const killGrace = 30 * time.Second

// Status is what can be known of a folder's server from outside.
type Status struct {
	State
	Held bool `json:"held"` // a runner lives, or what it started is being ended
}

// Inspect says what became of a folder's server. No server ever: the zero Status.
func Inspect(dir string) (Status, error) {
	f := folder{dir}
	held, err := f.isHeld()
	if err != nil {
		return Status{}, err
	}
	s, err := f.readState()
	if errors.Is(err, fs.ErrNotExist) {
		return Status{Held: held}, nil
	}
	if err != nil {
		return Status{}, err
	}
	if !held && s.Phase != PhaseExited {
		// It may have ended between the two looks.
		if s, err = f.readState(); err != nil {
			return Status{}, err
		}
	}
	if !held && s.Phase != PhaseExited {
		s.Phase, s.ExitCode, s.Why = PhaseExited, -1, WhyLost
	}
	return Status{State: s, Held: held}, nil
}

// isHeld reports whether a runner has the lock.
func (f folder) isHeld() (bool, error) {
	lock, err := f.open(lockFile)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("open the server's lock: %w", err)
	}
	defer lock.Close()
	err = flock(lock, unix.LOCK_SH|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return true, nil
	}
	if err != nil {
		return false, f.lockError(err)
	}
	return false, nil
}

// Stop has the folder's runner end its server, kills it after grace, and returns
// when the lock is free. None that runs is no error.
func Stop(ctx context.Context, dir string, grace time.Duration) (Status, error) {
	s, err := Inspect(dir)
	if err != nil || !s.Held {
		return s, err
	}
	f := folder{dir}
	for _, step := range []struct {
		signal unix.Signal
		wait   time.Duration
	}{{unix.SIGTERM, grace}, {unix.SIGKILL, killGrace}} {
		if err := s.signal(step.signal); err != nil {
			return s, err
		}
		free, err := f.waitFree(ctx, step.wait)
		if err != nil {
			return s, err
		}
		if free {
			return Inspect(dir)
		}
	}
	return s, fmt.Errorf("the model server in %s (pid %d) was killed %v ago and has not ended\nhint: a process that waits for its GPU's driver cannot be killed; look at it with ps and dmesg",
		printable(dir), s.ServerPID, killGrace)
}

// signal sends a signal to the runner, never to another process that has got its
// pid since. A runner that is gone is no error.
func (s Status) signal(sig unix.Signal) error {
	if s.PID <= 0 { // it has written nothing yet
		return nil
	}
	fd, err := unix.PidfdOpen(s.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find the runner, pid %d: %w", s.PID, err)
	}
	defer unix.Close(fd)
	// The descriptor is of one process for ever; is it the one?
	started, err := startTime(s.PID)
	if errors.Is(err, fs.ErrNotExist) || err == nil && started != s.StartTime {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find the runner, pid %d: %w", s.PID, err)
	}
	if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("send %s to the runner, pid %d: %w", unix.SignalName(sig), s.PID, err)
	}
	return nil
}

// waitFree waits until nobody has the lock.
func (f folder) waitFree(ctx context.Context, most time.Duration) (bool, error) {
	deadline := time.NewTimer(most)
	defer deadline.Stop()
	tick := time.NewTicker(takePause)
	defer tick.Stop()
	for {
		held, err := f.isHeld()
		if err != nil || !held {
			return !held, err
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			return false, nil
		case <-ctx.Done():
			return false, fmt.Errorf("wait for the model server's end: %w", ctx.Err())
		}
	}
}
