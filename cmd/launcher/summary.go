package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/view"
	"github.com/sallyport/sallyport/terminal"
)

const summaryLines = 12 // of refused destinations; the rest is counted

// account is what the record has of one session. The proof's attempts are not
// the agent's, and are left out.
type account struct {
	view.Summary
	took    time.Duration
	allowed int64         // attempts that a rule let through, beside the model's
	open    int64         // refused attempts that are not part of the chain yet
	head    audit.Head    // of the record, not of this session alone
	events  []audit.Event // kept for the demo's check alone
}

// summarize says at the end how long, how much, and what was refused. After the
// demo's script it also checks that each attempt is in the record.
func (r *agentRun) summarize(ctx context.Context) error {
	demo := r.target != nil && r.request.agent == "claude" && !r.tty()
	a, err := readAccount(ctx, r.caller.paths.Audit(), r.session.id, demo)
	a.took = time.Since(r.began)
	if damaged := new(audit.DamagedError); errors.As(err, &damaged) {
		r.progress.warn("the summary is incomplete: %v", err)
		err = nil
	}
	format := r.options.summaryFormat()
	switch {
	case err != nil:
		err = fmt.Errorf("read the record: %w", err)
	case format == summaryText:
		a.print(r.options.stderr, r.session.id, r.width())
	}
	if err == nil && demo {
		err = r.checkDemo(a.events)
	}
	if format == summaryJSON {
		err = errors.Join(err, r.encode(a, err).write(r.options.stderr))
	}
	return err
}

// readAccount reads what a sandbox did, repeats that are still being counted
// included. keep keeps the events.
func readAccount(ctx context.Context, path, sandbox string, keep bool) (account, error) {
	var a account
	record, err := audit.OpenReader(path)
	if err != nil {
		return a, err
	}
	defer record.Close()
	if a.head, err = record.Head(ctx); err != nil {
		return a, err
	}
	filter := audit.Filter{Sandbox: sandbox, NotAgents: []string{proofAgent}}
	err = record.Events(ctx, filter, audit.Page{}, func(e audit.Event) error {
		a.add(e)
		if keep {
			a.events = append(a.events, e)
		}
		return nil
	})
	return a, err
}

func (a *account) add(e audit.Event) {
	a.Add(e)
	switch {
	case e.Lost > 0:
	case e.Denied():
		if e.Open {
			a.open += e.Count
		}
	case e.Layer != audit.LayerModel && e.Layer != audit.LayerControl:
		a.allowed += max(e.Count, 1)
	}
}

// print says it to people. width is the terminal's; zero: there is none.
func (a *account) print(w io.Writer, sandbox string, width int) {
	fmt.Fprintf(w, "\n%s, %d model requests, %d tokens in, %d out\n", a.took.Round(time.Second), a.ModelRequests, a.TokensIn, a.TokensOut)
	if a.allowed > 0 {
		fmt.Fprintf(w, "let through by your rules: %d attempts\n", a.allowed)
	}
	switch {
	case a.Attempts > 0 || a.Lost > 0:
		fmt.Fprintf(w, "refused: %d attempts\n", a.Attempts)
		for _, line := range a.Lines(summaryLines, max(0, width-2)) {
			fmt.Fprintf(w, "  %s\n", line)
		}
		fmt.Fprintf(w, "more: gateway audit --denied --sandbox %s\n", sandbox)
	case a.allowed == 0:
		fmt.Fprintln(w, "nothing else was tried")
	}
	fmt.Fprintf(w, "record head: %s\n", a.head)
}

// width is that of the terminal behind stderr; zero: there is none.
func (r *agentRun) width() int {
	f, ok := r.options.stderr.(*os.File)
	if !ok {
		return 0
	}
	t, err := terminal.Open(f, f)
	if err != nil {
		return 0
	}
	size, err := t.Size()
	if err != nil {
		return 0
	}
	return int(size.Width)
}
