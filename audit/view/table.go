package view

import (
	"bufio"
	"io"
	"strings"

	"github.com/sallyport/sallyport/audit"
)

const (
	gap = "  " // parts the columns of a table
	// measured is how many rows a Table looks at before it chooses its widths.
	measured = 1000
	// Widths from which on a table has more. Zero, a file, has all.
	withTheRest = 60  // sandbox, process and reason, in few words
	withAll     = 110 // years, sandboxes' ids, processes' parents
	withIDs     = 150
)

// column is one of a table's columns. Its zero minimum means that it is never
// made narrower than its widest cell. The others share what room there is by
// their weights.
type column struct {
	head            string
	minimum, weight int
	cell            func(audit.Event) string // printable
}

// columnsFor chooses a table's columns.
func columnsFor(s Screen, ids bool) []column {
	all := s.Width <= 0 || s.Width >= withAll
	layout, whose, who, process := wholeTime, "SANDBOX", Who, func(e audit.Event) string { return Process(e.Process) }
	if !all {
		layout, whose, who, process = narrow, "PROJECT", project, processName
	}
	cols := []column{{"TIME", 0, 0, func(e audit.Event) string { return s.time(e.Time, layout) }}}
	if ids || s.Width <= 0 || s.Width >= withIDs {
		cols = append(cols, column{"ID", 0, 0, func(e audit.Event) string { return audit.Printable(e.ID) }})
	}
	rest := all || s.Width >= withTheRest
	if rest {
		cols = append(cols, column{whose, 8, 2, who}, column{"PROCESS", 8, 3, process})
	}
	cols = append(cols, column{"WHAT", 10, 5, What}, column{"VERDICT", 0, 0, func(e audit.Event) string { return audit.Printable(e.Verdict) }})
	if rest {
		cols = append(cols, column{"WHY", 8, 3, Why})
	}
	return append(cols, column{"×", 0, 0, Times})
}

// layoutOf is what fit needs to know of columns.
func layoutOf(cols []column) (minima, weights []int) {
	for _, c := range cols {
		minima, weights = append(minima, c.minimum), append(weights, c.weight)
	}
	return minima, weights
}

// Table writes events as a table, a line each, as they come. A line fits the
// screen; how wide each column is, the first thousand events decide.
type Table struct {
	w      *bufio.Writer
	screen Screen
	cols   []column
	rows   [][]string // not written yet
	widths []int      // nil: not chosen yet
}

// NewTable begins a table. ids: with the events' ids, however narrow it is.
func NewTable(w io.Writer, s Screen, ids bool) *Table {
	t := &Table{w: bufio.NewWriter(w), screen: s, cols: columnsFor(s, ids)}
	heads := make([]string, len(t.cols))
	for i, c := range t.cols {
		heads[i] = c.head
	}
	t.rows = [][]string{heads}
	return t
}

// Add writes an event, or keeps it until the widths are chosen.
func (t *Table) Add(e audit.Event) error {
	row := make([]string, len(t.cols))
	for i, c := range t.cols {
		row[i] = c.cell(e)
	}
	if t.rows = append(t.rows, row); t.widths == nil && len(t.rows) <= measured {
		return nil
	}
	return t.write()
}

// Close writes what is left.
func (t *Table) Close() error {
	if err := t.write(); err != nil {
		return err
	}
	return flush(t.w, "the table of events")
}

func (t *Table) write() error {
	if t.widths == nil {
		minima, weights := layoutOf(t.cols)
		t.widths = fit(t.rows, minima, weights, t.screen.Width)
	}
	for _, row := range t.rows {
		line(t.w, tableLine(row, t.widths, t.screen, t.colour(row)))
	}
	t.rows = t.rows[:0]
	if t.w.Buffered() == 0 {
		return nil
	}
	return flush(t.w, "the table of events")
}

// colour is that of a whole row: what was let through steps back.
func (t *Table) colour(row []string) string {
	for i, c := range t.cols {
		if c.head == "VERDICT" && row[i] == "allowed" {
			return faint
		}
	}
	return ""
}

// WriteTable writes events as a table.
func WriteTable(w io.Writer, events []audit.Event, s Screen) error {
	t := NewTable(w, s, false)
	for _, e := range events {
		if err := t.Add(e); err != nil {
			return err
		}
	}
	return t.Close()
}

// fit chooses each column's width: that of its widest cell; if that is too much,
// the widest by its weight of those that may shrink does, again and again. A
// minimum of zero: it may not. No weights: all are the same.
func fit(rows [][]string, minima, weights []int, width int) []int {
	widths := make([]int, len(minima))
	total := len(gap) * (len(minima) - 1)
	for i := range minima {
		for _, row := range rows {
			widths[i] = max(widths[i], Cells(row[i]))
		}
		total += widths[i]
	}
	share := func(i int) float64 {
		if weights == nil {
			return float64(widths[i])
		}
		return float64(widths[i]) / float64(weights[i])
	}
	for width > 0 && total > width {
		widest := -1
		for i, m := range minima {
			if m > 0 && widths[i] > m && (widest < 0 || share(i) > share(widest)) {
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

func tableLine(row []string, widths []int, s Screen, colour string) string {
	var b strings.Builder
	for i, cell := range row {
		cell = Shorten(cell, widths[i])
		if i == len(row)-1 {
			b.WriteString(cell)
			break
		}
		b.WriteString(pad(cell, widths[i]) + gap)
	}
	return s.paint(colour, s.fit(strings.TrimRight(b.String(), " ")))
}
