package audit

import (
	"math"
	"time"
	"unicode/utf8"
)

// maxColumn bounds (bytes) each text that is stored beside an event's body, to
// search and group by. A DNS name fits, with all of its 255 bytes escaped, and a
// port.
const maxColumn = 1100

// columns are what the database holds of an event beside its body, for queries;
// all of them are read out of it.
type columns struct {
	time    int64 // see nanos
	denied  bool
	layer   string
	sandbox string
	agent   string
	project string
	host    string // see Host
	target  string // see Target
	process string // base name of the executable; empty: unknown
	count   int64
	lost    int64
}

func columnsOf(e Event) columns {
	return columns{
		time: nanos(e.Time), denied: e.Denied(),
		layer: column(string(e.Layer)), sandbox: column(e.Sandbox), agent: column(e.Agent), project: column(e.Project),
		host: Host(e), target: Target(e), process: processName(e),
		count: e.Count, lost: e.Lost,
	}
}

// column makes s fit for a column: printable (SQLite's functions end a text at a
// zero byte) and bounded.
func column(s string) string {
	s = Printable(s)
	if len(s) <= maxColumn {
		return s
	}
	const mark = "…"
	cut := maxColumn - len(mark)
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + mark
}

// nanos is t in nanoseconds since 1970; a time that has none is the nearest that
// has.
func nanos(t time.Time) int64 {
	switch {
	case t.Before(time.Unix(0, math.MinInt64)):
		return math.MinInt64
	case t.After(time.Unix(0, math.MaxInt64)):
		return math.MaxInt64
	}
	return t.UnixNano()
}
