package main

import (
	"bufio"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/view"
)

// groupLine is a group as JSON.
type groupLine struct {
	By       audit.By  `json:"by"`
	Key      string    `json:"key"`
	Attempts int64     `json:"attempts"`
	Denied   int64     `json:"denied"`
	Allowed  int64     `json:"allowed"`
	Lost     int64     `json:"lost"`
	Events   int64     `json:"events"`
	First    time.Time `json:"first"`
	Last     time.Time `json:"last"`
}

func (p process) printGroups(ctx context.Context, r *audit.Reader, filter audit.Filter, o tableOptions) error {
	by := audit.By(o.by.text)
	groups, err := r.Group(ctx, filter, by, o.limit, o.output.loc())
	if err != nil {
		return err
	}
	return p.writeGroups(by, groups, o.output)
}

func (p process) writeGroups(by audit.By, groups []audit.Group, o outputFlags) error {
	switch {
	case o.json:
		return writeLines(p.stdout, len(groups), func(i int) any {
			g := groups[i]
			return groupLine{by, audit.Printable(g.Key), g.Attempts, g.Denied, g.Allowed, g.Lost, g.Events, g.First.UTC(), g.Last.UTC()}
		})
	case o.csv:
		rows := [][]string{{"by", "key", "attempts", "denied", "allowed", "lost", "events", "first", "last"}}
		for _, g := range groups {
			rows = append(rows, []string{string(by), g.Key, number(g.Attempts), number(g.Denied), number(g.Allowed), number(g.Lost), number(g.Events), stamp(g.First), stamp(g.Last)})
		}
		return writeCSV(p.stdout, rows)
	case len(groups) == 0:
		_, err := fmt.Fprintln(p.stderr, "nothing recorded that matches")
		return err
	}
	return view.WriteGroups(p.stdout, strings.ToUpper(string(by)), groups, p.screen(o))
}

func (p process) printNovel(ctx context.Context, r *audit.Reader, filter audit.Filter, o tableOptions) error {
	all, err := r.Novel(ctx, filter)
	if err != nil {
		return err
	}
	if o.limit > 0 {
		all = all[max(len(all)-o.limit, 0):]
	}
	switch {
	case o.output.json:
		return writeLines(p.stdout, len(all), func(i int) any {
			return map[string]any{"project": audit.Printable(all[i].Project), "target": audit.Printable(all[i].Target), "first": rawEvent(all[i].First)}
		})
	case o.output.csv:
		rows := [][]string{{"first", "project", "target", "verdict", "reason", "id"}}
		for _, n := range all {
			rows = append(rows, []string{stamp(n.First.Time), n.Project, n.Target, n.First.Verdict, n.First.Reason, n.First.ID})
		}
		return writeCSV(p.stdout, rows)
	case len(all) == 0:
		_, err := fmt.Fprintln(p.stderr, "nothing new: each destination was tried before the last session of its project")
		return err
	}
	return view.WriteNovelties(p.stdout, all, p.screen(o.output))
}

// rawEvent is an event as JSON that is safe on a terminal; null if it is none.
func rawEvent(e audit.Event) json.RawMessage {
	line, err := audit.Encode(e)
	if err != nil {
		return json.RawMessage("null")
	}
	return line
}

// writeLines writes JSON, a value a line.
func writeLines(w io.Writer, n int, value func(i int) any) error {
	b := bufio.NewWriter(w)
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	for i := range n {
		if err := e.Encode(value(i)); err != nil {
			return err
		}
	}
	return b.Flush()
}

func writeCSV(w io.Writer, rows [][]string) error {
	c := csv.NewWriter(w)
	for _, row := range rows {
		for i := range row {
			row[i] = view.CSVCell(row[i])
		}
	}
	return c.WriteAll(rows)
}

func number(n int64) string { return strconv.FormatInt(n, 10) }

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }
