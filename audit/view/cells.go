package view

import (
	"strings"

	"golang.org/x/text/width"
)

// Cells returns how many cells of a terminal a printable s takes.
func Cells(s string) int {
	n := 0
	for _, r := range s {
		n += cells(r)
	}
	return n
}

func cells(r rune) int {
	if r < 0x80 {
		return 1
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	}
	return 1
}

// Shorten cuts a printable s in its middle, so that it takes at most max cells:
// of a long name both ends say something.
func Shorten(s string, max int) string {
	if Cells(s) <= max {
		return s
	}
	if max <= 0 {
		return ""
	}
	runes := []rune(s)
	head, tail := 0, len(runes)
	for room := max - 1; ; { // one cell is the mark's
		front := (len(runes)-tail >= head)
		next := runes[head]
		if !front {
			next = runes[tail-1]
		}
		if room -= cells(next); room < 0 {
			return string(runes[:head]) + "…" + string(runes[tail:])
		}
		if front {
			head++
		} else {
			tail--
		}
	}
}

// pad fills a printable s up to n cells.
func pad(s string, n int) string {
	return s + strings.Repeat(" ", max(0, n-Cells(s)))
}
