package audit

import (
	"fmt"
	"time"
)

const day = 24 * time.Hour

// checkBucket says whether time can be cut into pieces of this length.
func checkBucket(bucket time.Duration) error {
	switch {
	case bucket < time.Second || bucket%time.Second != 0:
		return fmt.Errorf("pieces of %v are not whole seconds", bucket)
	case bucket > day && bucket%day != 0:
		return fmt.Errorf("pieces of %v are not whole days", bucket)
	}
	return nil
}

// bucketOf returns when t's piece of time begins. Pieces of days begin at
// midnight in loc; shorter ones at their multiples since then, so that the last
// one of a day may be shorter.
func bucketOf(t time.Time, bucket time.Duration, loc *time.Location) time.Time {
	t = t.In(loc)
	year, month, date := t.Date()
	if bucket < day {
		start := midnight(year, month, date, loc)
		return start.Add(t.Sub(start) / bucket * bucket)
	}
	count := int64(bucket / day)
	number := time.Date(year, month, date, 0, 0, 0, 0, time.UTC).Unix() / int64(day/time.Second)
	return midnight(year, month, date-int((number%count+count)%count), loc)
}

// following returns when the piece of time after the one at start begins.
func following(start time.Time, bucket time.Duration) time.Time {
	year, month, date := start.Date()
	if bucket >= day {
		return midnight(year, month, date+int(bucket/day), start.Location())
	}
	next, tomorrow := start.Add(bucket), midnight(year, month, date+1, start.Location())
	if next.After(tomorrow) {
		return tomorrow
	}
	return next
}

// midnight is when a day begins in loc: an hour late where the clock is put
// forward at that time.
func midnight(year int, month time.Month, date int, loc *time.Location) time.Time {
	start := time.Date(year, month, date, 0, 0, 0, 0, loc)
	if start.Hour() != 0 {
		return time.Date(year, month, date, 1, 0, 0, 0, loc)
	}
	return start
}

// grain is the longest time by which the database can sum up so that each sum
// belongs to one piece of time: an hour, whatever is longer; in a zone that is not
// whole hours away from UTC, quarters of one.
func grain(bucket time.Duration, loc *time.Location) time.Duration {
	longest := hour
	for year := 2020; year < 2040; year++ {
		for _, month := range []time.Month{time.January, time.July} {
			if _, offset := time.Date(year, month, 1, 0, 0, 0, 0, loc).Zone(); offset%3600 != 0 {
				longest = 15 * time.Minute
			}
		}
	}
	return gcd(bucket, longest)
}

func gcd(a, b time.Duration) time.Duration {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
