package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/view"
	"github.com/sallyport/sallyport/terminal"
	"github.com/spf13/cobra"
)

// exitDenied is for scripts: something was refused, and they had asked.
const exitDenied = 3

// exitCodes ends the help of the commands that read the record.
const exitCodes = `
Exit codes: 0; 1 it failed; 2 a wrong flag or value.`

func newAuditCommand(p process) *cobra.Command {
	o := tableOptions{by: word{among: []string{string(audit.ByHost), string(audit.ByProcess), string(audit.ByProject), string(audit.ByDay)}}}
	c := &cobra.Command{
		Use:   "audit",
		Short: "Show what sandboxes tried, and what was refused and why",
		Long: `Show what sandboxes tried, oldest first: when, which sandbox and project, which
process, what, the verdict and why, and how many times. A terminal gets the
newest 1000 (--limit), at its width; elsewhere nothing is cut. The last column is
how many attempts an event stands for: identical refusals within 30 s are one
event and one of repeats, "+12" (with "…": still being counted).

--since and --until take a length of time before now (10m, 12h, 2d), a date
(2026-01-31: its first moment), a date and time, today or yesterday. --json has
the record's own field names, an event a line.

Exit codes: 0; 1 it failed; 2 a wrong flag or value; 3 with --fail-on-denied, if
something was refused among what the filters choose.`,
		Example: `  gateway audit --denied --since 1h
  gateway audit --since yesterday --until today --project shop --group-by host
  gateway audit --new                     what the last session was the first to try
  gateway audit --host '*.example.com' --process 'npm*'
  gateway audit --json --layer dns | jq -r .host
  gateway audit --sandbox 3fa85f645717 --fail-on-denied`,
		Args: noCommand,
		RunE: func(c *cobra.Command, _ []string) error { return p.auditTable(c, o) },
	}
	o.filter.add(p, c)
	o.output.add(c, true)
	f := c.Flags()
	f.Var(&o.by, "group-by", "count by `what` they have in common: "+o.by.words())
	f.BoolVar(&o.novel, "new", false, "only destinations never seen before their project's last session")
	f.IntVar(&o.limit, "limit", 0, "at most so `many`, the newest; of groups those with the most attempts (0: all)")
	f.BoolVar(&o.ids, "ids", false, "with the events' ids, also in a narrow terminal")
	f.BoolVar(&o.failOnDenied, "fail-on-denied", false, "exit with code 3 if something was refused")
	f.BoolVar(&o.web, "web", false, "open the audit page in the browser instead, or print its address")
	completeWords(c, "group-by", o.by.among)
	c.AddCommand(newAuditTopCommand(p), newAuditStatsCommand(p), newAuditShowCommand(p), newAuditExplainCommand(p),
		newAuditExportCommand(p), newAuditVerifyCommand(p), newAuditWatchCommand(p))
	return c
}

// record opens the user's record. Without one it says so on stderr; the reader is
// nil then, and there is no error.
func (p process) record() (*audit.Reader, error) {
	paths, err := p.paths()
	if err != nil {
		return nil, err
	}
	r, err := audit.OpenReader(paths.Audit())
	if errors.Is(err, fs.ErrNotExist) {
		_, err := fmt.Fprintln(p.stderr, "nothing is recorded yet; the record begins with the first sandbox")
		return nil, err
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// damaged says on stderr that events could not be read, and lets all other errors
// pass: those that could be read were shown.
func (p process) damaged(err error) error {
	var d *audit.DamagedError
	if errors.As(err, &d) {
		_, err = fmt.Fprintf(p.stderr, "gateway: %v\n", d)
	}
	return err
}

// outputFlags say how something is printed.
type outputFlags struct {
	json, csv, utc bool
	width          int
}

func (o *outputFlags) add(c *cobra.Command, csv bool) {
	f := c.Flags()
	f.BoolVar(&o.json, "json", false, "print JSON, one a line")
	if csv {
		f.BoolVar(&o.csv, "csv", false, "print CSV")
	}
	f.BoolVar(&o.utc, "utc", false, "times in UTC")
	f.IntVar(&o.width, "width", 0, "`cells` of a line (0: the terminal's; elsewhere nothing is cut)")
}

func (o outputFlags) check() error {
	switch {
	case o.json && o.csv:
		return usage(errors.New("--json and --csv together; hint: choose one"))
	case o.width < 0:
		return usage(fmt.Errorf("--width %d is negative; hint: 0 for the terminal's", o.width))
	}
	return nil
}

func (o outputFlags) loc() *time.Location {
	if o.utc {
		return time.UTC
	}
	return time.Local
}

// screen is stdout's.
func (p process) screen(o outputFlags) view.Screen {
	s := view.Screen{Width: o.width, Loc: o.loc()}
	if out, ok := p.stdout.(*os.File); ok {
		s.Colours = terminal.Colours(p.environ(), out)
		if s.Width == 0 {
			s.Width = p.width()
		}
	}
	return s
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
