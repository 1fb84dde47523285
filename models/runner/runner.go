// Package runner is the parent of one model server: it holds the lock that says
// the server runs, writes down how it came and went, relays connections to the
// server's unix socket, and ends it when told to or after idle time. Where no
// container engine does, it starts the server in a user and network namespace of
// its own. It knows nothing of models or machines: what to run is handed in.
package runner

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Exit codes besides the server's own (128 and the signal, where one ended it).
const (
	CodeHeld        = 75  // EX_TEMPFAIL: another runner has the folder
	CodeForbidden   = 78  // EX_CONFIG: this machine does not let us make the namespace
	CodeNotRunnable = 126 // as in a shell
	CodeNotFound    = 127
)

// Why a server ended.
const (
	WhyAsked = "asked" // the runner was told to end
	WhyIdle  = "idle"  // nobody used it for Options.IdleStop
	WhyEnded = "ended" // by itself
	WhyLost  = "lost"  // the runner went without a word: killed, or the machine went down
)

// defaultGrace is how long a server has between SIGTERM and SIGKILL.
const defaultGrace = 20 * time.Second

// Options say what to run. Folder, Argv and Log are required.
type Options struct {
	Folder   string        // holds the lock, the state and the sockets; private to the caller
	Argv     []string      // the server
	Env      []string      // its environment, whole; nil: empty
	By       string        // who started it, to tell others
	Launch   string        // what the caller calls the way it is started, for State
	IdleStop time.Duration // end it after so long without work; zero: never
	Grace    time.Duration // between SIGTERM and SIGKILL; zero: 20 s

	// NetNS has the server run in a user and network namespace of its own with
	// nothing but lo, and keeps its log. Otherwise somebody else (an engine) must
	// have seen to both, and the server writes to Stdout and Stderr.
	NetNS bool
	// Inside are the arguments with which this program, started again, calls
	// Inside. Required with NetNS; a stage and the server's command line are added.
	Inside []string
	// With NetNS the server finds the login's files read-only but for Folder, and
	// /tmp, /var/tmp and /dev/shm fresh. Hide are folders that it finds empty,
	// besides /run. Read are files and folders that it finds even in those, as it
	// does its program; they must exist.
	Hide, Read []string

	Stdout, Stderr *os.File // of the server, without NetNS; nil: /dev/null

	Log     *slog.Logger // the runner's own
	Started func()       // is called once when the server's process runs; nil: nobody is told
}

// ExitError is an end that calls for an exit code.
type ExitError struct {
	Code int
	Err  error
}

func (e *ExitError) Error() string { return e.Err.Error() }

func (e *ExitError) Unwrap() error { return e.Err }

// run is one life of a server.
type run struct {
	Options
	folder   folder
	lock     *os.File
	state    State
	activity *activity
}

// Run runs the server until it ends, ctx ends, or nobody has used it for
// IdleStop. It returns nil if the server exited with 0, an *ExitError with its
// code otherwise, and one with CodeHeld, saying who, if the folder is taken. It
// changes the process's umask, and reaps every child of the process: a program
// calls it once and does nothing besides.
func Run(ctx context.Context, o Options) error {
	if o.Log == nil || o.Folder == "" || len(o.Argv) == 0 || o.NetNS && len(o.Inside) == 0 {
		return errors.New("runner: Options lacks Log, Folder, Argv or Inside")
	}
	if o.Grace == 0 {
		o.Grace = defaultGrace
	}
	unix.Umask(0o077)
	if err := keepFiles(); err != nil {
		return err
	}
	f, err := openFolder(o.Folder)
	if err != nil {
		return err
	}
	lock, err := f.take(ctx)
	if err != nil {
		return err
	}
	defer lock.Close()
	r := &run{Options: o, folder: f, lock: lock, activity: &activity{}}
	r.state, err = newState(o)
	if err != nil {
		return err
	}
	err = errors.Join(f.writeState(r.state), f.removeSockets())
	if err == nil {
		err = r.serve(ctx)
	}
	return r.end(err)
}

