package audit

import (
	"strings"
	"testing"
	"time"
)

func TestBuckets(t *testing.T) {
	tests := []struct {
		zone   string
		bucket time.Duration
		at     string // UTC
		starts string // in the zone, of the piece and of the next
	}{
		{"UTC", time.Hour, "2026-03-01T12:59:59Z", "03-01 12:00, 03-01 13:00"},
		{"UTC", 7 * time.Minute, "2026-03-01T23:59:00Z", "03-01 23:55, 03-02 00:00"},
		{"Asia/Kathmandu", time.Hour, "2026-03-01T12:20:00Z", "03-01 18:00, 03-01 19:00"},
		{"Asia/Kathmandu", day, "2026-03-01T18:15:00Z", "03-02 00:00, 03-03 00:00"},
		{"Europe/Berlin", day, "2026-03-29T12:00:00Z", "03-29 00:00, 03-30 00:00"},                 // 23 hours
		{"Europe/Berlin", 6 * time.Hour, "2026-03-29T03:00:00Z", "03-29 00:00, 03-29 07:00"},       // 6 hours, by the clock 7
		{"Europe/Berlin", 6 * time.Hour, "2026-10-25T22:30:00Z", "10-25 23:00, 10-26 00:00"},       // 25 hours: the rest
		{"America/Havana", day, "2026-03-08T12:00:00Z", "03-08 01:00, 03-09 00:00"},                // no midnight
		{"America/Havana", time.Hour, "2026-03-08T04:30:00Z", "03-07 23:00, 03-08 01:00"},          // before it
		{"Europe/Berlin", 7 * day, "2026-03-30T12:00:00Z", "03-26 00:00, 04-02 00:00"},             // weeks since 1970, a Thursday
		{"America/St_Johns", 15 * time.Minute, "2026-03-01T12:29:59Z", "03-01 08:45, 03-01 09:00"}, // half an hour off
	}
	for _, tt := range tests {
		loc, err := time.LoadLocation(tt.zone)
		if err != nil {
			t.Fatal(err)
		}
		at, err := time.Parse(time.RFC3339, tt.at)
		if err != nil {
			t.Fatal(err)
		}
		start := bucketOf(at, tt.bucket, loc)
		next := following(start, tt.bucket)
		if got := start.Format("01-02 15:04, ") + next.Format("01-02 15:04"); got != tt.starts {
			t.Errorf("%s, %v of %s: %s, want %s", tt.zone, tt.bucket, tt.at, got, tt.starts)
		}
		if at.Before(start) || !at.Before(next) || !bucketOf(next, tt.bucket, loc).Equal(next) {
			t.Errorf("%s, %v of %s: from %v to %v", tt.zone, tt.bucket, tt.at, start, next)
		}
	}
}

func TestHistogramBounds(t *testing.T) {
	r := fill(t, timed(0, 3)...).reader()
	tests := []struct {
		f      Filter
		bucket time.Duration
		count  int
		err    string
	}{
		{Filter{}, time.Hour, 1, ""},
		{Filter{Since: noon.Add(-day), Until: noon.Add(time.Hour)}, time.Hour, 26, ""},
		{Filter{Since: noon.Add(-day), Until: noon}, time.Hour, 25, ""}, // all empty
		{Filter{Since: noon.Add(time.Second)}, time.Hour, 0, ""},
		{Filter{Since: noon.Add(-9999 * day)}, time.Hour, 0, "more than 10000 pieces"},
		{Filter{}, time.Millisecond, 0, "not whole seconds"},
		{Filter{}, -time.Hour, 0, "not whole seconds"},
		{Filter{}, 36 * time.Hour, 0, "not whole days"},
	}
	for _, tt := range tests {
		got, err := r.Histogram(t.Context(), tt.f, tt.bucket, nil)
		if len(got) != tt.count || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%+v, %v: %d pieces, %v", tt.f, tt.bucket, len(got), err)
		}
	}
}
