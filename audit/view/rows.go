package view

import (
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/audit"
)

// Rows makes lines of events whose columns stay where they are, whatever comes:
// for a screen that scrolls. Its lines have no colours; a narrow screen gets the
// time without the day, and no reasons.
type Rows struct {
	screen Screen
	cols   []column
	widths []int
}

// NewRows lays the columns out for a screen, whose width must be known.
func NewRows(s Screen) Rows {
	r := Rows{screen: s, cols: columnsFor(s, false)}
	if s.Width < withAll {
		r.cols = slices.DeleteFunc(r.cols, func(c column) bool { return c.head == "WHY" })
		r.cols[0].cell = func(e audit.Event) string { return s.time(e.Time, time.TimeOnly) }
	}
	left, sum := s.Width-len(gap)*(len(r.cols)-1), 0
	r.widths = make([]int, len(r.cols))
	for i, c := range r.cols {
		switch c.head {
		case "TIME":
			r.widths[i] = Cells(c.cell(audit.Event{Time: someTime}))
		case "ID":
			r.widths[i] = 26
		case "VERDICT":
			r.widths[i] = len("VERDICT")
		case "×":
			r.widths[i] = 6
		}
		left -= r.widths[i]
		sum += c.weight
	}
	for i, c := range r.cols {
		if c.weight > 0 {
			r.widths[i] = max(left*c.weight/sum, 1)
		}
	}
	return r
}

// Head is the line of the columns' names.
func (r Rows) Head() string {
	heads := make([]string, len(r.cols))
	for i, c := range r.cols {
		heads[i] = c.head
	}
	return r.line(heads)
}

// Line is an event's.
func (r Rows) Line(e audit.Event) string {
	row := make([]string, len(r.cols))
	for i, c := range r.cols {
		row[i] = c.cell(e)
	}
	return r.line(row)
}

func (r Rows) line(row []string) string {
	return strings.TrimRight(tableLine(row, r.widths, Screen{Width: r.screen.Width}, ""), " ")
}

// Wrapped are names and values, values that are too long on lines of their own.
func Wrapped(rows [][2]string, width int) []string {
	var b strings.Builder
	writePairs(&b, rows, Screen{Width: width})
	return strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
}
