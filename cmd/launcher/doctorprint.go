package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/terminal"
)

// doctorReport is what launcher doctor prints as JSON.
type doctorReport struct {
	OK     bool      `json:"ok"` // nothing failed
	Counts tally     `json:"counts"`
	Checks []finding `json:"checks"`
}

// printFindings prints the findings about one place.
func printFindings(w io.Writer, title string, list []finding, colour bool) {
	fmt.Fprintf(w, "%s\n", audit.Printable(title))
	for _, f := range list {
		printFinding(w, f, colour)
	}
}

// printFinding prints a line, and below it what to do.
func printFinding(w io.Writer, f finding, colour bool) {
	fmt.Fprintf(w, "  %s %-9s %s\n", mark(f.Verdict, colour), f.Check, audit.Printable(f.Text))
	if f.Verdict == verdictOK || f.Verdict == verdictSkip {
		return
	}
	for _, line := range f.Detail {
		fmt.Fprintf(w, "                 %s\n", audit.Printable(line))
	}
	for _, hint := range f.Hints {
		fmt.Fprintf(w, "                 hint: %s\n", audit.Printable(hint))
	}
}

// mark is a verdict in four columns.
func mark(v verdict, colour bool) string {
	word := string(v)
	if v == "" {
		word = string(verdictFail)
	}
	text := word + strings.Repeat(" ", max(0, 4-len(word)))
	codes := map[string]string{"ok": "32", "warn": "33", "fail": "31", "skip": "2"}
	if code := codes[word]; colour && code != "" {
		return "\x1b[" + code + "m" + text + "\x1b[0m"
	}
	return text
}

// looking says what is being looked at, for all places at the same time.
type looking struct {
	mu    sync.Mutex
	meter *meter
	began time.Time
	where map[string]string // what is looked at, by place
	order []string
}

func newLooking(p *progress) *looking {
	return &looking{meter: p.meter("doctor"), began: time.Now(), where: map[string]string{}}
}

// at says that something is looked at; an empty what ends it.
func (l *looking) at(where, what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, known := l.where[where]; !known {
		l.order = append(l.order, where)
	}
	l.where[where] = what
	if l.meter.width == nil { // one line per place is enough where lines stay
		if what != "" {
			l.meter.show(where, "looking at "+audit.Printable(where), -1, time.Since(l.began), -1)
		}
		return
	}
	var now []string
	for _, place := range l.order {
		if l.where[place] != "" {
			now = append(now, place+": "+l.where[place])
		}
	}
	l.meter.show(where, audit.Printable(strings.Join(now, "; ")), -1, time.Since(l.began), -1)
}

// print prints between what is shown.
func (l *looking) print(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.meter.end()
	f()
}

// printGroups prints findings under the place that they are about.
func printGroups(w io.Writer, list []finding, colour bool) {
	for len(list) > 0 {
		n := 1
		for n < len(list) && list[n].Where == list[0].Where {
			n++
		}
		printFindings(w, list[0].Where, list[:n], colour)
		list = list[n:]
	}
}

// colour reports whether stdout is to have colours.
func (o *options) colour() bool { return terminal.Colours(o.environ, o.stdout) }