// newState is the state of a server that is about to start.
func newState(o Options) (State, error) {
	started, err := startTime(os.Getpid())
	if err != nil {
		return State{}, fmt.Errorf("find our own start: %w", err)
	}
	sum := sha256.Sum256([]byte(strings.Join(o.Argv, "\x00")))
	return State{Version: stateVersion, PID: os.Getpid(), StartTime: started, By: printable(o.By), Argv: hex.EncodeToString(sum[:]),
		Started: time.Now().UTC(), Phase: PhaseStarting, Launch: o.Launch, IdleStop: o.IdleStop.String(), oomKills: oomKills()}, nil
}

// serve relays while the server's process lives.
func (r *run) serve(ctx context.Context) (err error) {
	l, err := r.folder.listen()
	if err != nil {
		return err
	}
	relayed := make(chan error, 1)
	relayCtx, stopRelay := context.WithCancel(context.WithoutCancel(ctx))
	rl := &relay{target: r.folder.path(serverSocket), activity: r.activity, log: r.Log}
	go func() { relayed <- rl.serve(relayCtx, l) }()
	defer func() {
		stopRelay()
		err = errors.Join(err, <-relayed)
	}()
	out, err := r.output()
	if err != nil {
		return err
	}
	defer out.close(r.Log)
	c, err := r.start(out)
	out.handOver()
	if err != nil {
		return err
	}
	r.state.Phase, r.state.ServerPID = PhaseRunning, cmp.Or(c.server, c.pid)
	r.Log.Info("the server's process runs", "pid", r.state.ServerPID, "folder", r.Folder)
	if err = r.folder.writeState(r.state); err == nil && r.Started != nil {
		r.Started()
	}
	if err != nil { // nobody could be told of it: it may not run
		c.signal(unix.SIGKILL)
	}
	r.await(ctx, c)
	return err
}

// start starts the server, here or in a namespace of its own.
func (r *run) start(out *output) (*child, error) {
	path, err := exec.LookPath(r.Argv[0])
	if err != nil {
		return nil, &ExitError{CodeNotFound, fmt.Errorf("find the model server %s: %w; hint: is it installed, and is PATH as it should be?", printable(r.Argv[0]), err)}
	}
	if r.NetNS {
		return r.startInside(path, out)
	}
	c, err := startChild(spawn{path: path, argv: r.Argv, env: r.Env, out: out.stdout, err: out.stderr, mortal: true})
	if err != nil {
		return nil, &ExitError{CodeNotRunnable, fmt.Errorf("start the model server %s: %w", printable(path), err)}
	}
	return c, nil
}

// await returns when the server and all that it started have ended.
func (r *run) await(ctx context.Context, c *child) {
	idle := make(chan struct{})
	idleCtx, stopIdle := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if r.IdleStop > 0 && r.activity.waitIdle(idleCtx, r.IdleStop, r.ready) {
			close(idle)
		}
	}()
	why := WhyEnded
	select {
	case <-c.ended:
	case <-ctx.Done():
		why = WhyAsked
	case <-idle:
		why = WhyIdle
	}
	stopIdle()
	<-done
	if why != WhyEnded {
		r.Log.Info("ending the server", "why", why)
		c.stop(r.Grace)
	}
	c.killAll()
	status := c.status()
	r.state.Why, r.state.ExitCode, r.state.Signal = why, exitCode(status), 0
	if status.Signaled() {
		r.state.Signal = int(status.Signal())
	}
	r.state.OOM = why == WhyEnded && status.Signaled() && status.Signal() == unix.SIGKILL && oomKills() > r.state.oomKills
}

// end writes down how it came out; err is what kept the server from running.
func (r *run) end(err error) error {
	r.state.Phase, r.state.Ended, r.state.ServerPID = PhaseExited, time.Now().UTC(), 0
	if err != nil && r.state.Why == "" {
		code := 1
		if exit := new(ExitError); errors.As(err, &exit) {
			code = exit.Code
		}
		r.state.Why, r.state.ExitCode, r.state.Error = WhyEnded, code, printable(err.Error())
	}
	err = errors.Join(err, r.folder.removeSockets(), r.folder.writeState(r.state))
	if err == nil && r.state.ExitCode != 0 {
		return &ExitError{r.state.ExitCode, fmt.Errorf("the model server ended with %s (%s)", r.state.outcome(), r.state.Why)}
	}
	return err
}

// path returns the path of a file in the folder.
func (f folder) path(name string) string { return filepath.Join(f.dir, name) }
