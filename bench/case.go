// Package bench measures Sallyport beside what a user would pick instead: peers
// from Debian's packages or Go modules, each with the least configuration that does
// the same, and no proxy at all. All sides of a case are measured in turns within
// one run, so that only ratios within that run mean anything. What a case does is in
// the packages below bench/cases; where it happens is in bench/field.
package bench

import (
	"context"

	"github.com/sallyport/sallyport/bench/field"
)

// Names of sides that many cases share.
const (
	Ours   = "sallyport"          // as a user runs it: sandbox, wall, policy, durable record, limits
	Alone  = "sallyport, no wall" // its listener alone, on an ordinary address
	Direct = "direct"             // no proxy
)

// Case is one thing that is measured on several sides.
type Case struct {
	Name    string // "sse-1"; of letters, digits and hyphens
	Title   string // one line
	Metrics []Metric
	Sides   []Side `json:"-"` // Direct first, if there is one
	Bars    []Bar
	Notes   string // what limits it and what a reader has to know, a paragraph; may be empty
	Reps    int    // repetitions of each side; zero: 3. Noisy ones are repeated, see Run
	Grows   string // what grows along the sides, which are a curve: "rules"; empty: they are none
}

// Metric is a number that each run of a side gives.
type Metric struct {
	Name  string // key in a Sample: "p50"
	Unit  string // "µs", "/s", "kB", "MB/s", "ms", "%", "" (a count)
	Less  bool   // less is better
	Worst bool   // the worst of the runs is judged, instead of their median: for losses
}

// Sample is what one run measured: a Metric's name to its value.
type Sample map[string]float64

// Side is one of those that are compared.
type Side struct {
	Name string
	X    float64 // its place on the curve: see Case.Grows
	// Start readies it; it stays so for all repetitions. What it starts ends with
	// Stop of the Runner.
	Start func(ctx context.Context, f *field.Field) (Runner, error)
}

// Runner is a side that is ready.
type Runner interface {
	// Run measures once. An answer that is wrong or cut short is an error, not a
	// fast one.
	Run(ctx context.Context, f *field.Field) (Sample, error)
	// Stop ends what Start started.
	Stop(ctx context.Context) error
}

// Bar is what a side has to reach beside another, of medians of one run. With Base,
// that side's value is taken off both before: what each adds to it.
type Bar struct {
	Metric string
	Side   string  // empty: Ours
	Of     string  // the side it is compared with; empty: none, Bar and Aim are values
	Base   string  // usually Direct; empty: nothing is taken off
	Bar    float64 // the ratio (or value) that counts as done: at most it where less is better, else at least
	Aim    float64 // the one that we are after; zero: none
	AimOf  string  // the side that Aim is a ratio of; empty: Of
	// Reported: there is no bar but that it is measured; Bar is not looked at.
	Reported bool
}
