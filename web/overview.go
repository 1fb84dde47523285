package web

import (
	"cmp"
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/sandbox"
	"golang.org/x/sync/errgroup"
)

// Sizes of the overview's lists.
const (
	topEntries    = 7
	latestEntries = 25
	maxNovel      = 12
	maxGroups     = 1000 // destinations and processes that are counted one by one
	// manyEvents are too many to go through for a view: beyond it the timeline has
	// no slots shorter than the hours that the record sums up by itself.
	manyEvents = 20_000
)

// overview is what one sees first: was anything refused, is any of it new, which
// process was it, when.
type overview struct {
	layout
	Totals       audit.Totals
	Destinations top
	Processes    top
	Novel        []novelty
	MoreNovel    int64 // entries that found no room
	NovelCount   int64 // hosts
	Chart        chart
	Sandboxes    []box
	Rows         []row
}

type novelty struct {
	What, Project, When, Link string
	Below                     int64 // so many names below What; zero: What itself
}

// NewLink leads to all that is new.
func (v overview) NewLink() string { return "/events" + v.Query.with(func(q *query) { q.New = true }) }

// top is the head of a list of groups.
type top struct {
	Entries []entry
	Count   int64
	More    bool // there are more than Count
	Of      string
}

// Counted is how many there are, and of what.
func (t top) Counted(noun string) string {
	if t.More {
		return "more than " + counted(t.Count, noun)
	}
	return counted(t.Count, noun)
}

type entry struct {
	Name     string
	Attempts int64
	Share    int // of the largest, in per cent
	Link     string
	Unknown  bool
	Below    int64 // so many names below Name; zero: Name itself
}

// answers are what the record says of one overview.
type answers struct {
	destinations, processes []audit.Group
	running                 []sandbox.State
	sandboxes               []audit.Group
	buckets                 []audit.Bucket
	novel                   []audit.Novelty
	latest                  []audit.Event
}

func (s *Server) overview(ctx context.Context, r *http.Request, reader record) (any, error) {
	q, err := parseQuery(r.URL.Query(), s.now(), s.loc())
	if err != nil {
		return nil, badQuery{err}
	}
	totals, err := reader.Totals(ctx, q.filter)
	if err != nil {
		return nil, err
	}
	since, until := s.extent(q, totals)
	step := stepFor(until.Sub(since))
	if totals.Events > manyEvents {
		step = max(step, time.Hour)
	}
	a, err := s.ask(ctx, reader, q, step)
	if err != nil {
		return nil, err
	}
	v := overview{layout: s.layout("Overview", r, q), Totals: totals, Chart: newChart(a.buckets, since, until, step, q, s.loc())}
	v.Destinations = s.newTop(gather(a.destinations), q, func(q *query, key string) { q.Host = key })
	v.Processes = s.newTop(a.processes, q, func(q *query, key string) { q.Process = key })
	v.Destinations.count(a.destinations)
	v.Processes.count(a.processes)
	v.Sandboxes = s.boxes(a.running, a.sandboxes)
	novel := s.novelties(&v, a.novel, q)
	for _, e := range a.latest {
		v.Rows = append(v.Rows, s.newRow(e, novel))
	}
	return v, nil
}

// extent is the time that the timeline is about: that of the query, without what
// is empty before its first event.
func (s *Server) extent(q query, totals audit.Totals) (since, until time.Time) {
	until = cmp.Or(q.filter.Until, s.now())
	since = cmp.Or(totals.First, q.filter.Since, until)
	if until.Sub(since) < time.Hour {
		since = until.Add(-time.Hour)
	}
	return since, until
}

// ask asks the record everything that the overview shows, at the same time.
func (s *Server) ask(ctx context.Context, r record, q query, step time.Duration) (a answers, err error) {
	refused := q.filter
	refused.Denied, refused.Allowed = !q.Allowed || q.Denied, q.Allowed && !q.Denied
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) { a.buckets, err = r.Histogram(ctx, q.filter, step, s.loc()); return err })
	g.Go(func() (err error) {
		a.destinations, err = r.Group(ctx, refused, audit.ByHost, maxGroups, s.loc())
		return err
	})
	g.Go(func() (err error) {
		a.processes, err = r.Group(ctx, refused, audit.ByProcess, maxGroups, s.loc())
		return err
	})
	if a.running = s.Sandboxes(); len(a.running) > 0 {
		g.Go(func() (err error) {
			a.sandboxes, err = r.Group(ctx, refused, audit.BySandbox, maxGroups, s.loc())
			return err
		})
	}
	g.Go(func() (err error) { a.novel, err = r.Novel(ctx, refused); return err })
	g.Go(func() (err error) {
		a.latest, err = events(ctx, r, refused, audit.Page{Newest: true, Limit: latestEntries})
		return err
	})
	return a, g.Wait()
}

// count counts the groups that have attempts.
func (t *top) count(groups []audit.Group) {
	for _, g := range groups {
		if g.Attempts > 0 {
			t.Count++
		}
	}
	t.More = len(groups) >= maxGroups
}

// newTop is the head of groups, each with a link to its events.
func (s *Server) newTop(groups []audit.Group, q query, narrow func(*query, string)) top {
	t := top{Of: "refused"}
	if q.Allowed && !q.Denied {
		t.Of = "allowed"
	}
	for _, g := range groups[:min(topEntries, len(groups))] {
		if g.Attempts == 0 { // lost ones alone, of which nothing else is known
			continue
		}
		e := entry{Name: audit.Printable(g.Key), Attempts: g.Attempts, Unknown: g.Key == ""}
		if name, below := strings.CutPrefix(e.Name, "*."); below {
			e.Name, e.Below = name, g.Events
		}
		e.Share = scaled(g.Attempts, groups[0].Attempts, 100)
		if !e.Unknown {
			e.Link = "/events" + q.with(func(q *query) {
				narrow(q, g.Key)
				q.Denied, q.Allowed = t.Of == "refused", t.Of == "allowed"
			})
		}
		t.Entries = append(t.Entries, e)
	}
	return t
}

// novelties puts what is new into v, and returns the keys of all that is.
func (s *Server) novelties(v *overview, found []audit.Novelty, q query) map[string]bool {
	novel, hosts, below := map[string]bool{}, map[string]bool{}, map[string]int64{}
	for _, n := range found {
		novel[noveltyKey(n.Project, n.Target)] = true
		hosts[audit.Host(n.First)] = true
		below[parent(audit.Host(n.First))]++
	}
	shown := map[string]bool{}
	for _, n := range found {
		r := s.newRow(n.First, nil)
		one := novelty{What: audit.Printable(n.Target), Project: r.Project, When: r.Time, Link: "/events/" + r.ID}
		if p := parent(audit.Host(n.First)); p != "" && below[p] >= manyNames {
			if shown[p] {
				continue
			}
			shown[p] = true
			one.What, one.Below = audit.Printable(p), below[p]
			one.Link = "/events" + q.with(func(q *query) { q.Host, q.New = "*."+p, true })
		}
		if len(v.Novel) == maxNovel {
			v.MoreNovel++
			continue
		}
		v.Novel = append(v.Novel, one)
	}
	v.NovelCount = int64(len(hosts))
	return novel
}
