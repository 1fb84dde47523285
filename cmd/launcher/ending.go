package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sallyport/sallyport/containers"
)

const (
	engineWait  = 60 * time.Second // for an engine that restarts
	codeKilled  = 128 + 9          // exit code after SIGKILL
	codeEnded   = 128 + 15         // exit code after SIGTERM
	engineQuiet = 3 * time.Second  // before the user is told that it is waited for
)

// ending is what became of an agent.
type ending struct {
	code int
	oom  bool
	away bool // the engine did not answer for a while
}

var (
	errStillRunning = errors.New("the agent still runs")
	errEngineGone   = errors.New("the Docker engine was stopped, and did not come back")
)

// ending asks the engine, which may be restarting, what became of the agent.
// While it is away, Ctrl-C ends the wait.
func (r *agentRun) ending(ctx context.Context) (e ending, err error) {
	wait, cancel := context.WithTimeout(context.WithoutCancel(ctx), engineWait)
	defer cancel()
	quiet, chunks := time.After(engineQuiet), r.input.chunks
	for {
		state, err := r.engine.State(wait, r.container)
		switch {
		case err == nil && state.Running:
			// The streams have ended a moment before the process, or without it.
			short, cancel := context.WithTimeout(wait, time.Second)
			e.code, e.oom, err = r.engine.Wait(short, r.container)
			cancel()
			if err == nil {
				return e, nil
			}
			if r.engine.Ping(wait) == nil {
				return e, errStillRunning
			}
		case err == nil:
			e.code, e.oom = state.ExitCode, state.OOMKilled
			return e, nil
		case errors.Is(err, containers.ErrNoContainer):
			return e, err
		}
		e.away = true
		select {
		case <-time.After(100 * time.Millisecond): // an engine that is away announces nothing
		case <-quiet:
			fmt.Fprintf(r.options.stderr, "\r\nlauncher: the Docker engine does not answer; waiting for it (Ctrl-C ends that)\r\n")
		case chunk, ok := <-chunks:
			if !ok {
				chunks = nil
			}
			if bytes.IndexByte(chunk, 3) >= 0 { // Ctrl-C, which raw mode makes a byte
				return e, errEngineGone
			}
			r.input.keep(chunk)
		case <-ctx.Done():
			return e, errEngineGone
		case <-wait.Done():
			return e, errEngineGone
		}
	}
}

// explain says why an agent ended that did not end by itself.
func (r *agentRun) explain(ctx context.Context, e ending, why string, err error) (int, error) {
	switch {
	case errors.Is(err, containers.ErrNoContainer):
		why = "the agent was ended and removed by somebody else (launcher stop?)"
	case err != nil:
		why = err.Error()
	case why != "":
		if e.away || r.engineStops(ctx) {
			why = whyEngineStopped
		}
	case ctx.Err() != nil:
		return max(e.code, exitInterrupted), nil
	case e.oom:
		why = fmt.Sprintf("the agent was ended: its memory limit (agent.memory, %d MB) was reached", int64(r.config.Agent.Memory)>>20)
	case e.away || (e.code == codeKilled || e.code == codeEnded) && r.killer == nil && r.engineStops(ctx):
		why = whyEngineStopped
	case e.code == codeKilled && r.killer == nil:
		why = "the agent was killed: by launcher stop, by docker kill, or by itself"
	default:
		return e.code, nil
	}
	r.engineAway = why == whyEngineStopped
	if command := r.continueCommand(); command != "" {
		why += "\nhint: continue with: " + command
	}
	if e.code == 0 {
		e.code = exitFailed
	}
	return 0, &exitError{e.code, errors.New(why)}
}

const whyEngineStopped = "the Docker engine was stopped, and the agent with it (live-restore would have kept it)"

// engineStops reports whether the engine goes away now: it ends its containers,
// the holder among them, some moments before it stops answering.
func (r *agentRun) engineStops(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, engineQuiet)
	defer cancel()
	for {
		if err := r.engine.Ping(ctx); ctx.Err() == nil && err != nil {
			return true
		}
		select {
		case <-time.After(50 * time.Millisecond): // an engine that ends announces nothing
		case <-ctx.Done():
			return false
		}
	}
}

// continueCommand is what the user types to go on where the agent ended.
func (r *agentRun) continueCommand() string {
	if r.profile.Continue == nil {
		return ""
	}
	return fmt.Sprintf("launcher %s %s -- %s", r.request.agent, r.request.model, strings.Join(r.profile.Continue, " "))
}
