package view

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/sallyport/sallyport/audit"
)

// WriteGroups writes what was counted together, a line each. head names what they
// have in common.
func WriteGroups(w io.Writer, head string, groups []audit.Group, s Screen) error {
	number := func(n int64) string { return strconv.FormatInt(n, 10) }
	rows := [][]string{{"ATTEMPTS", "DENIED", "ALLOWED", "LOST", head, "FIRST", "LAST"}}
	minima := []int{0, 0, 0, 0, 10, 0, 0}
	layout := wholeTime
	if s.Width > 0 && s.Width < withAll {
		layout = narrow
	}
	for _, g := range groups {
		rows = append(rows, []string{number(g.Attempts), number(g.Denied), number(g.Allowed), number(g.Lost),
			cmp.Or(audit.Printable(g.Key), "-"), s.time(g.First, layout), s.time(g.Last, layout)})
	}
	if s.Width > 0 && s.Width < withTheRest {
		rows, minima = only(rows, 0, 1, 4), []int{0, 0, 10}
	}
	return writeRows(w, rows, minima, s)
}

// only keeps some columns.
func only(rows [][]string, columns ...int) [][]string {
	kept := make([][]string, len(rows))
	for i, row := range rows {
		for _, c := range columns {
			kept[i] = append(kept[i], row[c])
		}
	}
	return kept
}

// WriteNovelties writes destinations that are new, a line each.
func WriteNovelties(w io.Writer, all []audit.Novelty, s Screen) error {
	rows := [][]string{{"FIRST SEEN", "PROJECT", "DESTINATION", "VERDICT", "PROCESS", "WHY"}}
	minima := []int{0, 8, 12, 0, 8, 8}
	layout := wholeTime
	if s.Width > 0 && s.Width < withAll {
		layout = narrow
	}
	for _, n := range all {
		rows = append(rows, []string{s.time(n.First.Time, layout), audit.Printable(n.Project), audit.Printable(n.Target),
			audit.Printable(n.First.Verdict), Process(n.First.Process), audit.Printable(n.First.Reason)})
	}
	if s.Width > 0 && s.Width < withTheRest {
		rows, minima = only(rows, 0, 2, 3), []int{0, 10, 0}
	}
	return writeRows(w, rows, minima, s)
}

func writeRows(w io.Writer, rows [][]string, minima []int, s Screen) error {
	b := bufio.NewWriter(w)
	widths := fit(rows, minima, nil, s.Width)
	for _, row := range rows {
		line(b, tableLine(row, widths, s, ""))
	}
	return flush(b, "the table")
}

// WriteTotals says how many attempts there were, in a sentence on as many lines
// as it needs.
func WriteTotals(w io.Writer, t audit.Totals, s Screen) error {
	text := fmt.Sprintf("%d attempts: %d refused, %d allowed", t.Attempts, t.Denied, t.Allowed)
	if t.Lost > 0 {
		text += fmt.Sprintf("; %d more known by their number alone", t.Lost)
	}
	_, err := fmt.Fprintln(w, strings.Join(wrap(text, s.Width), "\n"))
	return err
}
