package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/config"
	"github.com/spf13/cobra"
)

// filterFlags choose events.
type filterFlags struct {
	since, until    moment
	denied, allowed bool
	proof           bool // with the launcher's own attempts
	layer           word
	filter          audit.Filter // what needs no reading
}

var layers = []string{string(audit.LayerModel), string(audit.LayerProxy), string(audit.LayerIntercept), string(audit.LayerDNS),
	string(audit.LayerPacket), string(audit.LayerControl)}

func (f *filterFlags) add(p process, c *cobra.Command) {
	f.layer.among = layers
	set := c.Flags()
	set.Var(&f.since, "since", "only from this `time` on, such as 10m, 2d, today or 2026-01-31")
	set.Var(&f.until, "until", "only before this `time`")
	set.BoolVar(&f.denied, "denied", false, "only what was refused")
	set.BoolVar(&f.allowed, "allowed", false, "only what was let through")
	set.BoolVar(&f.proof, "proof", f.proof, "also what the launcher itself tries before an agent starts")
	set.StringVar(&f.filter.Sandbox, "sandbox", "", "only this sandbox's `ID`")
	set.StringVar(&f.filter.Project, "project", "", "only this project's `folder`, or its last name")
	set.StringVar(&f.filter.Host, "host", "", "only hosts or addresses like this `glob`, such as '*.example.com'")
	set.StringVar(&f.filter.Process, "process", "", "only processes with this `name`, path (globs) or pid")
	set.Var(&f.layer, "layer", "only this `layer`: "+f.layer.words())
	completeWords(c, "layer", layers)
	completeWords(c, "since", []string{"10m", "1h", "today", "yesterday", "7d"})
	completeWords(c, "until", []string{"today", "yesterday"})
	for name, by := range map[string]audit.By{"sandbox": audit.BySandbox, "project": audit.ByProject, "host": audit.ByHost, "process": audit.ByProcess} {
		completeKeys(p, c, name, by)
	}
}

// read is the filter that the flags make, with dates in loc.
func (f *filterFlags) read(now time.Time, loc *time.Location) (audit.Filter, error) {
	filter := f.filter
	if f.denied && f.allowed {
		return filter, usage(errors.New("--denied and --allowed together leave nothing; hint: without either you get both"))
	}
	if !f.proof {
		filter.NotAgents = []string{audit.AgentProof}
	}
	filter.Denied, filter.Allowed, filter.Layer = f.denied, f.allowed, audit.Layer(f.layer.text)
	filter.Since, filter.Until = f.since.at(now, loc), f.until.at(now, loc)
	if !filter.Since.IsZero() && !filter.Until.IsZero() && !filter.Since.Before(filter.Until) {
		return filter, usage(fmt.Errorf("--since %s is not before --until %s; hint: a date is its first moment", f.since.text, f.until.text))
	}
	return filter, nil
}

// word is a flag that takes one of some words.
type word struct {
	text  string
	among []string
}

func (w *word) words() string { return strings.Join(w.among, ", ") }

// String implements pflag.Value.
func (w *word) String() string { return w.text }

// Type implements pflag.Value.
func (w *word) Type() string { return "word" }

// Set implements pflag.Value.
func (w *word) Set(s string) error {
	if !slices.Contains(w.among, s) {
		return errors.New("it takes one of " + w.words())
	}
	w.text = s
	return nil
}

// moment is a point in time as a user writes it; empty: none.
type moment struct{ text string }

// String implements pflag.Value.
func (m *moment) String() string { return m.text }

// Type implements pflag.Value.
func (m *moment) Type() string { return "time" }

// Set implements pflag.Value.
func (m *moment) Set(s string) error {
	if _, ok := parseMoment(s, time.Now(), time.UTC); !ok {
		return errors.New(`it takes a length of time (10m, 12h, 2d), a date (2026-01-31), both ("2026-01-31 15:04"), today or yesterday`)
	}
	m.text = s
	return nil
}

// at is the moment; zero: none.
func (m *moment) at(now time.Time, loc *time.Location) time.Time {
	t, _ := parseMoment(m.text, now, loc)
	return t
}

// momentLayouts are how a date may be written, in the zone that is asked for
// unless it names its own.
var momentLayouts = []string{"2006-01-02", "2006-01-02 15:04", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02T15:04:05", time.RFC3339Nano}

// parseMoment reads lengths of time before now (also whole days and weeks), and
// dates. ok is false if it is neither.
func parseMoment(s string, now time.Time, loc *time.Location) (t time.Time, ok bool) {
	midnight := func(days int) time.Time {
		y, m, d := now.In(loc).Date()
		return time.Date(y, m, d+days, 0, 0, 0, 0, loc)
	}
	switch s {
	case "today":
		return midnight(0), true
	case "yesterday":
		return midnight(-1), true
	case "now":
		return now, true
	}
	for _, layout := range momentLayouts {
		if t, err := time.ParseInLocation(layout, s, loc); err == nil {
			return t, true
		}
	}
	d, ok := parseLength(s)
	if !ok {
		return time.Time{}, false
	}
	return now.Add(-d), true
}

// parseLength reads what time.ParseDuration reads, and whole days and weeks.
func parseLength(s string) (time.Duration, bool) {
	var age config.Age // "2d", "1w"
	d, err := time.ParseDuration(s)
	if err != nil && s != "forever" && age.UnmarshalText([]byte(s)) == nil {
		d, err = time.Duration(age), nil
	}
	return d, err == nil && d > 0
}
