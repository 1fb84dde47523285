package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/models/server"
	"github.com/spf13/cobra"
)

// defaultLines is how much of a log is shown unless more is asked for.
const defaultLines = 100

func newLogsCommand(o *options) *cobra.Command {
	var host string
	var follow bool
	var lines int
	c := &cobra.Command{
		Use:   "logs MODEL",
		Short: "Show what a model's server wrote",
		Long: `Show what a model's server wrote last, also one that has ended. Characters that would
do something to a terminal are shown as such.`,
		Example:           "  launcher logs gpt-oss\n  launcher logs gpt-oss -f\n  launcher logs gpt-oss -n -1     all of it",
		Args:              needArgs(1, "one MODEL"),
		ValidArgsFunction: o.completeServers,
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := o.about(args[0], host, true)
			if err != nil {
				return err
			}
			defer a.sites.closeAll()
			v, err := a.served(cmd.Context())
			if err != nil {
				return err
			}
			if o.dryRun {
				return o.planLogs(v, follow, lines)
			}
			return v.logs(cmd.Context(), o.stdout, follow, lines)
		},
	}
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on until the server ends, or Ctrl-C")
	c.Flags().IntVarP(&lines, "lines", "n", defaultLines, "the last `number` of lines; below zero: all")
	o.hostFlag(c, &host)
	return o.dryFlag(c)
}

func (v *served) logs(ctx context.Context, w io.Writer, follow bool, lines int) error {
	state, err := v.Runtime.State(ctx)
	if err != nil {
		return err
	}
	if state.Phase != server.PhaseRunning && state.Phase != server.PhaseExited {
		return fmt.Errorf("%s has never run on %s, or was removed: it has no log; hint: launcher serve %s", v.model.Name, v.site.title(), v.model.Name)
	}
	r, err := v.Runtime.Logs(ctx, follow, lines)
	if err != nil {
		return err
	}
	err = copyPrintable(w, r)
	err = errors.Join(err, r.Close())
	if ctx.Err() != nil && follow {
		return nil // Ctrl-C is how one stops to follow
	}
	return err
}

// maxLogLine bounds a line, in bytes: a longer one is shown in parts.
const maxLogLine = 16 << 10

// copyPrintable copies lines with nothing in them that a terminal obeys. A bar
// that is drawn over itself becomes a line per state.
func copyPrintable(w io.Writer, r io.Reader) error {
	in := bufio.NewReaderSize(r, maxLogLine)
	for {
		line, err := in.ReadSlice('\n')
		for part := range strings.SplitSeq(strings.TrimRight(string(line), "\r\n"), "\r") {
			if len(line) == 0 || part == "" && len(line) > 1 {
				continue
			}
			if _, err := fmt.Fprintln(w, audit.Printable(strings.ReplaceAll(part, "\t", "        "))); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read the log: %w", err)
		}
	}
}
