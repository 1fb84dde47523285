package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Cmd is an exec.Cmd whose process runs on a host. Its fields may be set as
// those of any exec.Cmd until it is started; Path and Dir are the host's paths.
// Pid and signals are the test process's, but the program sees the host's pids.
type Cmd struct {
	*exec.Cmd

	host *Host
	wait sync.Once
	err  error
}

// lingering is how long Wait waits for output pipes that a program's own
// background children still hold.
const lingering = 10 * time.Second

// Command is a command of the user: their uid, groups, home and PATH. A name
// without a slash is looked up in the host, in the PATH of the command's Env.
// The command ends when ctx does.
func (h *Host) Command(ctx context.Context, name string, args ...string) *Cmd {
	c := h.command(ctx, name, args)
	c.Dir = h.user.home
	c.Env = h.Env()
	c.SysProcAttr.Credential = &syscall.Credential{Uid: UserID, Gid: UserID, Groups: h.user.groups}
	return c
}

// CommandRoot is Command as root, with root's PATH.
func (h *Host) CommandRoot(ctx context.Context, name string, args ...string) *Cmd {
	c := h.command(ctx, name, args)
	c.Dir = "/"
	c.Env = []string{
		"HOME=/root", "USER=root", "LOGNAME=root", "LANG=C.UTF-8", "TERM=xterm-256color",
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	}
	return c
}

func (h *Host) command(ctx context.Context, name string, args []string) *Cmd {
	c := exec.CommandContext(ctx, "/", args...)
	c.Path, c.Args[0], c.Err = "", name, nil
	c.WaitDelay = lingering
	// No Pdeathsig: the host's first process is the leash, and Go's child would see
	// a parent of another process namespace as a dead one.
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return &Cmd{Cmd: c, host: h}
}

// Env is the user's environment: nothing of the test process's is in it.
func (h *Host) Env() []string {
	return []string{
		"HOME=" + h.user.home,
		"USER=" + UserName,
		"LOGNAME=" + UserName,
		"SHELL=/bin/bash",
		"LANG=C.UTF-8",
		"TERM=xterm-256color",
		"XDG_RUNTIME_DIR=" + runtimeDir,
		"PATH=" + binDir + ":/usr/local/bin:/usr/bin:/bin",
	}
}

// Start starts the command on its host.
func (c *Cmd) Start() error {
	c.host.mu.Lock()
	defer c.host.mu.Unlock()
	if c.host.closed {
		return errEnded
	}
	err := c.host.Do(func() error {
		if c.Path == "" {
			path, err := lookPath(c.Args[0], c.Env)
			if err != nil {
				return err
			}
			c.Path = path
		}
		return c.Cmd.Start()
	})
	if err != nil {
		return fmt.Errorf("lab: start %s on %s: %w", c.Args[0], c.host.Name, err)
	}
	c.host.cmds[c] = struct{}{}
	return nil
}

// Wait waits for the command's end, as exec.Cmd's does, but may be called from
// several places.
func (c *Cmd) Wait() error {
	c.wait.Do(func() {
		c.err = c.Cmd.Wait()
		c.host.mu.Lock()
		delete(c.host.cmds, c)
		c.host.mu.Unlock()
	})
	return c.err
}

// Run starts the command and waits for it.
func (c *Cmd) Run() error {
	if err := c.Start(); err != nil {
		return err
	}
	return c.Wait()
}

// Output runs the command and returns its standard output. The error holds its
// standard error.
func (c *Cmd) Output() ([]byte, error) {
	var out, complaint bytes.Buffer
	c.Stdout, c.Stderr = &out, &complaint
	if err := c.Run(); err != nil {
		return out.Bytes(), fmt.Errorf("%s on %s: %w: %s", strings.Join(c.Args, " "), c.host.Name, err,
			bytes.TrimSpace(complaint.Bytes()))
	}
	return out.Bytes(), nil
}

// CombinedOutput runs the command and returns both its outputs.
func (c *Cmd) CombinedOutput() ([]byte, error) {
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	err := c.Run()
	return out.Bytes(), err
}

// lookPath finds a program in the PATH of env. It runs on the host's thread.
func lookPath(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	var path string
	for _, v := range env {
		if value, ok := strings.CutPrefix(v, "PATH="); ok {
			path = value
		}
	}
	for _, dir := range filepath.SplitList(path) {
		at := filepath.Join(dir, name)
		if unix.Access(at, unix.X_OK) == nil {
			return at, nil
		}
	}
	return "", errors.Join(exec.ErrNotFound, fmt.Errorf("%s in PATH %s", name, path))
}

// WithPath returns env with another PATH.
func WithPath(env []string, path string) []string {
	out := make([]string, 0, len(env)+1)
	for _, v := range env {
		if !strings.HasPrefix(v, "PATH=") {
			out = append(out, v)
		}
	}
	return append(out, "PATH="+path)
}
