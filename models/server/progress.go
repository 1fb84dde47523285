package server

import (
	"cmp"
	"time"
)

// Progress is how far a server is that loads.
type Progress struct {
	Stage   string        // one of the Stage constants
	Text    string        // the same for people, printable, one line
	Percent int           // of the stage; -1: unknown
	Elapsed time.Duration // since the server was started
	Left    time.Duration // until it is ready, judged by its last start; below zero: unknown
	Notice  string        // something to be told once, such as a lost connection; mostly empty
}

// The stages of a start, in their order.
const (
	StageStart   = "start"    // programs and libraries
	StageWeights = "weights"  // read into memory
	StageCompile = "compile"  // torch.compile, Triton kernels
	StageKVCache = "kv-cache" // memory profiled, cache allocated
	StageGraphs  = "graphs"   // captured
	StageStartup = "startup"  // warm-up, the API's own start
)

// stages is the order in which a server goes through them, and what each is
// called until its log says more.
var stages = []struct{ name, text string }{
	{StageStart, "starting"},
	{StageWeights, "loading weights"},
	{StageCompile, "compiling"},
	{StageKVCache, "making room for the KV cache"},
	{StageGraphs, "capturing graphs"},
	{StageStartup, "starting the API"},
}

// rank is a stage's place in stages; -1: none of them.
func rank(stage string) int {
	for i, s := range stages {
		if s.name == stage {
			return i
		}
	}
	return -1
}

// tracker follows one start: it only goes forward, whatever lines come twice or
// late. It is not safe for concurrent use.
type tracker struct {
	began   time.Time
	last    map[string]time.Duration // how long each stage took last time; nil: unknown
	stage   int                      // index into stages
	entered time.Time                // when the stage began
	text    string
	percent int
	took    map[string]time.Duration // stages that are over
}

func newTracker(began time.Time, last map[string]time.Duration) *tracker {
	return &tracker{began: began, entered: began, last: last, text: stages[0].text, percent: -1, took: map[string]time.Duration{}}
}

// line takes in one line of the log and says whether anything changed.
func (t *tracker) line(line string, now time.Time) bool {
	m, ok := parseLine(line)
	if !ok {
		return t.dots(line)
	}
	to := rank(m.stage)
	switch {
	case to < t.stage:
		return false // another process of the server, or a line that came again
	case to > t.stage:
		t.end(now)
		t.stage, t.entered, t.text, t.percent = to, now, cmp.Or(m.text, stages[to].text), m.percent
		return true
	case m.text == "" || m.percent < t.percent:
		return false // less than what is known already, or another worker's bar
	}
	changed := m.text != t.text || m.percent != t.percent
	t.text, t.percent = m.text, m.percent
	return changed
}

// dots reads llama.cpp's bar: a dot for each percent of the weights, on a line of
// its own.
func (t *tracker) dots(line string) bool {
	n := len(line)
	if stages[t.stage].name != StageWeights || n < 2 || n > 100 || n <= t.percent || line[0] != '.' {
		return false
	}
	for i := range n {
		if line[i] != '.' {
			return false
		}
	}
	t.percent = n
	return true
}

// end notes how long the present stage took.
func (t *tracker) end(now time.Time) {
	t.took[stages[t.stage].name] = max(0, now.Sub(t.entered))
}

// progress is how far the start is now.
func (t *tracker) progress(now time.Time) Progress {
	return Progress{
		Stage: stages[t.stage].name, Text: t.text, Percent: t.percent,
		Elapsed: max(0, now.Sub(t.began)), Left: t.left(now),
	}
}

// left is what the last start needed for the rest of this stage and for those
// to come. Where this stage shows a percentage, that is the better measure.
func (t *tracker) left(now time.Time) time.Duration {
	if len(t.last) == 0 {
		return -1
	}
	in := max(0, now.Sub(t.entered))
	left := max(0, t.last[stages[t.stage].name]-in)
	if t.percent >= 5 {
		left = in * time.Duration(100-min(t.percent, 100)) / time.Duration(t.percent)
	}
	for _, s := range stages[t.stage+1:] {
		left += t.last[s.name]
	}
	if left <= 0 {
		return -1 // it takes longer than last time: nobody knows how much
	}
	return left
}
