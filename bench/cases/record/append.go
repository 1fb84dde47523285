package record

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/bench"
	"github.com/sallyport/sallyport/bench/field"
	"golang.org/x/sync/errgroup"
)

const (
	fileSide  = "file with batched fsync"
	batchSide = "record, 64 at once"
	eachSide  = "record, one by one"
	askers    = 64 // goroutines that store one by one
	syncEvery = 100 * time.Millisecond
)

// appended compares the record with what it could be at best: lines in a file.
func appended() bench.Case {
	c := bench.Case{
		Name: "append", Title: "events/s that survive the process at once and a power loss after 100 ms, all different",
		Metrics: []bench.Metric{{Name: "events", Unit: "/s"}, {Name: "cpu", Unit: "µs", Less: true}},
		Notes: "The file has a line and a write(2) for each event and fsync every 100 ms; it can be neither searched nor checked. The record has the same lines " +
			"in SQLite, chained by their hashes, with two indexes and sums by the hour. One by one: from 64 goroutines, as many connections that are refused are. " +
			"cpu is the processor's time of the whole process for one event.",
	}
	for _, side := range []struct {
		name string
		all  func(ctx context.Context, path string, n int) error
	}{{fileSide, appendToFile}, {batchSide, appendAtOnce}, {eachSide, appendOneByOne}} {
		c.Sides = append(c.Sides, bench.Side{Name: side.name, Start: func(context.Context, *field.Field) (bench.Runner, error) {
			return &appending{all: side.all}, nil
		}})
	}
	return c
}

// appending begins a new file for each run.
type appending struct {
	all func(ctx context.Context, path string, n int) error
}

func (a *appending) Stop(context.Context) error { return nil }

func (a *appending) Run(ctx context.Context, f *field.Field) (s bench.Sample, err error) {
	dir, err := os.MkdirTemp(f.Disk, "append")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	n := f.Scale.N(200_000, 2_000)
	m, err := begin()
	if err != nil {
		return nil, err
	}
	if err := a.all(ctx, filepath.Join(dir, "audit.db"), n); err != nil {
		return nil, err
	}
	perSecond, cpu, err := m.end(n)
	return bench.Sample{"events": perSecond, "cpu": cpu}, err
}

func appendAtOnce(ctx context.Context, path string, n int) error {
	return recorded(ctx, path, n, func(s *audit.Store) error { return store(s, refused, 0, n) })
}

func appendOneByOne(ctx context.Context, path string, n int) error {
	return recorded(ctx, path, n, func(s *audit.Store) error {
		var next atomic.Int64
		var g errgroup.Group
		for range askers {
			g.Go(func() error {
				for i := next.Add(1); i <= int64(n); i = next.Add(1) {
					if _, err := s.Append(refused(int(i))); err != nil {
						return err
					}
				}
				return nil
			})
		}
		return g.Wait()
	})
}

// recorded has fill store n events in a record, and checks that they are there.
func recorded(ctx context.Context, path string, n int, fill func(*audit.Store) error) error {
	s, err := audit.Open(path, audit.Options{})
	if err != nil {
		return err
	}
	err = fill(s)
	if err := errors.Join(err, s.Close()); err != nil {
		return err
	}
	return holds(ctx, path, int64(n))
}

// holds says whether the record at path holds so many events.
func holds(ctx context.Context, path string, want int64) error {
	r, err := audit.OpenReader(path)
	if err != nil {
		return err
	}
	defer r.Close() // it was only read
	totals, err := r.Totals(ctx, audit.Filter{})
	if err == nil && totals.Events != want {
		err = fmt.Errorf("the record has %d events, not %d", totals.Events, want)
	}
	return err
}

func appendToFile(_ context.Context, path string, n int) (err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Sync(), file.Close()) }()
	var g errgroup.Group
	written := make(chan struct{})
	g.Go(func() error {
		tick := time.NewTicker(syncEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if err := file.Sync(); err != nil {
					return err
				}
			case <-written:
				return nil
			}
		}
	})
	for i := 0; i < n && err == nil; i++ {
		e := refused(i)
		e.Time = time.Now().UTC()
		var line []byte
		if line, err = audit.Encode(e); err == nil {
			_, err = file.Write(line)
		}
	}
	close(written)
	return errors.Join(err, g.Wait())
}
