package web

import (
	"cmp"
	"context"
	"net/http"

	"github.com/sallyport/sallyport/audit"
)

// pageEntries is how many events the list shows at a time.
const pageEntries = 100

// list is the list of events that a filter chooses, the newest first.
type list struct {
	layout
	Totals  audit.Totals
	Rows    []row
	Older   string // link to the next page; empty: this is the last
	Newest  string // link to the first page; empty: this is it
	Command string // that prints the same
}

func (s *Server) list(ctx context.Context, r *http.Request, reader record) (any, error) {
	q, err := parseQuery(r.URL.Query(), s.now(), s.loc())
	if err != nil {
		return nil, badQuery{err}
	}
	v := list{layout: s.layout("Events", r, q), Command: command(q)}
	if err := s.fill(ctx, reader, q, &v); err != nil {
		return nil, err
	}
	return v, nil
}

// fill asks the record for the events of one page.
func (s *Server) fill(ctx context.Context, r record, q query, v *list) (err error) {
	refused := q.filter
	refused.Denied = refused.Denied || q.New || !refused.Allowed
	found, err := r.Novel(ctx, refused)
	if err != nil {
		return err
	}
	novel := map[string]bool{}
	for _, n := range found {
		novel[noveltyKey(n.Project, n.Target)] = true
	}
	if v.Totals, err = r.Totals(ctx, q.filter); err != nil {
		return err
	}
	var chosen []audit.Event
	if q.New {
		for _, n := range found {
			chosen = append(chosen, n.First)
		}
	} else if chosen, err = events(ctx, r, q.filter, audit.Page{Before: q.Before, Newest: true, Limit: pageEntries + 1}); err != nil {
		return err
	}
	if len(chosen) > pageEntries {
		chosen = chosen[:pageEntries]
		v.Older = "/events" + q.with(func(q *query) { q.Before = chosen[pageEntries-1].ID })
	}
	if q.Before != "" {
		v.Newest = "/events" + q.with(func(*query) {})
	}
	for _, e := range chosen {
		v.Rows = append(v.Rows, s.newRow(e, novel))
	}
	return nil
}

// events are those of one page of the record.
func events(ctx context.Context, r record, f audit.Filter, p audit.Page) ([]audit.Event, error) {
	var all []audit.Event
	err := r.Events(ctx, f, p, func(e audit.Event) error {
		all = append(all, e)
		return nil
	})
	return all, err
}

// command is the gateway audit that prints what q chooses.
func command(q query) string {
	text := "gateway audit --since " + quote(cmp.Or(q.Since, lastDay))
	for _, f := range q.fields()[1:7] {
		if *f.value != "" {
			text += " --" + f.name + " " + quote(*f.value)
		}
	}
	for _, flag := range []struct {
		name string
		set  bool
	}{{"denied", q.Denied}, {"allowed", q.Allowed}, {"new", q.New}} {
		if flag.set {
			text += " --" + flag.name
		}
	}
	return text
}
