package main

import (
	"context"
	"fmt"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/view"
	"github.com/spf13/cobra"
)

const (
	bars     = 24 // that stats aims at
	topLimit = 10 // groups of a kind that top shows
)

func newAuditTopCommand(p process) *cobra.Command {
	var filter filterFlags
	var output outputFlags
	limit := topLimit
	c := &cobra.Command{
		Use:   "top",
		Short: "Show which hosts, processes, projects and reasons there were most of",
		Long:  "Show which hosts, processes, projects and reasons there were most of, of what was\nrefused; with --allowed of what was let through.\n" + exitCodes,
		Example: `  gateway audit top --since today
  gateway audit top --project shop --limit 3
  gateway audit top --json | jq -r 'select(.by == "process") | .key'`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			filter.denied = filter.denied || !filter.allowed
			f, err := filter.read(time.Now(), output.loc())
			if err != nil {
				return err
			}
			if limit < 0 {
				return usage(fmt.Errorf("--limit %d is negative; hint: 0 for all", limit))
			}
			return p.auditTop(c.Context(), f, output, limit)
		},
	}
	filter.add(p, c)
	output.add(c, false)
	c.Flags().IntVar(&limit, "limit", topLimit, "at most so `many` of each (0: all)")
	return c
}

func (p process) auditTop(ctx context.Context, filter audit.Filter, output outputFlags, limit int) error {
	if err := output.check(); err != nil {
		return err
	}
	r, err := p.record()
	if err != nil || r == nil {
		return err
	}
	defer r.Close() // it was only read
	totals, err := r.Totals(ctx, filter)
	if err := p.damaged(err); err != nil {
		return err
	}
	if totals.Events == 0 && !output.json {
		_, err := fmt.Fprintln(p.stderr, "nothing recorded that matches")
		return err
	}
	if !output.json {
		if err := view.WriteTotals(p.stdout, totals, p.screen(output)); err != nil {
			return err
		}
	}
	for _, by := range []audit.By{audit.ByHost, audit.ByProcess, audit.ByProject, audit.ByReason} {
		groups, err := r.Group(ctx, filter, by, limit, output.loc())
		if err != nil {
			return err
		}
		if !output.json {
			fmt.Fprintln(p.stdout)
		}
		if err := p.writeGroups(by, groups, output); err != nil {
			return err
		}
	}
	return nil
}

func newAuditStatsCommand(p process) *cobra.Command {
	var filter filterFlags
	var output outputFlags
	var bucket length
	c := &cobra.Command{
		Use:   "stats",
		Short: "Show bars over time: how much was refused and allowed",
		Long:  "Show bars over time: how much was refused and allowed. Without --bucket there are\nabout two dozen bars.\n" + exitCodes,
		Example: `  gateway audit stats --since 7d
  gateway audit stats --since today --bucket 15m --denied
  gateway audit stats --json`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			f, err := filter.read(time.Now(), output.loc())
			if err != nil {
				return err
			}
			return p.auditStats(c.Context(), f, output, time.Duration(bucket))
		},
	}
	filter.add(p, c)
	output.add(c, true)
	c.Flags().Var(&bucket, "bucket", "`duration` of a bar, such as 5m, 1h or 1d")
	completeWords(c, "bucket", []string{"1m", "5m", "15m", "1h", "6h", "1d", "1w"})
	return c
}

// length is the length of a bar's time; zero: chosen.
type length time.Duration

// String implements pflag.Value.
func (l *length) String() string {
	if *l == 0 {
		return ""
	}
	return time.Duration(*l).String()
}

// Type implements pflag.Value.
func (l *length) Type() string { return "duration" }

// Set implements pflag.Value.
func (l *length) Set(s string) error {
	d, ok := parseLength(s)
	if !ok || d < time.Minute || d%time.Second != 0 {
		return fmt.Errorf("it takes a length of time of a minute or more, such as 5m, 1h or 1d")
	}
	*l = length(d)
	return nil
}

func (p process) auditStats(ctx context.Context, filter audit.Filter, output outputFlags, bucket time.Duration) error {
	if err := output.check(); err != nil {
		return err
	}
	r, err := p.record()
	if err != nil || r == nil {
		return err
	}
	defer r.Close() // it was only read
	totals, err := r.Totals(ctx, filter)
	if err := p.damaged(err); err != nil {
		return err
	}
	text := !output.json && !output.csv
	if totals.Events == 0 && text {
		_, err := fmt.Fprintln(p.stderr, "nothing recorded that matches")
		return err
	}
	if filter.Since.IsZero() && filter.Until.IsZero() || filter.Since.Before(totals.First) {
		filter.Since = totals.First // no bars before there was anything
	}
	if bucket == 0 {
		bucket = view.BucketFor(totals.Last.Sub(totals.First), bars)
	}
	buckets, err := r.Histogram(ctx, filter, bucket, output.loc())
	if err != nil {
		return err
	}
	return p.writeBars(buckets, totals, bucket, output)
}

// barLine is a bar as JSON.
type barLine struct {
	Start   time.Time `json:"start"`
	Seconds float64   `json:"seconds"`
	Denied  int64     `json:"denied"`
	Allowed int64     `json:"allowed"`
	Lost    int64     `json:"lost"`
}

func (p process) writeBars(buckets []audit.Bucket, totals audit.Totals, bucket time.Duration, o outputFlags) error {
	switch {
	case o.json:
		return writeLines(p.stdout, len(buckets), func(i int) any {
			b := buckets[i]
			return barLine{b.Start.UTC(), bucket.Seconds(), b.Denied, b.Allowed, b.Lost}
		})
	case o.csv:
		rows := [][]string{{"start", "seconds", "denied", "allowed", "lost"}}
		for _, b := range buckets {
			rows = append(rows, []string{stamp(b.Start), fmt.Sprint(bucket.Seconds()), number(b.Denied), number(b.Allowed), number(b.Lost)})
		}
		return writeCSV(p.stdout, rows)
	}
	screen := p.screen(o)
	if err := view.WriteTotals(p.stdout, totals, screen); err != nil {
		return err
	}
	return view.WriteBars(p.stdout, buckets, bucket, screen)
}
