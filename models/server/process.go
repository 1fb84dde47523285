package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/machine"
	"github.com/sallyport/sallyport/models"
)

// Exit codes of the runner, as package models/runner says them.
const (
	runnerHeld      = 75
	runnerForbidden = 78
)

// ProcessRuntime runs a server as a process of the login, in namespaces without a
// network, under our own runner. What is asked of a server that runs, its runner
// or another of our binaries there answers: a host needs no more than sh.
type ProcessRuntime struct {
	machine *machine.Machine
	name    string
	folder  string // the server's own, on the machine
	binary  string // our gateway there
}

// NewProcessRuntime returns the runtime of the server whose folder on m is
// folder. binary is our gateway there, in a folder with its other versions.
func NewProcessRuntime(m *machine.Machine, folder, binary string) *ProcessRuntime {
	return &ProcessRuntime{machine: m, name: path.Base(folder), folder: folder, binary: binary}
}

var _ Runtime = (*ProcessRuntime)(nil)

func (r *ProcessRuntime) String() string { return "process on " + r.machine.String() }

// ForbiddenError says that a machine lets no process have a namespace without a
// network, and why.
type ForbiddenError struct {
	Server, Machine string
	Reason          string // with its remedy
}

func (e *ForbiddenError) Error() string {
	return fmt.Sprintf("start model server %s on %s: %s", e.Server, e.Machine, e.Reason)
}

// startScript makes the server's folder and lets our runner take over. What is
// started leaves this session by itself.
const startScript = `umask 077
mkdir -p -- "$1/home" && chmod 700 -- "$1" && cd -- "$2" || exit 1
shift 2
exec "$@"`

// Start returns when the server's process runs. It outlives the login.
func (r *ProcessRuntime) Start(ctx context.Context, l models.Launch) error {
	if l.Container || len(l.Argv) == 0 || len(l.Runner) < 3 || l.Runner[0] != r.binary || path.Dir(l.Socket) != r.folder || l.Placeholder {
		return fmt.Errorf("start model server %s: this command is not one for a process", r.name)
	}
	// Not on the command line, which all users of the machine can read.
	env, err := json.Marshal(append([]string{}, l.Env...))
	if err != nil {
		return fmt.Errorf("start model server %s: %w", r.name, err)
	}
	args := []string{r.folder, workDir(l, r.folder)}
	args = append(args, l.Runner[:2]...)
	args = append(args, "--detach", "--launch", LaunchHash(l))
	args = append(append(args, l.Runner[2:]...), l.Argv...)
	_, err = r.machine.Sh(ctx, startScript, bytes.NewReader(env), args...)
	var failed *machine.ShError
	if !errors.As(err, &failed) {
		return r.wrap("start", err)
	}
	switch failed.Code {
	case runnerHeld:
		return r.running(ctx, l)
	case runnerForbidden:
		return &ForbiddenError{Server: r.name, Machine: r.machine.String(), Reason: runnerWords(failed)}
	}
	return fmt.Errorf("start model server %s on %s: %s", r.name, r.machine, runnerWords(failed))
}

// workDir is where the server starts: it must be in its folder, which is made.
func workDir(l models.Launch, folder string) string {
	if l.WorkDir == "" {
		return folder
	}
	return l.WorkDir
}

// running is the error that says who has the server.
func (r *ProcessRuntime) running(ctx context.Context, l models.Launch) error {
	e := &RunningError{Server: r.name, Machine: r.machine.String()}
	st, err := r.State(ctx)
	if err == nil {
		e.By, e.Since, e.Other = st.By, st.Started, st.Launch != LaunchHash(l)
	}
	return e
}

// runnerWords is what our binary said last.
func runnerWords(e *machine.ShError) string {
	lines := strings.Split(strings.TrimSpace(e.Stderr), "\n")
	if i := slices.IndexFunc(lines, func(line string) bool { return strings.HasPrefix(line, "gateway: ") }); i >= 0 {
		lines = lines[i:]
		lines[0] = strings.TrimPrefix(lines[0], "gateway: ")
	}
	for i := range lines {
		lines[i] = printable(lines[i], 4*maxText)
	}
	if text := strings.Join(lines, "\n"); text != "" {
		return text
	}
	return e.Error()
}

// wrap says what was done to which server where.
func (r *ProcessRuntime) wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s model server %s on %s: %w", what, r.name, r.machine, err)
}
