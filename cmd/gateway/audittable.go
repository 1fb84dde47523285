package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/view"
	"github.com/sallyport/sallyport/control"
	"github.com/sallyport/sallyport/terminal"
	"github.com/spf13/cobra"
)

// terminalLimit is how many events a terminal gets that was not told otherwise.
const terminalLimit = 1000

type tableOptions struct {
	filter       filterFlags
	output       outputFlags
	by           word
	novel        bool
	limit        int
	ids          bool
	failOnDenied bool
	web          bool
}

// auditTable is `gateway audit` itself.
func (p process) auditTable(c *cobra.Command, o tableOptions) error {
	filter, err := o.filter.read(time.Now(), o.output.loc())
	switch {
	case err != nil:
		return err
	case o.by.text != "" && o.novel:
		return usage(errors.New("--group-by and --new together; hint: choose one"))
	case o.limit < 0:
		return usage(fmt.Errorf("--limit %d is negative; hint: 0 for all", o.limit))
	}
	if err := o.output.check(); err != nil {
		return err
	}
	if o.web {
		paths, err := p.paths()
		if err != nil {
			return err
		}
		return p.openPage(c.Context(), control.NewClient(paths.ControlSocket()), paths.Runtime, waitKept)
	}
	r, err := p.record()
	if err != nil || r == nil {
		return err
	}
	defer r.Close() // it was only read
	switch {
	case o.by.text != "":
		err = p.printGroups(c.Context(), r, filter, o)
	case o.novel:
		err = p.printNovel(c.Context(), r, filter, o)
	default:
		err = p.printEvents(c, r, filter, o)
	}
	if err := p.damaged(err); err != nil || !o.failOnDenied {
		return err
	}
	return failOnDenied(c.Context(), r, filter, o.novel)
}

// failOnDenied ends with exit code 3 if something that filter chooses was refused.
func failOnDenied(ctx context.Context, r *audit.Reader, filter audit.Filter, novel bool) error {
	denied := int64(0)
	if novel {
		all, err := r.Novel(ctx, filter)
		if err != nil {
			return err
		}
		for _, n := range all {
			if n.First.Denied() {
				denied++
			}
		}
	} else {
		totals, err := r.Totals(ctx, filter)
		if err != nil {
			return err
		}
		denied = totals.Denied + totals.Lost
	}
	if denied == 0 {
		return nil
	}
	return &exitError{exitDenied, nil}
}

// eventWriter writes events in one form.
type eventWriter interface {
	Add(audit.Event) error
	Close() error
}

// jsonWriter writes an event a line. It is safe on a terminal, unlike
// encoding/json's.
type jsonWriter struct{ w *bufio.Writer }

func (j jsonWriter) Add(e audit.Event) error {
	line, err := audit.Encode(e)
	if err != nil {
		return err
	}
	_, err = j.w.Write(line)
	return err
}

func (j jsonWriter) Close() error { return j.w.Flush() }

func (p process) newEventWriter(w io.Writer, o outputFlags, ids bool) (eventWriter, error) {
	switch {
	case o.json:
		return jsonWriter{bufio.NewWriter(w)}, nil
	case o.csv:
		return view.NewCSV(w)
	}
	return view.NewTable(w, p.screen(o), ids), nil
}

// printEvents prints the events themselves.
func (p process) printEvents(c *cobra.Command, r *audit.Reader, filter audit.Filter, o tableOptions) error {
	limit := o.limit
	text := !o.output.json && !o.output.csv
	if out, ok := p.stdout.(*os.File); ok && text && !c.Flags().Changed("limit") && terminal.IsTerminal(out) {
		limit = terminalLimit
	}
	w, err := p.newEventWriter(p.stdout, o.output, o.ids)
	if err != nil {
		return err
	}
	given := 0
	readErr := eachEvent(c.Context(), r, filter, limit, func(e audit.Event) error {
		given++
		return w.Add(e)
	})
	var damaged *audit.DamagedError
	if readErr != nil && !errors.As(readErr, &damaged) {
		return readErr
	}
	if given == 0 && text {
		_, err = fmt.Fprintln(p.stderr, "nothing recorded that matches")
		return errors.Join(readErr, err)
	}
	if err := w.Close(); err != nil {
		return err
	}
	if limit > 0 && given == limit && text && o.limit == 0 {
		fmt.Fprintf(p.stderr, "these are the newest %d that match; --limit 0 shows all\n", limit)
	}
	return readErr
}

// eachEvent calls each for the newest events, oldest first; limit zero: all.
func eachEvent(ctx context.Context, r *audit.Reader, filter audit.Filter, limit int, each func(audit.Event) error) error {
	if limit == 0 {
		return r.Events(ctx, filter, audit.Page{}, each)
	}
	var newest []audit.Event
	readErr := r.Events(ctx, filter, audit.Page{Limit: limit, Newest: true}, func(e audit.Event) error {
		newest = append(newest, e)
		return nil
	})
	for _, e := range slices.Backward(newest) {
		if err := each(e); err != nil {
			return err
		}
	}
	return readErr
}
