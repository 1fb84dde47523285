package record

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/bench"
	"github.com/sallyport/sallyport/bench/field"
)

// fillTime bounds how long a record is filled for one side.
const fillTime = 5 * time.Minute

// events is how cost grows with the events of the record.
func events() bench.Case {
	g := &growing{}
	c := bench.Case{
		Name: "events", Title: "cost of a record that has many events", Grows: "events", Reps: 1,
		Metrics: []bench.Metric{{Name: "append", Unit: "/s"}, {Name: "group", Unit: "ms", Less: true}, {Name: "disk", Unit: "MB", Less: true}},
		Notes: "append is the rate of the last tenth of those events, 64 at once; one in 30 is at a host that occurs once. group is `--group-by host` of the last " +
			"24 hours, in which all of them are. A side that is not filled within 5 minutes says how far it came.",
	}
	for _, n := range []int{10_000, 100_000, 1_000_000, 10_000_000} {
		c.Sides = append(c.Sides, bench.Side{Name: fmt.Sprint(n), X: float64(n), Start: func(ctx context.Context, f *field.Field) (bench.Runner, error) {
			g.users++
			sample, err := g.grow(ctx, f, f.Scale.N(n, n/1000))
			if err != nil {
				return nil, errors.Join(err, g.leave())
			}
			run := func(context.Context) (bench.Sample, error) { return sample, nil }
			return runner{run: run, stop: g.leave}, nil
		}})
	}
	return c
}

// growing is one record, to which each side adds.
type growing struct {
	dir   string // empty: there is none yet
	size  int    // events
	users int    // sides that have not left
}

// leave deletes the record once no side has it.
func (g *growing) leave() error {
	if g.users--; g.users > 0 || g.dir == "" {
		return nil
	}
	err := os.RemoveAll(g.dir)
	*g = growing{}
	return err
}

// grow adds events until there are n, and measures the last tenth of them and a
// query.
func (g *growing) grow(ctx context.Context, f *field.Field, n int) (bench.Sample, error) {
	if g.dir == "" {
		dir, err := os.MkdirTemp(f.Disk, "events")
		if err != nil {
			return nil, err
		}
		g.dir = dir
	}
	path := filepath.Join(g.dir, "audit.db")
	s, err := audit.Open(path, audit.Options{})
	if err != nil {
		return nil, err
	}
	perSecond, err := g.fill(ctx, s, n)
	if err := errors.Join(err, s.Close()); err != nil {
		return nil, err
	}
	took, err := groupByHost(ctx, path)
	if err != nil {
		return nil, err
	}
	if err := holds(ctx, path, int64(n)); err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	return bench.Sample{"append": perSecond, "group": took.Seconds() * 1e3, "disk": float64(info.Size()) / 1e6}, nil
}

// fill stores events until there are n. It returns how many a second the last tenth
// were.
func (g *growing) fill(ctx context.Context, s *audit.Store, n int) (perSecond float64, err error) {
	const step = 100 * atOnce
	until := time.Now().Add(fillTime)
	measured := n - n/10
	var m meter
	for g.size < n {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		if time.Now().After(until) {
			return 0, fmt.Errorf("stopped after %v, at %d events", fillTime, g.size)
		}
		to := min(g.size+step, n)
		if g.size < measured {
			to = min(to, measured)
		}
		if g.size == measured {
			if m, err = begin(); err != nil {
				return 0, err
			}
		}
		if err := store(s, usual, g.size, to); err != nil {
			return 0, err
		}
		g.size = to
	}
	perSecond, _, err = m.end(n - measured)
	return perSecond, err
}

// groupByHost takes the time of a query that a user makes often.
func groupByHost(ctx context.Context, path string) (time.Duration, error) {
	r, err := audit.OpenReader(path)
	if err != nil {
		return 0, err
	}
	defer r.Close() // it was only read
	began := time.Now()
	groups, err := r.Group(ctx, audit.Filter{Since: began.Add(-24 * time.Hour)}, audit.ByHost, 20, nil)
	took := time.Since(began)
	if err == nil && len(groups) == 0 {
		err = errors.New("grouped by host there is nothing")
	}
	return took, err
}
