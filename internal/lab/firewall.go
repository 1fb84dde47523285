package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// firewalldStart bounds the start of the bus and of firewalld, and its end.
const firewalldStart = 60 * time.Second

// StartFirewalld starts Debian's firewalld on the laptop, with the system bus that
// it needs, and waits until firewall-cmd finds it running. The function that it
// returns ends it, which removes its rules.
func (l *Laptop) StartFirewalld(ctx context.Context) (stop func() error, err error) {
	if err := l.startBus(ctx); err != nil {
		return nil, err
	}
	log := filepath.Join(filepath.Dir(l.Home), "firewalld.log")
	f, err := os.OpenFile(log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	// The lab ends it, not the context of whoever started it.
	c := l.CommandRoot(context.WithoutCancel(ctx), "firewalld", "--nofork", "--nopid")
	c.Stdout, c.Stderr = f, f
	if err := c.Start(); err != nil {
		return nil, err
	}
	stop = func() error {
		slow := time.AfterFunc(firewalldStart, func() { _ = c.Process.Kill() })
		defer slow.Stop()
		if err := c.Process.Signal(unix.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
		if err := c.Wait(); err != nil {
			return fmt.Errorf("lab: firewalld's end: %w; the end of its log:\n%s", err, tail(log))
		}
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, firewalldStart)
	defer cancel()
	running := func() error {
		_, err := l.CommandRoot(ctx, "firewall-cmd", "--state").Output()
		return err
	}
	if err := until(ctx, running); err != nil {
		return nil, errors.Join(fmt.Errorf("lab: firewalld did not start: %w; the end of its log:\n%s", err, tail(log)), c.Process.Kill())
	}
	return stop, nil
}

// startBus starts the system bus, unless it runs.
func (l *Laptop) startBus(ctx context.Context) error {
	if _, err := os.Lstat(l.Outside("/run/dbus/system_bus_socket")); err == nil {
		return nil
	}
	if err := os.MkdirAll(l.Outside("/run/dbus"), 0o755); err != nil {
		return err
	}
	if _, err := l.CommandRoot(ctx, "dbus-daemon", "--system", "--fork", "--nopidfile").Output(); err != nil {
		return fmt.Errorf("lab: start the system bus: %w", err)
	}
	return nil
}
