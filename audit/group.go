package audit

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"
)

// By says what events are grouped by.
type By string

// The groups.
const (
	ByHost    By = "host"    // see Host
	ByTarget  By = "target"  // see Target: host and port, or method and path
	ByProcess By = "process" // the executable's name
	ByProject By = "project"
	BySandbox By = "sandbox"
	ByDay     By = "day"    // as 2026-03-01, in the zone that was given
	ByReason  By = "reason" // read out of each event: slow
	ByLayer   By = "layer"
)

// Group is what the events of one key have in sum.
type Group struct {
	Key      string // empty: unknown; of a reason it may hold any character
	Events   int64  // rows, of repeats also those that are still being counted
	Attempts int64
	Denied   int64     // attempts
	Allowed  int64     // attempts
	Lost     int64     // attempts of which only the number is known; not among Attempts
	First    time.Time // UTC
	Last     time.Time
}

// Group groups the events that f chooses and returns the limit groups with the
// most attempts, those first (days: the latest ones, in their order). Limit zero:
// all. loc is the zone of days; nil: UTC.
func (r *Reader) Group(ctx context.Context, f Filter, by By, limit int, loc *time.Location) ([]Group, error) {
	a := aggregate{filter: f, key: string(by), limit: limit, order: "c DESC, l DESC, k"}
	switch by {
	case ByHost, ByTarget, ByProcess, ByProject, BySandbox, ByLayer:
	case ByReason:
		a.body = true
		a.key = fromBody("coalesce(body ->> '$.reason', '')")
	case ByDay:
		return r.days(ctx, f, limit, loc)
	default:
		return nil, fmt.Errorf("group events by %.40q: it is not known", by)
	}
	var groups []Group
	err := r.view(ctx, func(tx *sql.Tx) error {
		return a.run(ctx, tx, func(s sums) error {
			groups = append(groups, s.group())
			return nil
		})
	})
	return groups, err
}

func (s sums) group() Group {
	return Group{
		Key: s.key, Events: s.events, Attempts: s.count, Denied: s.denied, Allowed: s.count - s.denied, Lost: s.lost,
		First: fromNanos(s.first), Last: fromNanos(s.last),
	}
}

func (r *Reader) days(ctx context.Context, f Filter, limit int, loc *time.Location) ([]Group, error) {
	days := map[string]Group{}
	err := r.buckets(ctx, f, 24*time.Hour, loc, func(start time.Time, s sums) error {
		g := s.group()
		g.Key = start.Format(time.DateOnly)
		if d, ok := days[g.Key]; ok {
			g = d.plus(g)
		}
		days[g.Key] = g
		return nil
	})
	var list []Group
	for _, day := range days {
		list = append(list, day)
	}
	slices.SortFunc(list, func(a, b Group) int { return cmp.Compare(a.Key, b.Key) })
	if limit > 0 && len(list) > limit {
		list = list[len(list)-limit:]
	}
	return list, err
}

// plus is both groups together, under g's key.
func (g Group) plus(h Group) Group {
	g.Events += h.Events
	g.Attempts += h.Attempts
	g.Denied += h.Denied
	g.Allowed += h.Allowed
	g.Lost += h.Lost
	if h.First.Before(g.First) {
		g.First = h.First
	}
	if h.Last.After(g.Last) {
		g.Last = h.Last
	}
	return g
}
