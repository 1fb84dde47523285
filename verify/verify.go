// Package verify tries to get out. Its probes run inside a sandbox, as the agent
// would, and say of each attempt whether it was blocked; Quick is the handful of
// checks that a sandbox must pass before its agent starts. It does not look at
// the audit record, and it changes nothing: what made the sandbox is elsewhere.
package verify

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
)

// Deadline bounds one attempt.
const Deadline = 3 * time.Second

// Outcome is what became of an attempt. The zero Outcome proves nothing.
type Outcome uint8

// The outcomes.
const (
	Unproven      Outcome = iota // neither blocked nor answered for certain
	Blocked                      // refused, reset, or answered by the sandbox's own wall
	StoppedInside                // the kernel refused it before a packet existed
	Reached                      // something outside answered
)

// String returns the word that reports begin with.
func (o Outcome) String() string {
	switch o {
	case Blocked:
		return "blocked"
	case StoppedInside:
		return "stopped-inside"
	case Reached:
		return "reached"
	}
	return "unproven"
}

// MarshalText is String, for JSON.
func (o Outcome) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText is the inverse; an unknown word is Unproven.
func (o *Outcome) UnmarshalText(text []byte) error {
	*o = Unproven
	for _, known := range []Outcome{Blocked, StoppedInside, Reached} {
		if known.String() == string(text) {
			*o = known
		}
	}
	return nil
}

// Closed says that nothing got out.
func (o Outcome) Closed() bool { return o == Blocked || o == StoppedInside }

// Report is an attempt and its outcome.
type Report struct {
	Attempt
	Outcome Outcome `json:"outcome"`
	Detail  string  `json:"detail"` // one line; what came from outside is quoted and bounded
	Seconds float64 `json:"seconds"`
}

// String is the line that `gateway probe` prints.
func (r Report) String() string {
	return fmt.Sprintf("%s %s: %s", r.Outcome, strings.Join(r.Args(), " "), r.Detail)
}

// Write prints reports, one a line, as text or as JSON.
func Write(w io.Writer, asJSON bool, reports ...Report) error {
	for _, r := range reports {
		line := []byte(r.String())
		if asJSON {
			var err error
			if line, err = json.Marshal(r); err != nil {
				return fmt.Errorf("verify: encode report: %w", err)
			}
		}
		if _, err := w.Write(append(line, '\n')); err != nil {
			return fmt.Errorf("verify: write report: %w", err)
		}
	}
	return nil
}

// Probe makes one attempt and says what became of it, within Deadline or
// earlier if ctx ends.
func Probe(ctx context.Context, a Attempt) Report { return probe(ctx, a, Deadline) }

func probe(ctx context.Context, a Attempt, limit time.Duration) Report {
	start := time.Now()
	ctx, cancel := context.WithDeadline(ctx, start.Add(limit))
	defer cancel()
	r := Report{Attempt: a, Detail: "no such kind of probe"}
	for _, k := range kinds {
		if k.name == a.Kind {
			r.Outcome, r.Detail = k.run(ctx, a)
		}
	}
	r.Seconds = time.Since(start).Seconds()
	return r
}
