package server

import (
	"context"
	"fmt"
	"time"
)

// State is how a server is, for people and scripts.
type State string

// The states. The zero State is no state: nobody knows.
const (
	Absent   State = "absent"   // it was never started, or its traces are removed
	Pulling  State = "pulling"  // its weights or its image are being fetched
	Starting State = "starting" // it runs and does not answer yet
	Ready    State = "ready"    // /health says so
	Failed   State = "failed"   // it ended and should not have
	Stopped  State = "stopped"  // it was ended, or ended by itself after idle time
)

// Status is a server at one moment. Its texts are printable.
type Status struct {
	State      State
	Since      time.Time // of the state, by the machine's clock; zero: unknown
	Stage      string    // while it starts: a Stage constant
	Percent    int       // of the stage; -1: unknown
	By         string    // who started it; empty: unknown
	Detail     string    // how far it is, or why it ended; may be empty
	Version    string    // "vLLM 0.23.0"; empty: it does not say
	Models     []string  // the names that it answers to
	MaxContext int       // tokens; zero: it does not say
	Running    int       // requests; -1: it does not say
	Launch     string    // LaunchHash of what it runs with; empty: unknown
	Hint       string    // what to do about a failure; may be empty
}

// Status asks the runtime, the server and its log how the server is. What the
// server does not answer in time is left out. An error means that nobody knows.
func (s *Server) Status(ctx context.Context) (Status, error) {
	if err := s.check(); err != nil {
		return Status{}, err
	}
	st, err := s.Runtime.State(ctx)
	if err != nil {
		return Status{}, err
	}
	status := Status{Percent: -1, Running: -1, By: printable(st.By, maxName), Launch: st.Launch}
	switch st.Phase {
	case PhaseRunning:
		status.Since = st.Started
		why, err := s.refusal(ctx, st)
		if err != nil {
			return Status{}, err
		}
		if why != "" {
			status.State, status.Detail, status.Hint = Failed, why, s.hintRestart()
			return status, nil
		}
		s.alive(ctx, st, &status)
	case PhaseExited:
		status.Since = st.Ended
		s.over(ctx, st, &status)
	default:
		status.State = Absent
	}
	if st.Phase != PhaseRunning && s.Pulling != nil {
		if detail, pulling := s.Pulling(ctx); pulling {
			return Status{State: Pulling, Percent: -1, Running: -1, Detail: printable(detail, maxText)}, nil
		}
	}
	return status, nil
}

// alive fills in a server whose process runs.
func (s *Server) alive(ctx context.Context, st RuntimeState, status *Status) {
	h := s.health(ctx)
	if h == healthy {
		status.State, status.Percent = Ready, 100
		status.Version = s.version(ctx)
		status.Models, status.MaxContext = s.models(ctx)
		status.Running = s.running(ctx)
		return
	}
	lines := s.lastLines(ctx)
	track := newTracker(st.Started, nil)
	for _, line := range lines {
		track.line(line, st.Started)
	}
	p := track.progress(st.Started)
	status.State, status.Stage, status.Percent, status.Detail = Starting, p.Stage, p.Percent, p.Text
	// vLLM's API may outlive its engine for a while, or hang: /health is 503 then.
	if d := Diagnose(s.Name, lines, st); h == loading && d.Cause == CauseEngine {
		status.State, status.Stage, status.Percent = Failed, "", -1
		status.Detail, status.Hint = d.Text, s.hintRestart()
	}
}

// hintRestart says how to start it anew.
func (s *Server) hintRestart() string {
	return fmt.Sprintf("`launcher stop %s`, then `launcher serve %[1]s`", s.Name)
}

// over fills in a server that has ended.
func (s *Server) over(ctx context.Context, st RuntimeState, status *Status) {
	switch st.Why {
	case WhyIdle:
		status.State, status.Detail = Stopped, "idle"
		if st.IdleStop > 0 {
			status.Detail = "idle for " + short(st.IdleStop)
		}
		return
	case WhyAsked:
		status.State, status.Detail = Stopped, "by command"
		return
	}
	d := Diagnose(s.Name, s.lastLines(ctx), st)
	status.State, status.Detail, status.Hint = Failed, how(st), d.Hint
	if d.Text != "" {
		status.Detail = d.Text
	}
}

// short writes a duration without its zero parts: 30m, not 30m0s.
func short(d time.Duration) string {
	switch {
	case d >= time.Hour && d%time.Hour == 0:
		return fmt.Sprintf("%dh", d/time.Hour)
	case d >= time.Minute && d%time.Minute == 0:
		return fmt.Sprintf("%dm", d/time.Minute)
	}
	return d.String()
}
