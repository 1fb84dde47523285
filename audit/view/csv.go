package view

import (
	"encoding/csv"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/audit"
)

// csvHead are the columns of CSV, in the record's own names.
var csvHead = []string{"time", "id", "sandbox", "agent", "model", "project", "session", "process", "command", "layer", "proto", "src", "dst", "host", "port", "sni",
	"method", "path", "verdict", "rule", "reason", "status", "bytes_in", "bytes_out", "duration", "count", "lost", "repeat_of", "first", "last", "open"}

// CSV writes events as comma-separated values (RFC 4180), a line each. Every
// cell is printable; one that a spreadsheet would take for a formula begins with
// an apostrophe.
type CSV struct{ w *csv.Writer }

// NewCSV begins with the line of the columns' names.
func NewCSV(w io.Writer) (*CSV, error) {
	c := &CSV{csv.NewWriter(w)}
	return c, c.put(csvHead)
}

// Add writes an event.
func (c *CSV) Add(e audit.Event) error {
	process, command := Process(e.Process), ""
	if e.Process != nil {
		command = e.Process.Command
	}
	number := func(n int64) string { return strconv.FormatInt(n, 10) }
	return c.put([]string{
		stamp(e.Time), e.ID, e.Sandbox, e.Agent, e.Model, e.Project, e.Session, process, command, string(e.Layer), e.Proto, e.Src, e.Dst, e.Host, number(int64(e.Port)), e.SNI,
		e.Method, e.Path, e.Verdict, e.Rule, e.Reason, number(int64(e.Status)), number(e.BytesIn), number(e.BytesOut), strconv.FormatFloat(e.Duration, 'f', -1, 64),
		number(e.Count), number(e.Lost), e.RepeatOf, stamp(e.First), stamp(e.Last), strconv.FormatBool(e.Open),
	})
}

// Close writes what is left.
func (c *CSV) Close() error {
	c.w.Flush()
	if err := c.w.Error(); err != nil {
		return fmt.Errorf("write CSV: %w", err)
	}
	return nil
}

func (c *CSV) put(cells []string) error {
	row := make([]string, len(cells))
	for i, cell := range cells {
		row[i] = CSVCell(cell)
	}
	if err := c.w.Write(row); err != nil {
		return fmt.Errorf("write CSV: %w", err)
	}
	return nil
}

// CSVCell is a printable text that no spreadsheet takes for a formula: what a
// container chose must not be calculated by whoever opens the file.
func CSVCell(s string) string {
	s = audit.Printable(s)
	if s != "" && strings.ContainsRune("=+-@", rune(s[0])) {
		if _, err := strconv.ParseFloat(s, 64); err != nil {
			return "'" + s
		}
	}
	return s
}

// stamp is a time as the record has it.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}
