// Package server runs model servers: it starts one on this machine or on a GPU
// host, in a container or as a process, tells from its log and its /health how
// far it is, says why it failed, and stops it. It stops at the server's socket:
// command lines are package models' business, weights package pull's, and what
// is asked of a model the gateway's.
package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/sallyport/sallyport/models"
)

// Runtime is what a server runs in: a container of an engine, or a process of
// its own. One Runtime is bound to one server name on one machine. Errors are
// for people: with the object, the cause and a hint.
type Runtime interface {
	// Start starts the server and returns once it has been started, long
	// before it is ready. It wraps ErrRunning where one of that name runs.
	Start(ctx context.Context, l models.Launch) error
	// Stop asks the server to end, kills it after grace, and returns when it
	// has ended. None that runs is no error.
	Stop(ctx context.Context, grace time.Duration) error
	// State says what became of the server. An error means that nobody knows,
	// as when the machine cannot be reached.
	State(ctx context.Context) (RuntimeState, error)
	// Logs returns the last lines that the server wrote, all of them with
	// lines < 0, and with follow what it writes until it ends or ctx does.
	// The caller closes it. Its bytes are the server's: never print them raw.
	Logs(ctx context.Context, follow bool, lines int) (io.ReadCloser, error)
	// String names the runtime for people: "docker on strix".
	String() string
}

// Phase is how far a server's process is, whatever it answers.
type Phase string

// The phases. The zero Phase is nothing known: it counts as absent.
const (
	PhaseAbsent  Phase = "absent"  // never started, or removed
	PhaseRunning Phase = "running" // its runner lives
	PhaseExited  Phase = "exited"
)

// RuntimeState is what a Runtime knows of its server.
type RuntimeState struct {
	Phase     Phase
	Started   time.Time // zero: never
	Ended     time.Time // zero: it runs, or nobody knows
	ExitCode  int       // once exited; 128+n for signal n; -1: unknown
	OOMKilled bool
	By        string // who started it: "me@laptop"
	Refused   string // why one that runs is not used, for people: it is not as we start them; empty: it is
	Why       string // why it ended, where the runner knows: WhyIdle, WhyAsked, or its words
	Launch    string // LaunchHash of what it was started with; empty: unknown
	IdleStop  time.Duration
}

// What RuntimeState.Why says of an end that was wanted.
const (
	WhyIdle  = "idle"
	WhyAsked = "asked"
)

// ErrRunning says that another server of the name runs or starts already.
var ErrRunning = errors.New("a server of that name is already running")

// RunningError is an ErrRunning with what is known of the one that runs.
type RunningError struct {
	Server  string
	Machine string // "this machine" or the host's name
	By      string // empty: unknown
	Since   time.Time
	Other   bool // it was started with other settings
}

func (e *RunningError) Error() string {
	text := fmt.Sprintf("model server %s runs already on %s", printable(e.Server, maxName), printable(e.Machine, maxName))
	if e.By != "" {
		text += ", started by " + printable(e.By, maxName)
	}
	if !e.Since.IsZero() {
		text += " at " + e.Since.Local().Format("2006-01-02 15:04")
	}
	if e.Other {
		text += fmt.Sprintf(", with other settings\nhint: `launcher stop %s` first, or use it as it is", printable(e.Server, maxName))
	}
	return text
}

// Is makes errors.Is(err, ErrRunning) true.
func (e *RunningError) Is(target error) bool { return target == ErrRunning }
