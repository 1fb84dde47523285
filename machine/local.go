package machine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/tunnel"
)

// waitTime is for a cancelled script to end by itself, and for what an ended one
// left running to close its output.
const waitTime = 5 * time.Second

// runHere runs a script on this machine.
func (m *Machine) runHere(ctx context.Context, fail func(error), script string, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	cmd := exec.CommandContext(ctx, "/bin/sh", append([]string{"-c", script, "sallyport"}, args...)...)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.Env, cmd.Dir = m.local.environ(), "/"
	if st, err := os.Stat(m.local.Home); err == nil && st.IsDir() {
		cmd.Dir = m.local.Home
	}
	cred, err := m.local.credential()
	if err != nil {
		return err
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: cred}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGTERM) }
	cmd.WaitDelay = waitTime
	var in io.WriteCloser
	if stdin != nil {
		if in, err = cmd.StdinPipe(); err != nil {
			return fmt.Errorf("run a command on %s: %w", m, err)
		}
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("run a command on %s: %w", m, err)
	}
	if stdin != nil {
		go feed(in, stdin, fail) // ends with the Read that is under way when the script ends
	}
	return m.waitHere(ctx, cmd)
}

func (m *Machine) waitHere(ctx context.Context, cmd *exec.Cmd) error {
	err := cmd.Wait()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, exec.ErrWaitDelay):
		return fmt.Errorf("run a command on %s: it left something running that keeps its output open", m)
	case errors.As(err, &exit):
		status := exit.Sys().(syscall.WaitStatus)
		e := &tunnel.ExitError{Code: status.ExitStatus()}
		if status.Signaled() {
			e.Signal = strings.TrimPrefix(unix.SignalName(status.Signal()), "SIG")
		}
		return e
	}
	return fmt.Errorf("run a command on %s: %w", m, err)
}

// feed sends stdin to a script. Input that cannot be read ends the script: it
// must not look complete. A script that reads no more says why by its status.
func feed(to io.WriteCloser, stdin io.Reader, fail func(error)) {
	buf := make([]byte, 32<<10)
	for {
		n, err := stdin.Read(buf)
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err == io.EOF {
			to.Close()
			return
		}
		if err != nil {
			fail(fmt.Errorf("read its input: %w", err))
			return
		}
	}
}

func (o *LocalOptions) environ() []string {
	env := slices.DeleteFunc(slices.Clone(o.Environ), func(v string) bool { return strings.HasPrefix(v, "HOME=") })
	return append(env, "HOME="+o.Home)
}

// credential is who scripts run as; nil: the caller.
func (o *LocalOptions) credential() (*syscall.Credential, error) {
	if o.UID == os.Geteuid() {
		return nil, nil
	}
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("run a command as user %d: only root may, and this is user %d", o.UID, os.Geteuid())
	}
	if o.UID < 0 || o.GID < 0 {
		return nil, fmt.Errorf("run a command as user %d, group %d: there is no such", o.UID, o.GID)
	}
	c := &syscall.Credential{Uid: uint32(o.UID), Gid: uint32(o.GID)}
	u, err := user.LookupId(strconv.Itoa(o.UID))
	if err != nil {
		return c, nil // a user without an entry has no further groups
	}
	groups, err := u.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("find the groups of user %d: %w", o.UID, err)
	}
	for _, g := range groups {
		if n, err := strconv.ParseUint(g, 10, 32); err == nil {
			c.Groups = append(c.Groups, uint32(n))
		}
	}
	return c, nil
}
