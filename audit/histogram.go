package audit

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"time"
)

// maxBuckets bounds a histogram.
const maxBuckets = 10_000

var errTooMany = fmt.Errorf("more than %d pieces of time\nhint: take longer ones, or less time", maxBuckets)

// Bucket is what happened in one piece of time.
type Bucket struct {
	Start   time.Time
	Allowed int64 // attempts
	Denied  int64 // attempts
	Lost    int64 // attempts of which only the number is known
}

// Histogram counts the events that f chooses by pieces of time, each as long as
// bucket (whole seconds; days begin at midnight in loc, others at its multiples
// since then; nil: UTC): from Since, or the first event, to Until, or the last
// event, empty ones too. What repeats counted comes where the first of them was.
func (r *Reader) Histogram(ctx context.Context, f Filter, bucket time.Duration, loc *time.Location) ([]Bucket, error) {
	if err := checkBucket(bucket); err != nil {
		return nil, fmt.Errorf("histogram of the audit store: %w", err)
	}
	if loc == nil {
		loc = time.UTC
	}
	counted := map[int64]Bucket{}
	first, last := f.Since, f.Until.Add(-1)
	err := r.buckets(ctx, f, bucket, loc, func(start time.Time, s sums) error {
		b := counted[start.Unix()]
		b.Denied += s.denied
		b.Allowed += s.count - s.denied
		b.Lost += s.lost
		if counted[start.Unix()] = b; len(counted) > maxBuckets {
			return errTooMany
		}
		if f.Since.IsZero() && (first.IsZero() || start.Before(first)) {
			first = start
		}
		if f.Until.IsZero() && start.After(last) {
			last = start
		}
		return nil
	})
	if err != nil || len(counted) == 0 && (f.Since.IsZero() || f.Until.IsZero()) {
		return nil, err
	}
	return contiguous(counted, bucketOf(first, bucket, loc), last, bucket)
}

// contiguous puts what was counted in a row, from first to last, with nothing left out.
func contiguous(counted map[int64]Bucket, first, last time.Time, bucket time.Duration) ([]Bucket, error) {
	if last.Sub(first)/bucket >= maxBuckets {
		return nil, fmt.Errorf("histogram of the audit store: %w", errTooMany)
	}
	var all []Bucket
	for start := first; !start.After(last); start = following(start, bucket) {
		b := counted[start.Unix()]
		b.Start = start
		all = append(all, b)
	}
	return all, nil
}

// buckets calls each with sums and the piece of time they belong to, maybe
// several times for one.
func (r *Reader) buckets(ctx context.Context, f Filter, bucket time.Duration, loc *time.Location, each func(time.Time, sums) error) error {
	if loc == nil {
		loc = time.UTC
	}
	a := aggregate{filter: f, grain: grain(bucket, loc)}
	return r.view(ctx, func(tx *sql.Tx) error {
		return a.run(ctx, tx, func(s sums) error {
			at, err := strconv.ParseInt(s.key, 10, 64)
			if err != nil {
				return err
			}
			return each(bucketOf(fromNanos(at), bucket, loc), s)
		})
	})
}
