package view

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/sallyport/sallyport/audit"
)

// bucketLengths are the lengths that BucketFor chooses from.
var bucketLengths = []time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour, 6 * time.Hour, 24 * time.Hour, 7 * 24 * time.Hour}

// BucketFor chooses how long each bar's time is, so that a span of time gets at
// most so many bars; more only where weeks are too short.
func BucketFor(span time.Duration, bars int) time.Duration {
	for _, length := range bucketLengths {
		if span <= length*time.Duration(max(bars-1, 1)) {
			return length
		}
	}
	return bucketLengths[len(bucketLengths)-1]
}

// Marks of a bar: refused and lost are told apart from allowed without colours.
const (
	markDenied  = "█"
	markLost    = "▓"
	markAllowed = "░"
)

// WriteBars writes a bar for each time: what was refused, lost and allowed. The
// longest fits the screen, of 20 cells at least; without a width it is 40 long.
func WriteBars(w io.Writer, buckets []audit.Bucket, length time.Duration, s Screen) error {
	b := bufio.NewWriter(w)
	layout := narrow
	if length >= 24*time.Hour {
		layout = "2006-01-02"
	}
	most, numbers, widest := int64(0), make([]string, len(buckets)), 0
	for i, bucket := range buckets {
		most = max(most, bucket.Denied+bucket.Lost+bucket.Allowed)
		numbers[i] = countsOf(bucket)
		widest = max(widest, Cells(numbers[i]))
	}
	room := 40
	if s.Width > 0 {
		room = max(s.Width-len(layout)-2*len(gap)-widest, 4)
	}
	for i, bucket := range buckets {
		when := s.time(bucket.Start, layout) + gap
		bar, cells := s.bar(bucket, most, room)
		rest := gap + numbers[i]
		if s.Width > 0 { // the numbers go first where there is no room
			rest = Shorten(rest, max(s.Width-len(when)-cells, 0))
		}
		line(b, strings.TrimRight(when+bar+strings.TrimRight(rest, " "), " "))
	}
	legend := fmt.Sprintf("%s refused  %s allowed", s.paint(red, markDenied), s.paint(green, markAllowed))
	if s.Width <= 0 || s.Width >= 52 {
		line(b, legend+fmt.Sprintf("  %s lost: known by number alone", markLost))
	} else {
		line(b, legend)
	}
	return flush(b, "the bars")
}

// bar is one bar, and how many cells it takes.
func (s Screen) bar(b audit.Bucket, most int64, room int) (string, int) {
	var text strings.Builder
	cells := 0
	for _, part := range []struct {
		n            int64
		mark, colour string
	}{{b.Denied, markDenied, red}, {b.Lost, markLost, red}, {b.Allowed, markAllowed, green}} {
		n := scaled(part.n, most, room)
		n = min(n, room-cells)
		text.WriteString(s.paint(part.colour, strings.Repeat(part.mark, n)))
		cells += n
	}
	return text.String(), cells
}

// scaled is how many of room cells n of most takes: at least one if there is any.
func scaled(n, most int64, room int) int {
	if n <= 0 || most <= 0 {
		return 0
	}
	return max(int(float64(n)/float64(most)*float64(room)+0.5), 1)
}

// countsOf is as "12 refused, 3 allowed"; empty: nothing happened.
func countsOf(b audit.Bucket) string {
	var parts []string
	for _, c := range []struct {
		n    int64
		what string
	}{{b.Denied, "refused"}, {b.Lost, "lost"}, {b.Allowed, "allowed"}} {
		if c.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", c.n, c.what))
		}
	}
	return strings.Join(parts, ", ")
}
