package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"
)

// verdict is what a check came to. The zero verdict is a failure.
type verdict string

// The verdicts. Only verdictFail makes doctor exit with 1.
const (
	verdictOK   verdict = "ok"
	verdictWarn verdict = "warn"
	verdictFail verdict = "fail"
	verdictSkip verdict = "skip" // it could not be looked at, or does not matter here
)

// finding is what one check found.
type finding struct {
	Where   string   `json:"where"`
	Check   string   `json:"check"`
	What    string   `json:"what"`
	Verdict verdict  `json:"verdict"`
	Text    string   `json:"text"`
	Detail  []string `json:"detail,omitempty"`  // further lines, such as each of several reasons
	Hints   []string `json:"hints,omitempty"`   // what to do
	Because string   `json:"because,omitempty"` // the check that did not come to anything, so that this one was skipped
}

func fine(format string, args ...any) finding {
	return finding{Verdict: verdictOK, Text: fmt.Sprintf(format, args...)}
}

func skipped(format string, args ...any) finding {
	return finding{Verdict: verdictSkip, Text: fmt.Sprintf(format, args...)}
}

// warned is what works and should not be left so; hint is what to do.
func warned(hint, format string, args ...any) finding {
	f := finding{Verdict: verdictWarn, Text: fmt.Sprintf(format, args...)}
	if hint != "" {
		f.Hints = []string{hint}
	}
	return f
}

// failed is an error with the hints that it holds.
func failed(err error) finding {
	f := explain(err)
	f.Verdict = verdictFail
	return f
}

// check is one entry of a table of checks about an S: a new check is a new entry.
type check[S any] struct {
	name  string   // short, unique in its table, for scripts too
	what  string   // is looked at, for people
	needs []string // checks above it in the table that must not have failed or been skipped
	run   func(S, context.Context) finding
	limit time.Duration // zero: checkTime
}

// Times for one check. None waits for an answer longer.
const (
	checkTime   = 10 * time.Second
	connectTime = 25 * time.Second // a host that has to be found and logged in to
	askTime     = 3 * time.Minute  // the same, where a passphrase may be asked for
	hostTime    = 90 * time.Second // all checks of one host and its models; askTime comes on top
)

// errTooLong is the cause of a check's end by its limit.
var errTooLong = errors.New("no answer in time")

// examine runs the checks of a table in their order, and tells each before it runs.
func examine[S any](ctx context.Context, where string, table []check[S], s S, tell func(what string)) []finding {
	var list []finding
	came := map[string]finding{}
	for _, c := range table {
		f := examineOne(ctx, c, came, s, tell)
		f.Where, f.Check, f.What = where, c.name, c.what
		came[c.name] = f
		list = append(list, f)
	}
	return list
}

func examineOne[S any](ctx context.Context, c check[S], came map[string]finding, s S, tell func(what string)) finding {
	for _, need := range c.needs {
		if n := came[need]; n.Verdict != verdictOK && n.Verdict != verdictWarn {
			first := cmp.Or(n.Because, need)
			f := skipped("because of %s above", first)
			f.Because = first
			return f
		}
	}
	if ctx.Err() != nil {
		return skipped("not looked at: %v", context.Cause(ctx))
	}
	tell(c.what)
	limit := c.limit
	if limit == 0 {
		limit = checkTime
	}
	bounded, cancel := context.WithTimeoutCause(ctx, limit, errTooLong)
	defer cancel()
	f := c.run(s, bounded)
	if f.Verdict == verdictFail && bounded.Err() != nil && ctx.Err() == nil {
		f.Detail = append([]string{f.Text}, f.Detail...)
		f.Text = fmt.Sprintf("no answer in %s", limit)
	}
	return f
}

// tally counts findings by verdict.
type tally struct {
	OK      int `json:"ok"`
	Warned  int `json:"warnings"`
	Failed  int `json:"failed"`
	Skipped int `json:"skipped"`
}

func count(list []finding) tally {
	var t tally
	for _, f := range list {
		switch f.Verdict {
		case verdictOK:
			t.OK++
		case verdictWarn:
			t.Warned++
		case verdictSkip:
			t.Skipped++
		default:
			t.Failed++
		}
	}
	return t
}

func (t tally) String() string {
	return fmt.Sprintf("%d ok, %d warned about, %d failed, %d skipped", t.OK, t.Warned, t.Failed, t.Skipped)
}
