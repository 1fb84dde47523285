package web

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/audit"
)

// lastDay is the span of a view that names none.
const lastDay = "24h"

// maxField bounds each field of a query (bytes).
const maxField = 512

// layers are those that a filter can name, in the order of the form.
var layers = []audit.Layer{audit.LayerModel, audit.LayerProxy, audit.LayerIntercept, audit.LayerDNS, audit.LayerPacket, audit.LayerControl}

// query is what a view was asked for: the fields as they were written, which the
// form shows again, and what they mean.
type query struct {
	Since, Until, Sandbox, Project, Host, Process, Layer, Text string
	Denied, Allowed, New                                       bool
	Before                                                     string // page: only events before this id

	filter audit.Filter
}

// parseQuery reads the query of a view: the names of gateway audit's flags, and q
// for the search. Unknown fields are left alone.
func parseQuery(v url.Values, now time.Time, loc *time.Location) (query, error) {
	q := query{Since: v.Get("since"), Until: v.Get("until"), Sandbox: v.Get("sandbox"), Project: v.Get("project"), Host: v.Get("host"),
		Process: v.Get("process"), Layer: v.Get("layer"), Text: v.Get("q"), Before: v.Get("before"),
		Denied: on(v, "denied"), Allowed: on(v, "allowed"), New: on(v, "new")}
	for _, f := range q.fields() {
		if len(*f.value) > maxField {
			return query{}, fmt.Errorf("%s is longer than %d bytes", f.name, maxField)
		}
		*f.value = audit.Printable(strings.TrimSpace(*f.value)) // as all that is searched
	}
	if q.Since == "" {
		q.Since = lastDay
	}
	q.filter = audit.Filter{Denied: q.Denied, Allowed: q.Allowed, Sandbox: q.Sandbox, Project: q.Project, Host: q.Host,
		Process: q.Process, Layer: audit.Layer(q.Layer), Text: q.Text, NotAgents: []string{audit.AgentProof}}
	var err error
	if q.filter.Since, err = parseTime("since", q.Since, now, loc); err != nil {
		return q, err
	}
	if q.filter.Until, err = parseTime("until", q.Until, now, loc); err != nil {
		return q, err
	}
	if q.Layer != "" && !slices.Contains(layers, q.filter.Layer) {
		return q, errors.New("layer: there is no such one")
	}
	return q, nil
}

// on says whether a checkbox is set.
func on(v url.Values, name string) bool {
	text := v.Get(name)
	return v.Has(name) && text != "0" && text != "false"
}

type field struct {
	name  string
	value *string
}

// fields are the ones that hold text, in the order of links.
func (q *query) fields() []field {
	return []field{{"since", &q.Since}, {"until", &q.Until}, {"sandbox", &q.Sandbox}, {"project", &q.Project}, {"host", &q.Host},
		{"process", &q.Process}, {"layer", &q.Layer}, {"q", &q.Text}, {"before", &q.Before}}
}

// encode is the query of a link to the same view.
func (q query) encode() string {
	v := url.Values{}
	for _, f := range q.fields() {
		if *f.value != "" && (f.name != "since" || *f.value != lastDay) {
			v.Set(f.name, *f.value)
		}
	}
	for name, set := range map[string]bool{"denied": q.Denied, "allowed": q.Allowed, "new": q.New} {
		if set {
			v.Set(name, "1")
		}
	}
	if len(v) == 0 {
		return ""
	}
	return "?" + v.Encode()
}

// with is the link's query with one thing changed, at the first page.
func (q query) with(change func(*query)) string {
	q.Before = ""
	change(&q)
	return q.encode()
}

// Link is the query of the same view's first page.
func (q query) Link() string { return q.with(func(*query) {}) }

// Narrowed says whether more than a time is asked for.
func (q query) Narrowed() bool {
	return q.Sandbox != "" || q.Project != "" || q.Host != "" || q.Process != "" || q.Layer != "" || q.Text != "" || q.Denied || q.Allowed || q.New
}

// parseTime reads a time: how long ago ("90m", "12h", "7d"), "today", "yesterday",
// a date or a date and time of loc, or RFC 3339. Empty and "all" are the zero time.
func parseTime(name, text string, now time.Time, loc *time.Location) (time.Time, error) {
	now = now.In(loc)
	midnight := time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, loc)
	switch text {
	case "", "all":
		return time.Time{}, nil
	case "now":
		return now, nil
	case "today":
		return midnight, nil
	case "yesterday":
		return midnight.AddDate(0, 0, -1), nil
	}
	if ago, err := parseAge(text); err == nil {
		return now.Add(-ago), nil
	}
	for _, layout := range []string{"2006-01-02", "2006-01-02T15:04", "2006-01-02 15:04", "2006-01-02T15:04:05", time.RFC3339} {
		if t, err := time.ParseInLocation(layout, text, loc); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf(`%s: write how long ago ("90m", "24h", "7d"), "today", a date ("2026-03-01"), a date and time ("2026-03-01T14:30"), or "all"`, name)
}

// parseAge reads what time.ParseDuration reads, and whole days and weeks.
func parseAge(text string) (time.Duration, error) {
	for unit, length := range map[string]time.Duration{"d": 24 * time.Hour, "w": 7 * 24 * time.Hour} {
		if number, ok := strings.CutSuffix(text, unit); ok {
			n, err := strconv.Atoi(number)
			if err != nil || n <= 0 || n > 36500 {
				return 0, errors.New("not a number of days or weeks")
			}
			return min(time.Duration(n)*length, 36500*24*time.Hour), nil
		}
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return 0, errors.New("not a length of time")
	}
	return d, nil
}
