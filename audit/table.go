package audit

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// gap parts the columns of a table.
const gap = "  "

// column is one of a table's columns. Its zero minimum means that it is never
// made narrower than its widest cell.
type column struct {
	head    string
	minimum int
	cell    func(Event) string
}

func tableColumns(loc *time.Location) []column {
	return []column{
		{"TIME", 0, func(e Event) string { return e.Time.In(loc).Format("2006-01-02 15:04:05") }},
		{"SANDBOX", 8, who},
		{"LAYER", 0, func(e Event) string { return string(e.Layer) }},
		{"VERDICT", 0, func(e Event) string { return e.Verdict }},
		{"WHAT", 14, what},
		{"REASON", 8, func(e Event) string { return e.Reason }},
		{"×", 0, times},
	}
}

// WriteTable writes events as a table, a line each, that fits into width cells;
// width zero: nothing is cut. Times are in loc (nil: UTC). Whatever the events
// hold, only printable characters are written.
func WriteTable(w io.Writer, events []Event, width int, loc *time.Location) error {
	if loc == nil {
		loc = time.UTC
	}
	columnsOf := tableColumns(loc)
	rows := make([][]string, 0, len(events)+1)
	heads := make([]string, len(columnsOf))
	for i, c := range columnsOf {
		heads[i] = c.head
	}
	rows = append(rows, heads)
	for _, e := range events {
		row := make([]string, len(columnsOf))
		for i, c := range columnsOf {
			row[i] = Printable(c.cell(e))
		}
		rows = append(rows, row)
	}
	widths := fit(rows, columnsOf, width)
	b := bufio.NewWriter(w)
	for _, row := range rows {
		fmt.Fprintln(b, tableLine(row, widths, width)) // Flush has the error
	}
	if err := b.Flush(); err != nil {
		return fmt.Errorf("write the table of events: %w", err)
	}
	return nil
}

// fit chooses each column's width: that of its widest cell; if that is too much,
// the widest of those that may shrink does, again and again.
func fit(rows [][]string, cols []column, width int) []int {
	widths := make([]int, len(cols))
	total := len(gap) * (len(cols) - 1)
	for i := range cols {
		for _, row := range rows {
			widths[i] = max(widths[i], columns(row[i]))
		}
		total += widths[i]
	}
	for width > 0 && total > width {
		widest := -1
		for i, c := range cols {
			if c.minimum > 0 && widths[i] > c.minimum && (widest < 0 || widths[i] > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			break // too narrow for any table; tableLine cuts
		}
		widths[widest]--
		total--
	}
	return widths
}

func tableLine(row []string, widths []int, width int) string {
	var b strings.Builder
	for i, cell := range row {
		cell = shorten(cell, widths[i])
		b.WriteString(cell)
		if i < len(row)-1 {
			b.WriteString(strings.Repeat(" ", widths[i]-columns(cell)) + gap)
		}
	}
	line := strings.TrimRight(b.String(), " ")
	if width > 0 {
		line = shorten(line, width)
	}
	return line
}

// who is the sandbox and its project's last name.
func who(e Event) string {
	if e.Project == "" {
		return e.Sandbox
	}
	return e.Sandbox + "/" + filepath.Base(e.Project)
}

// what says what was tried. It may hold any character.
func what(e Event) string {
	switch e.Layer {
	case LayerDNS:
		return strings.TrimSpace(e.Host + " " + e.Method)
	case LayerModel:
		return target(e)
	case LayerPacket:
		return strings.TrimSpace(how(e) + " " + cmp.Or(e.Dst, e.Host))
	}
	text, claim := e.Dst, ""
	switch {
	case e.Layer == LayerIntercept: // where it was aimed, and what it said
		text, claim = cmp.Or(e.Dst, hostPort(e))+e.Path, cmp.Or(e.SNI, e.Host)
	case e.Host != "":
		text = hostPort(e) + e.Path
	}
	if claim != "" {
		text += " (" + claim + ")"
	}
	return strings.TrimSpace(e.Method + " " + text)
}

func times(e Event) string {
	if e.Count <= 1 {
		return ""
	}
	return "×" + strconv.FormatInt(e.Count, 10)
}
