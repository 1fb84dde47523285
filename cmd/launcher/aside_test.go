package main

import (
	"errors"
	"io"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestSideBySide(t *testing.T) {
	defer goleak.VerifyNone(t)
	first, second := errors.New("first"), errors.New("second")
	met := make(chan struct{})
	done := false
	err := sideBySide(
		func() error { <-met; return first }, // ends after the second
		func() error { close(met); return second },
		func() error { <-met; done = true; return nil },
	)
	if err != first || !done {
		t.Errorf("%v, waited for all: %t", err, done)
	}
	if err := sideBySide(func() error { return nil }, func() error { return second }); err != second {
		t.Error(err)
	}
	if err := sideBySide(); err != nil {
		t.Error(err)
	}
}

func TestAside(t *testing.T) {
	defer goleak.VerifyNone(t)
	failed, going := errors.New("failed"), make(chan struct{})
	wait := aside(func() error { <-going; return failed })
	close(going) // the caller goes on meanwhile
	for range 2 {
		if err := wait(); err != failed {
			t.Error(err)
		}
	}
}

// Steps that run side by side say whole lines.
func TestProgressOfSeveral(t *testing.T) {
	var said strings.Builder
	p := newProgress(&said, false, false)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() { p.note("a"); p.warn("b"); p.done("c", "d") })
	}
	all.Wait()
	for line := range strings.Lines(said.String()) {
		if line != "   a\n" && line != "launcher: b\n" && !strings.HasPrefix(line, "ok c         d (") {
			t.Errorf("%q", line)
		}
	}
	if len(p.steps) != 20 {
		t.Errorf("%d steps", len(p.steps))
	}
	newProgress(io.Discard, true, false).done("quiet", "x")
}
