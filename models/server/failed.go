package server

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// maxShown is how many lines of a log an error shows.
const maxShown = 12

// FailedError says that a server ended before it was ready, or does not work any
// more.
type FailedError struct {
	Server  string
	Machine string   // for people
	How     string   // "ended with exit code 1 after 3 s"
	Last    []string // its last lines, printable, oldest first, maxShown at most
	Cause   Cause    // zero: unknown
	Why     string   // the cause for people; may be empty
	Line    string   // of the log, that tells the cause, where Last does not hold it
	Hint    string   // may be empty
}

func (e *FailedError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "model server %s on %s %s", e.Server, e.Machine, e.How)
	if e.Why != "" {
		fmt.Fprintf(&b, ": %s", e.Why)
	}
	if e.Line != "" {
		fmt.Fprintf(&b, "\n  %s\n  …", e.Line)
	}
	for _, line := range e.Last {
		fmt.Fprintf(&b, "\n  %s", line)
	}
	if len(e.Last) == 0 && e.Line == "" {
		b.WriteString("\n  (it wrote nothing)")
	}
	hint := e.Hint
	if hint == "" {
		hint = fmt.Sprintf("`launcher logs %s` has more", e.Server)
	}
	fmt.Fprintf(&b, "\nhint: %s", hint)
	return b.String()
}

// Is makes errors.Is(err, ErrRunning) true where another server had the folder.
func (e *FailedError) Is(target error) bool { return target == ErrRunning && e.Cause == CauseLocked }

// shown returns the last lines of a log as an error shows them.
func shown(lines []string) []string {
	var last []string
	for _, line := range lines[max(0, len(lines)-maxShown):] {
		last = append(last, printable(strings.ReplaceAll(line, "\t", "  "), maxText))
	}
	return last
}

// failed is the error for a server that has ended: its last lines, read anew,
// and what they tell.
func (s *Server) failed(ctx context.Context, st RuntimeState) error {
	lines := s.lastLines(ctx)
	e := &FailedError{Server: s.Name, Machine: s.place(), How: how(st), Last: shown(lines)}
	switch st.Why {
	case WhyAsked, WhyIdle:
		e.How = "was stopped (" + st.Why + ") before it was ready"
		e.Hint = fmt.Sprintf("`launcher serve %s` starts it again", s.Name)
		return e
	}
	d := Diagnose(s.Name, lines, st)
	e.Cause, e.Why, e.Hint = d.Cause, d.Text, d.Hint
	if !holds(e.Last, d.Line) {
		e.Line = d.Line
	}
	if d.Cause == CauseMemory && s.Others != nil {
		if others, free, err := s.Others(ctx); err == nil {
			if beside := Beside(others, s.need, free); beside != "" {
				e.Hint = beside + "; or " + e.Hint
			}
		}
	}
	return e
}

// lastLines reads the end of the log. That there is none is no error: the
// diagnosis then goes by the exit code.
func (s *Server) lastLines(ctx context.Context) []string {
	ctx, cancel := context.WithTimeout(ctx, 2*askTime)
	defer cancel()
	log, err := s.Runtime.Logs(ctx, false, keepLines)
	if err != nil {
		return nil
	}
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { defer close(closed); log.Close() })
	lines := readLines(log)
	if stop() {
		log.Close()
	} else {
		<-closed
	}
	return lines
}

// how says how a server ended.
func how(st RuntimeState) string {
	text := "ended"
	switch {
	case st.ExitCode > 128 && st.ExitCode <= 128+64:
		text = fmt.Sprintf("was ended by signal %d", st.ExitCode-128)
	case st.ExitCode > 0:
		text = fmt.Sprintf("ended with exit code %d", st.ExitCode)
	case st.ExitCode == 0:
		text = "ended with exit code 0"
	}
	if took := st.Ended.Sub(st.Started); !st.Started.IsZero() && took > 0 {
		text += " after " + took.Round(time.Second/10).String()
	}
	return text
}

// holds says whether one of the lines is that one. An empty one needs no place.
func holds(lines []string, line string) bool {
	return line == "" || slices.ContainsFunc(lines, func(l string) bool { return strings.TrimSpace(l) == line })
}
