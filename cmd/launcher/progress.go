package main

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// progress says on stderr what is being done, a line per step. Whatever it is
// handed, a terminal obeys nothing of it. Safe for concurrent use.
type progress struct {
	w      io.Writer
	quiet  bool
	colour bool
	began  time.Time

	mu    sync.Mutex
	last  time.Time // when the last step was said to be done
	steps []step
}

type step struct {
	name string
	took time.Duration
}

func newProgress(w io.Writer, quiet, colour bool) *progress {
	now := time.Now()
	return &progress{w: w, quiet: quiet, colour: colour, began: now, last: now}
}

// done says that a step has ended, and what came of it. Its time is what it added:
// that since the step before was said to be done, beside which it may have begun.
func (p *progress) done(name, format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	took := now.Sub(p.last)
	p.last = now
	p.steps = append(p.steps, step{name, took})
	if p.quiet {
		return
	}
	mark := "ok"
	if p.colour {
		mark = "\x1b[32m✓\x1b[0m"
	}
	fmt.Fprintf(p.w, "%s %-9s %s (%s)\n", mark, name, printable(fmt.Sprintf(format, args...)), took.Round(time.Millisecond))
}

// note says something between steps.
func (p *progress) note(format string, args ...any) {
	if p.quiet {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.w, "   %s\n", printable(fmt.Sprintf(format, args...)))
}

// warn says what the user must know, --quiet or not.
func (p *progress) warn(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.w, "launcher: %s\n", printable(fmt.Sprintf(format, args...)))
}
