package runner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// readyFD is where a runner that Detach started tells how that went.
const readyFD = 3

// maxTail is how much of the runner's log is told, in bytes.
const maxTail = 4 << 10

// Detach starts this program again with args, as a runner in a session of its own
// that outlives the login which started it, and returns once its server's process
// runs or it has failed: with its exit code in an *ExitError. dir is the server's
// folder; the runner's own log is in there. args must lead to a Run whose
// Options.Started calls Detached.
func Detach(ctx context.Context, dir string, args, env []string) error {
	unix.Umask(0o077)
	f, err := openFolder(dir)
	if err != nil {
		return err
	}
	log, err := os.OpenFile(f.path(RunnerLog), os.O_WRONLY|os.O_CREATE|os.O_APPEND|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err == nil {
		log, err = regular(log)
	}
	if err != nil {
		return fmt.Errorf("open the runner's log: %w", err)
	}
	defer log.Close()
	if err := shorten(log); err != nil {
		return err
	}
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer read.Close()
	defer write.Close()
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Args[0], cmd.Env = os.Args[0], env
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = log, log, []*os.File{write}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the runner: %w", err)
	}
	_ = write.Close()
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(unix.SIGTERM) })
	defer stop()
	word, err := io.ReadAll(io.LimitReader(read, maxTail))
	var said outcome
	if err == nil && len(word) > 0 {
		err = json.Unmarshal(word, &said)
	}
	if err == nil && said.Started {
		return cmd.Process.Release()
	}
	return detachError(cmd.Wait(), said.Error, err)
}

// outcome is what a detached runner says once.
type outcome struct {
	Started bool   `json:"started,omitempty"`
	Error   string `json:"error,omitempty"`
}

// detachError is the error of a runner that ended before its server ran.
func detachError(ended error, said string, err error) error {
	if said == "" {
		said = "the runner ended without a word; see " + RunnerLog + " in the server's folder"
	}
	code := 1
	if exit := new(exec.ExitError); errors.As(ended, &exit) && exit.ExitCode() > 0 {
		code = exit.ExitCode()
	}
	return &ExitError{code, errors.Join(errors.New(printable(said)), err)}
}

// Detached tells the Detach that started us that the server's process runs (nil),
// or why it does not. The first call counts.
func Detached(err error) {
	said := outcome{Started: err == nil}
	if err != nil {
		said.Error = printable(err.Error())
	}
	pipe := os.NewFile(readyFD, "ready")
	if data, err := json.Marshal(said); err == nil {
		_, _ = pipe.Write(data) // the login may be gone
	}
	_ = pipe.Close()
}

// shorten empties the runner's log when it has got long.
func shorten(log *os.File) error {
	info, err := log.Stat()
	if err == nil && info.Size() > maxLog {
		err = log.Truncate(0)
	}
	if err != nil {
		return fmt.Errorf("shorten the runner's log: %w", err)
	}
	return nil
}

// LoginEnv returns what a server that runs as a process gets of its login's
// environment, with more on top: where programs and their libraries are, and
// nothing else: tokens, agents and proxies are not its business.
func LoginEnv(login, more []string) []string {
	var env []string
	for _, v := range login {
		if name, _, _ := strings.Cut(v, "="); name == "PATH" || name == "LD_LIBRARY_PATH" {
			env = append(env, v)
		}
	}
	return append(env, more...)
}
