package battery

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/verify"
	"github.com/sallyport/sallyport/verify/probe"
)

// Verdict is what a probe shows. The zero Verdict shows nothing.
type Verdict uint8

// The verdicts.
const (
	NotProven     Verdict = iota // nobody can say
	Recorded                     // blocked, and in the record
	StoppedInside                // no packet: the kernel refused inside the container
	NotApplicable                // it works nowhere on this machine, or there is nothing to aim at
	Failed                       // it got out, or was blocked and is not in the record
)

var verdictNames = [...]string{"not proven", "blocked and recorded", "stopped inside the container", "not applicable", "failed"}

// String returns the words of the report.
func (v Verdict) String() string { return verdictNames[v] }

// MarshalText is String, for JSON.
func (v Verdict) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText is the inverse; an unknown word is NotProven.
func (v *Verdict) UnmarshalText(text []byte) error {
	*v = Verdict(max(0, slices.Index(verdictNames[:], string(text))))
	return nil
}

// Result is one probe's line of the report.
type Result struct {
	Name    string        `json:"name"`
	Group   probe.Group   `json:"group"`
	Verdict Verdict       `json:"verdict"`
	How     string        `json:"how"`               // one line
	Errno   string        `json:"errno,omitempty"`   // where it was stopped inside, or works nowhere
	Control probe.Setting `json:"control,omitempty"` // where the same attempt succeeds
	Seconds float64       `json:"seconds"`
	Why     string        `json:"why"`
	Source  string        `json:"source"`
}

// Evidence is what a run leaves to be judged.
type Evidence struct {
	Sandbox  map[string]Answer                   // by probe
	Controls map[probe.Setting]map[string]Answer // of the same probes
	Events   []audit.Event                       // the sandbox's, of this run
}

// Complete reports whether the events are all that the blocked attempts say the record
// must hold. They may come later than the refusal: the wall tells of a packet once it
// has refused it.
func (e Evidence) Complete() bool {
	for _, a := range e.Sandbox {
		if a.Finding.Outcome == verify.Blocked && slices.ContainsFunc(a.Finding.Events, func(want probe.Event) bool { return !recorded(want, e.Events) }) {
			return false
		}
	}
	return true
}

// controls are the settings in which an attempt may succeed, the weakest last.
var controls = []probe.Setting{probe.Ordinary, probe.Unconfined, probe.OwnListener, probe.BeforeEnd}

// Judge makes a result of each probe.
func Judge(list []probe.Probe, e Evidence) []Result {
	results := make([]Result, 0, len(list))
	for _, p := range list {
		results = append(results, judge(p, e))
	}
	return results
}

func judge(p probe.Probe, e Evidence) Result {
	r := Result{Name: p.Name, Group: p.Group, Why: p.Why, Source: p.Source}
	answer, ok := e.Sandbox[p.Name]
	if !ok {
		r.How = "it gave no answer"
		return r
	}
	f := answer.Finding
	r.Seconds, r.How, r.Errno = answer.Seconds, oneLine(f.Detail), f.Errno
	for _, s := range controls {
		if e.Controls[s][p.Name].Finding.Outcome == verify.Reached {
			r.Control = s
			break
		}
	}
	switch {
	case f.Outcome == verify.Reached:
		r.Verdict = Failed
	case f.Absent:
		r.Verdict = NotApplicable
	case f.Outcome == verify.StoppedInside:
		r.Verdict = StoppedInside
		if r.Control == "" {
			r.Verdict, r.How = NotApplicable, "works nowhere here: "+r.How
		}
	case f.Outcome == verify.Blocked:
		judgeRecord(&r, f, e)
	}
	return r
}

// judgeRecord judges what was blocked on its way: it is to be in the record, and its
// control is to have shown that it could have succeeded.
func judgeRecord(r *Result, f probe.Finding, e Evidence) {
	if len(f.Events) == 0 {
		r.How = "it does not say what the record must hold; " + r.How
		return
	}
	for _, want := range f.Events {
		if !recorded(want, e.Events) {
			r.Verdict, r.How = Failed, fmt.Sprintf("not in the record: %s; %s", describe(want), r.How)
			return
		}
	}
	if r.Control == "" {
		r.How = "its control does not succeed: " + controlDetail(r.Name, e) + "; " + r.How
		return
	}
	r.Verdict = Recorded
}

func controlDetail(name string, e Evidence) string {
	var said []string
	for _, s := range controls {
		if a, ok := e.Controls[s][name]; ok {
			said = append(said, fmt.Sprintf("%s: %s", s, oneLine(a.Finding.Detail)))
		}
	}
	if len(said) == 0 {
		return "none was run"
	}
	return strings.Join(said, ", ")
}

func recorded(want probe.Event, events []audit.Event) bool {
	for _, e := range events {
		if e.Denied() != want.Allowed && matches(want, e) {
			return true
		}
	}
	return false
}

func matches(want probe.Event, e audit.Event) bool {
	return (want.Layer == "" || want.Layer == e.Layer) &&
		(want.Proto == "" || want.Proto == e.Proto) &&
		(want.Dst == "" || sameAddress(want.Dst, e.Dst)) &&
		(want.Host == "" || strings.EqualFold(strings.TrimSuffix(want.Host, "."), e.Host)) &&
		(want.Rule == "" || want.Rule == e.Rule) &&
		(want.Method == "" || want.Method == e.Method) &&
		(want.Path == "" || want.Path == e.Path) &&
		(want.Status == 0 || want.Status == e.Status) &&
		strings.Contains(e.Reason, want.Reason)
}

// sameAddress compares addresses however they are written; one without a port is
// that of any port.
func sameAddress(want, got string) bool {
	if want == got {
		return true
	}
	full, err := netip.ParseAddrPort(got)
	if err != nil {
		return false
	}
	if wanted, err := netip.ParseAddrPort(want); err == nil {
		return wanted == full
	}
	addr, err := netip.ParseAddr(want)
	return err == nil && addr == full.Addr()
}

func describe(e probe.Event) string {
	var parts []string
	for _, part := range []string{string(e.Layer), e.Proto, e.Dst, e.Host, e.Rule, e.Method, e.Path, e.Reason} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, " ")
}

// Counts are the numbers of the last line.
type Counts struct {
	Probes        int `json:"probes"`
	Recorded      int `json:"recorded"`
	StoppedInside int `json:"stopped_inside"`
	NotApplicable int `json:"not_applicable"`
	Failed        int `json:"failed"`
	NotProven     int `json:"not_proven"`
}

// Count counts results.
func Count(results []Result) Counts {
	c := Counts{Probes: len(results)}
	for _, r := range results {
		switch r.Verdict {
		case Recorded:
			c.Recorded++
		case StoppedInside:
			c.StoppedInside++
		case NotApplicable:
			c.NotApplicable++
		case Failed:
			c.Failed++
		default:
			c.NotProven++
		}
	}
	return c
}

// OK says that nothing failed and nothing is open.
func (c Counts) OK() bool { return c.Probes > 0 && c.Failed == 0 && c.NotProven == 0 }

// String is the line that a run ends with.
func (c Counts) String() string {
	return fmt.Sprintf("%d probes: %d blocked and recorded, %d stopped inside the container, %d not applicable, %d failed, %d not proven",
		c.Probes, c.Recorded, c.StoppedInside, c.NotApplicable, c.Failed, c.NotProven)
}
