package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"syscall"
	"time"

	"github.com/sallyport/sallyport/models/runner"
	"golang.org/x/sys/unix"
)

// insideNetns runs this program again in namespaces of its own, where the weights'
// folder alone is writable and proxy the only socket, and waits for it. It dies
// with us, and ends when ctx does.
func insideNetns(ctx context.Context, p process, proxy string) error {
	in := bufio.NewReader(p.stdin)
	token, job, err := readRequest(in)
	if err != nil {
		return usage(err)
	}
	line, err := json.Marshal(job)
	if err != nil {
		return err
	}
	read := slices.Concat(token, []byte("\n"), line, []byte("\n"))
	files, err := json.Marshal(runner.Files{Write: []string{job.Dir}, Read: []string{proxy}, Hide: hiddenFolders(p, "")})
	if err != nil {
		return err
	}
	// The kernel sends Pdeathsig when the thread ends that started the child.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	c := exec.CommandContext(ctx, "/proc/self/exe", append(p.args, "--inside", string(files))...)
	c.Args[0], c.Env = "gateway", p.environ()
	c.Stdout, c.Stderr = p.stdout, p.stderr
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
	c.WaitDelay = 10 * time.Second
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	runner.NewNamespaces(c.SysProcAttr)
	stdin, err := c.StdinPipe()
	if err != nil {
		return err
	}
	if err = c.Start(); err == nil {
		go func() { // not waited for: our stdin may go on for ever
			_, _ = io.Copy(stdin, io.MultiReader(bytes.NewReader(read), in))
			_ = stdin.Close()
		}()
		err = c.Wait()
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() > 0 {
		return &exitError{code: exit.ExitCode()}
	}
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EACCES) {
		return fmt.Errorf("make a namespace without a network: %w; hint: this machine forbids unprivileged user namespaces: allow them (sysctl kernel.unprivileged_userns_clone, user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns), or use Docker or Podman there", err)
	}
	if err != nil {
		return fmt.Errorf("run the downloader in a namespace: %w", err)
	}
	return nil
}

// closeNetns makes the namespaces what they must be and becomes itself again
// without any capability; the second time it asserts that no way leads out, and
// returns.
func closeNetns(p process, o fetchOptions) error {
	var files runner.Files
	if err := json.Unmarshal([]byte(o.inside), &files); err != nil {
		return usage(fmt.Errorf("--inside: %w", err))
	}
	if o.closed {
		return runner.AssertNamespaces(files)
	}
	return runnerError(runner.EnterNamespaces(files, append(os.Args[:len(os.Args):len(os.Args)], "--closed"), p.environ()))
}
