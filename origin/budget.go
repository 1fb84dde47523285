package origin

import (
	"time"

	"golang.org/x/sys/unix"
)

// A Finder may use the processor for fill of each second; what it does not use
// adds up to full.
const (
	fill = time.Second / 4
	full = time.Second / 4
)

// budget is the processor's time that may be spent on looking.
type budget struct {
	left time.Duration // below zero: the last look took more than was left
	at   time.Time     // when left was true
}

func newBudget(now time.Time) budget { return budget{left: full, at: now} }

// empty says whether nothing is left.
func (b *budget) empty(now time.Time) bool {
	b.refill(now)
	return b.left <= 0
}

func (b *budget) spend(now time.Time, d time.Duration) {
	b.refill(now)
	b.left -= d
}

func (b *budget) refill(now time.Time) {
	passed := now.Sub(b.at)
	if passed <= 0 {
		return
	}
	b.at = now
	b.left = min(full, b.left+time.Duration(float64(passed)*float64(fill)/float64(time.Second)))
}

// threadTime is what this thread has used of the processor.
func threadTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
