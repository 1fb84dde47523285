package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/view"
	"github.com/sallyport/sallyport/config"
	"github.com/spf13/cobra"
)

// oneID wants an event's id.
func oneID(c *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usage(fmt.Errorf("%s takes the id of one event, but got %d arguments; hint: gateway audit --ids shows ids, the beginning of one is enough", c.CommandPath(), len(args)))
	}
	return nil
}

// noSuchEvent is a wrong id's error: it was not tried for lack of an event.
func noSuchEvent(err error) error {
	if errors.Is(err, audit.ErrNotFound) || errors.Is(err, audit.ErrAmbiguous) {
		return usage(err)
	}
	return err
}

func newAuditShowCommand(p process) *cobra.Command {
	var output outputFlags
	around := 5
	c := &cobra.Command{
		Use:   "show ID",
		Short: "Show all that is known of one event, and what was before and after it",
		Long:  "Show all that is known of one event, and what was before and after it. The\nbeginning of an id is enough if no other one begins so.\n" + exitCodes,
		Example: `  gateway audit show 01KB2Z7Q9V
  gateway audit show 01KB2Z7Q9V --around 20
  gateway audit show 01KB2Z7Q9V --json | jq .event.process`,
		Args:              oneID,
		ValidArgsFunction: p.completeIDs,
		RunE: func(c *cobra.Command, args []string) error {
			if around < 0 || around > 1000 {
				return usage(fmt.Errorf("--around %d; hint: 0 to 1000", around))
			}
			return p.auditShow(c.Context(), args[0], around, output)
		},
	}
	output.add(c, false)
	c.Flags().IntVar(&around, "around", around, "so `many` events before and after it")
	return c
}

func (p process) auditShow(ctx context.Context, id string, around int, output outputFlags) error {
	if err := output.check(); err != nil {
		return err
	}
	r, e, head, err := p.event(ctx, id)
	if err != nil {
		return err
	}
	defer r.Close() // it was only read
	shown := view.Shown{Event: e, Head: head}
	if around > 0 {
		if shown.Before, shown.After, err = r.Neighbours(ctx, e.ID, around); p.damaged(err) != nil {
			return err
		}
	}
	if !output.json {
		return view.Show(p.stdout, shown, p.screen(output))
	}
	line := struct {
		Event  json.RawMessage   `json:"event"`
		Head   string            `json:"head,omitempty"`
		Before []json.RawMessage `json:"before"`
		After  []json.RawMessage `json:"after"`
	}{Event: rawEvent(e), Before: rawEvents(shown.Before), After: rawEvents(shown.After)}
	if head != (audit.Head{}) {
		line.Head = head.String()
	}
	return writeLines(p.stdout, 1, func(int) any { return line })
}

func rawEvents(events []audit.Event) []json.RawMessage {
	all := make([]json.RawMessage, len(events))
	for i, e := range events {
		all[i] = bytes.TrimSpace(rawEvent(e))
	}
	return all
}

// event opens the record and finds one event. The reader is to be closed.
func (p process) event(ctx context.Context, id string) (*audit.Reader, audit.Event, audit.Head, error) {
	r, err := p.record()
	if err == nil && r == nil {
		err = &exitError{exitUsage, nil}
	}
	if err != nil {
		return nil, audit.Event{}, audit.Head{}, err
	}
	e, head, err := r.Event(ctx, id)
	if err != nil {
		return nil, e, head, errors.Join(noSuchEvent(err), r.Close())
	}
	return r, e, head, nil
}

func newAuditExplainCommand(p process) *cobra.Command {
	var output outputFlags
	c := &cobra.Command{
		Use:   "explain ID",
		Short: "Say which rule decided about one event, and what would allow it",
		Long:  "Say which rule decided about one event, why, and which lines of the configuration\nwould allow it, or why nothing would. The beginning of an id is enough.\n" + exitCodes,
		Example: `  gateway audit explain 01KB2Z7Q9V
  gateway audit explain 01KB2Z7Q9V --json | jq -r '.config[]'`,
		Args:              oneID,
		ValidArgsFunction: p.completeIDs,
		RunE: func(c *cobra.Command, args []string) error {
			file, _ := c.Flags().GetString("config")
			return p.auditExplain(c.Context(), args[0], file, output)
		},
	}
	output.add(c, false)
	return c
}

func (p process) auditExplain(ctx context.Context, id, file string, output outputFlags) error {
	if err := output.check(); err != nil {
		return err
	}
	r, e, _, err := p.event(ctx, id)
	if err != nil {
		return err
	}
	defer r.Close() // it was only read
	if output.json {
		return writeLines(p.stdout, 1, func(int) any {
			return struct {
				view.Explanation
				Event json.RawMessage `json:"event"`
			}{view.Explain(e), rawEvent(e)}
		})
	}
	if file == "" {
		file = config.DefaultPath(p.lookupenv, p.getenv("HOME"))
	}
	if _, err := os.Stat(file); err != nil && file != "" {
		file += ", a new file"
	}
	return view.WriteExplanation(p.stdout, e, file, p.screen(output))
}
