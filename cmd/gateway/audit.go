package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/config"
	"github.com/sallyport/sallyport/terminal"
	"github.com/spf13/cobra"
)

func newAuditCommand(p process) *cobra.Command {
	var asJSON, denied, utc bool
	var since lookback
	var filter audit.Filter
	c := &cobra.Command{
		Use:   "audit",
		Short: "Show what sandboxes tried, and what was refused and why",
		Long: `Show what sandboxes tried, oldest first. With --json each event is one line, with
the field names of the record itself.`,
		Example: `  gateway audit --denied --since 1h
  gateway audit --sandbox 3fa85f645717
  gateway audit --json | jq -r 'select(.layer == "dns") | .host'`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			paths, err := p.paths()
			if err != nil {
				return err
			}
			filter.Denied = denied
			if since > 0 {
				filter.Since = time.Now().Add(-time.Duration(since))
			}
			loc := time.Local
			if utc {
				loc = time.UTC
			}
			return p.printAudit(c, paths.Audit(), filter, asJSON, loc)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON, an event a line")
	c.Flags().BoolVar(&denied, "denied", false, "only what was refused")
	c.Flags().Var(&since, "since", "only the last `duration`, such as 10m, 12h or 2d")
	c.Flags().StringVar(&filter.Sandbox, "sandbox", "", "only this sandbox's `ID`")
	c.Flags().BoolVar(&utc, "utc", false, "times in UTC")
	return c
}

// lookback is a length of time before now; zero: the whole record.
type lookback time.Duration

// String implements pflag.Value.
func (l *lookback) String() string {
	if *l == 0 {
		return ""
	}
	return time.Duration(*l).String()
}

// Type implements pflag.Value.
func (l *lookback) Type() string { return "duration" }

// Set reads what time.ParseDuration reads, and whole days and weeks.
func (l *lookback) Set(s string) error {
	var age config.Age // "2d", "1w"
	d, err := time.ParseDuration(s)
	if err != nil && s != "forever" && age.UnmarshalText([]byte(s)) == nil {
		d, err = time.Duration(age), nil
	}
	if err != nil || d <= 0 {
		return errors.New("it takes a length of time, such as 10m, 12h or 2d")
	}
	*l = lookback(d)
	return nil
}

func (p process) printAudit(c *cobra.Command, path string, filter audit.Filter, asJSON bool, loc *time.Location) error {
	out := bufio.NewWriter(p.stdout)
	var events []audit.Event
	err := audit.Read(c.Context(), path, filter, func(e audit.Event) error {
		if asJSON {
			line, err := audit.Encode(e) // safe on a terminal, unlike encoding/json's
			if err != nil {
				return err
			}
			_, err = out.Write(line)
			return err
		}
		events = append(events, e)
		return nil
	})
	var damaged *audit.DamagedError
	switch {
	case errors.Is(err, fs.ErrNotExist): // no sandbox has run yet
	case errors.As(err, &damaged):
		fmt.Fprintf(p.stderr, "gateway: %v\n", err)
	case err != nil:
		return err
	}
	switch {
	case asJSON:
	case len(events) == 0:
		fmt.Fprintln(p.stderr, "nothing recorded that matches")
	default:
		if err := audit.WriteTable(out, events, p.width(), loc); err != nil {
			return err
		}
	}
	return out.Flush()
}

// width is the terminal's, zero if stdout is none.
func (p process) width() int {
	out, ok := p.stdout.(*os.File)
	if !ok {
		return 0
	}
	t, err := terminal.Open(out, out)
	if err != nil {
		return 0
	}
	size, err := t.Size()
	if err != nil {
		return 0
	}
	return int(size.Width)
}
