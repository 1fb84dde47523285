package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/spf13/cobra"
)

func newAuditVerifyCommand(p process) *cobra.Command {
	var head string
	var asJSON bool
	c := &cobra.Command{
		Use:   "verify",
		Short: "Check that no event of the record was changed, lost or moved",
		Long: `Check that no event of the record was changed, lost or moved: each one's hash is
made of it and of the one before. That shows damage and careless edits. Somebody
who can write the file can also make a new chain: only --head shows that, with the
head that a session printed at its end, or one that you noted elsewhere. It also
shows that newer events than that were cut off.

Exit codes: 0 all is as it was written; 1 it is not, or it could not be read; 2 a
wrong flag or value.`,
		Example: "  gateway audit verify\n  gateway audit verify --head 1204:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\n  gateway audit verify --json",
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if head != "" {
				if _, err := audit.ParseHead(head); err != nil {
					return usage(err)
				}
			}
			return p.auditVerify(c.Context(), head, asJSON)
		},
	}
	c.Flags().StringVar(&head, "head", "", "a `HASH` that the chain must lead through, as a session's summary prints it")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func (p process) auditVerify(ctx context.Context, head string, asJSON bool) error {
	paths, err := p.paths()
	if err != nil {
		return err
	}
	report, err := audit.Verify(ctx, paths.Audit(), head)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("there is no record at %s; hint: it begins with the first sandbox", paths.Audit())
	}
	if err != nil {
		return err
	}
	if asJSON {
		err = writeJSON(p.stdout, reportLine(report))
	} else {
		err = printReport(p.stdout, report, paths.Audit(), head)
	}
	if err != nil || report.OK {
		return err
	}
	return &exitError{exitFailed, nil}
}

func reportLine(r audit.Report) any {
	type problem struct {
		Seq  int64  `json:"seq,omitempty"`
		ID   string `json:"id,omitempty"`
		What string `json:"what"`
	}
	line := struct {
		OK          bool      `json:"ok"`
		Events      int64     `json:"events"`
		First       string    `json:"first,omitempty"`
		Head        string    `json:"head,omitempty"`
		Open        int       `json:"open"`
		OpenCount   int64     `json:"open_count"`
		Checkpoints int       `json:"checkpoints"`
		Problems    []problem `json:"problems"`
	}{OK: r.OK, Events: r.Events, Open: r.Open, OpenCount: r.OpenCount, Checkpoints: r.Checkpoints, Problems: []problem{}}
	if r.Events > 0 {
		line.First, line.Head = r.First.String(), r.Head.String()
	}
	for _, found := range r.Problems {
		line.Problems = append(line.Problems, problem{found.Seq, audit.Printable(found.ID), audit.Printable(found.What)})
	}
	return line
}

func printReport(w io.Writer, r audit.Report, path, head string) error {
	fmt.Fprintf(w, "record   %s\n", path)
	switch {
	case r.Events == 0:
		fmt.Fprintln(w, "events   none")
	default:
		fmt.Fprintf(w, "events   %d, number %d to %d\nhead     %s\n", r.Events, r.First.Seq, r.Head.Seq, r.Head)
	}
	if r.Checkpoints > 0 {
		fmt.Fprintf(w, "pruned   %d times: older events were deleted for their age or the record's size\n", r.Checkpoints)
	}
	if r.Open > 0 {
		fmt.Fprintf(w, "open     %d events of repeats (%d attempts) are still being counted: they are not part of the chain yet\n", r.Open, r.OpenCount)
	}
	if r.OK {
		text := "ok       no event is changed, missing or out of order"
		if head != "" {
			text += ", and the head that you gave is among them"
		}
		_, err := fmt.Fprintln(w, text)
		return err
	}
	fmt.Fprintf(w, "WRONG    %d found:\n", len(r.Problems))
	for _, found := range r.Problems {
		at := ""
		if found.Seq > 0 {
			at = fmt.Sprintf("event %d: ", found.Seq)
		}
		if found.ID != "" {
			at = fmt.Sprintf("event %d (%s): ", found.Seq, found.ID)
		}
		fmt.Fprintf(w, "  %s\n", audit.Printable(at+found.What))
	}
	_, err := fmt.Fprintln(w, "hint: copy the file before anything else; `gateway audit show ID` shows an event that is named")
	return err
}

func newAuditExportCommand(p process) *cobra.Command {
	filter := filterFlags{proof: true}
	var output outputFlags
	var file string
	c := &cobra.Command{
		Use:   "export",
		Short: "Write events as JSON Lines or CSV, to stdout or a new file",
		Long:  "Write events as JSON Lines, or CSV with --csv, to stdout or a new file of mode 0600.\nWithout filters that is the whole record.\n" + exitCodes,
		Example: `  gateway audit export --output record.jsonl
  gateway audit export --since yesterday --until today --csv > yesterday.csv`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			f, err := filter.read(time.Now(), output.loc())
			if err != nil {
				return err
			}
			return p.auditExport(c.Context(), f, output, file)
		},
	}
	filter.add(p, c)
	output.add(c, true)
	c.Flags().StringVarP(&file, "output", "o", "", "a `file` that does not exist yet (default: stdout)")
	return c
}

func (p process) auditExport(ctx context.Context, filter audit.Filter, output outputFlags, file string) (err error) {
	if err := output.check(); err != nil {
		return err
	}
	r, err := p.record()
	if err != nil || r == nil {
		return err
	}
	defer r.Close() // it was only read
	w := p.stdout
	if file != "" {
		f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return usage(fmt.Errorf("export: %w; hint: --output takes a file that does not exist yet, in a folder that does", err))
		}
		defer func() { err = errors.Join(err, f.Sync(), f.Close()) }()
		w = f
	}
	if !output.csv {
		return p.damaged(audit.Export(ctx, r, w, filter))
	}
	events, err := p.newEventWriter(w, output, false)
	if err != nil {
		return err
	}
	return errors.Join(p.damaged(r.Events(ctx, filter, audit.Page{}, events.Add)), events.Close())
}
