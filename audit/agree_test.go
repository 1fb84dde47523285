package audit

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// random makes events and filters out of few texts, some of them hostile, so that
// filters meet events.
type random struct{ *rand.Rand }

func (r random) of(list ...string) string { return list[r.IntN(len(list))] }

func (r random) host() string {
	return r.of("", "api.example.com", "API.Example.com", "cdn.example", "x[1].example", "a*b?.example", "a\x00b.example", "é.example", "2001:db8::9", "\x1b[2J.example")
}

func (r random) text() string {
	return r.of("curl -s https://api.example.com/", `say "hi" \ there`, "naïve ÉCOLE", "tab\there", "\x00zero", "50%_done|", "", "K\u212a", "<b>&amp;</b>")
}

func (r random) time() time.Time {
	return noon.Add(time.Duration(r.IntN(5*3600)) * time.Second).Truncate([]time.Duration{1, time.Minute, time.Hour}[r.IntN(3)])
}

func (r random) event() Event {
	e := Event{
		Time: r.time(), Count: r.Int64N(4) + 1, Verdict: r.of("denied", "allowed"),
		Subject: Subject{Sandbox: r.of("s1", "s2", "s\x00", "unknown"), Agent: r.of("claude", "verify", ""), Project: r.of("/home/u/shop", "/home/u/x/shop", "shop", "/é/p", "")},
		Layer:   Layer(r.of("model", "proxy", "intercept", "dns", "packet")),
		Proto:   "tcp", Host: r.host(), Dst: r.of("", "203.0.113.9:443", "[2001:db8::9]:443", "203.0.113.10"), Port: []uint16{0, 80, 443}[r.IntN(3)],
		SNI: r.of("", "sni.Example"), Method: r.of("GET", "POST", "A"), Path: r.of("", "/v1/messages", "/Ü/"), Rule: r.of("", "deny", "flow"), Reason: r.text(),
	}
	if e.Layer == LayerModel {
		e.TokensIn, e.TokensOut = r.Int64N(100), r.Int64N(100)
	}
	if r.IntN(3) > 0 {
		e.Process = &Process{PID: r.IntN(5), Exe: r.of("", "/usr/bin/curl", "/bin/Node", "/opt/a[b]/x*y", "/é/pyth\x1bon"), Command: r.text()}
	}
	if r.IntN(10) == 0 {
		e = Event{Time: e.Time, Layer: e.Layer, Verdict: "denied", Rule: "lost", Lost: 1 + r.Int64N(9), Subject: e.Subject}
	}
	return bound(e)
}

func (r random) filter() Filter {
	var f Filter
	some := func(n int) bool { return r.IntN(n) == 0 }
	if some(3) {
		f.Since = r.time()
	}
	if some(3) {
		f.Until = r.time()
	}
	f.Denied, f.Allowed = some(4), some(4)
	if some(6) {
		f.Sandbox = r.of("s1", "s2", "s\x00", "none")
	}
	if some(6) {
		f.Project = r.of("/home/u/shop", "shop", "p", "hop", "%", "*")
	}
	if some(3) {
		f.Host = r.of("*", "*.example.com", "api.*", "API.EXAMPLE.COM", "x[1].example", "[a-z]*", "a\\*b?.example", "a??.example", "*é*", "2001:db8::*", "203.0.113.9", "a\x00*", `\x1b*`, "", "?*é.*e*")
	}
	if some(4) {
		f.Process = r.of("curl", "CURL", "*", "node", "N*", "/usr/*", "*/curl", "/opt/a[b]/*", "x[*]y", "x*y", "1", "3", "0", "pyth*", "/é/*on", "99999999999999999999")
	}
	if some(3) {
		f.Text = r.of("api.example.com:443", "CURL", "hi", `"hi"`, `\ t`, "école", "ÉCOLE", "\t", "\x00z", "%_", "|", "deny", "sni.e", "/v1", "k", "\u212a", "203", "&amp;", "\xff", "\x1b", `\x1b`, "null", "process")
	}
	if some(6) {
		f.Layer = Layer(r.of("dns", "model", "other"))
	}
	if some(6) {
		f.Layers = []Layer{Layer(r.of("dns", "proxy")), Layer(r.of("packet", "model"))}
	}
	if some(6) {
		f.Agents = []string{r.of("claude", "codex"), "verify"}[:1+r.IntN(2)]
	}
	if some(4) {
		f.NotAgents = []string{"verify", r.of("", "claude")}[:1+r.IntN(2)]
	}
	return f
}

// The database chooses the events that Match chooses, gives them in order, and
// sums up what they sum up to, whatever the filter.
func TestFilterAgrees(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := random{rand.New(rand.NewPCG(seed, 0))}
	var events []Event
	for i := range 300 {
		e := r.event()
		e.ID = fmt.Sprintf("%026d", r.Uint64()>>1)
		if i%20 == 0 && e.Verdict == "denied" {
			e.Open, e.RepeatOf, e.First, e.Last = true, "X", e.Time, e.Time.Add(time.Second)
		}
		events = append(events, e)
	}
	reader := fill(t, events...).reader()
	slices.SortFunc(events, func(a, b Event) int {
		return row{time: nanos(a.Time), id: a.ID}.order(row{time: nanos(b.Time), id: b.ID})
	})
	for range 100 {
		f := r.filter()
		var want []Event
		for _, e := range events {
			if f.Match(e) {
				want = append(want, e)
			}
		}
		if diff := cmp.Diff(want, all(t, reader, f, Page{})); diff != "" {
			t.Fatalf("%+v:\n%s", f, diff)
		}
		checkPages(t, r, reader, f, want)
		checkSums(t, r, reader, f, want)
	}
}

func checkPages(t *testing.T, r random, reader *Reader, f Filter, want []Event) {
	t.Helper()
	limit := 1 + r.IntN(50)
	var got []Event
	for p := (Page{Limit: limit, Newest: true}); ; {
		page := all(t, reader, f, p)
		got = append(got, page...)
		if len(page) < limit {
			break
		}
		p.Before = page[len(page)-1].ID
	}
	slices.Reverse(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("newest first, pages of %d, %+v:\n%s", limit, f, diff)
	}
	if len(want) == 0 {
		return
	}
	from, to := r.IntN(len(want)), r.IntN(len(want))
	if from > to {
		from, to = to, from
	}
	got = all(t, reader, f, Page{After: want[from].ID, Before: want[to].ID})
	if between := want[min(from+1, to):to]; !slices.EqualFunc(between, got, func(a, b Event) bool { return a.ID == b.ID }) {
		t.Fatalf("after %d, before %d: %d events", from, to, len(got))
	}
}

func groupKey(e Event, by By, loc *time.Location) string {
	switch c := columnsOf(e); by {
	case ByHost:
		return c.host
	case ByTarget:
		return c.target
	case ByProcess:
		return c.process
	case ByProject:
		return c.project
	case BySandbox:
		return c.sandbox
	case ByLayer:
		return c.layer
	case ByReason:
		return e.Reason
	}
	return e.Time.In(loc).Format(time.DateOnly)
}

func single(e Event) Group {
	g := Group{Events: 1, Attempts: e.Count, Lost: e.Lost, First: e.Time, Last: e.Time}
	if e.Denied() {
		g.Denied = e.Count
	} else {
		g.Allowed = e.Count
	}
	return g
}

func checkSums(t *testing.T, r random, reader *Reader, f Filter, events []Event) {
	t.Helper()
	by := []By{ByHost, ByTarget, ByProcess, ByProject, BySandbox, ByLayer, ByReason, ByDay}[r.IntN(8)]
	loc := []*time.Location{time.UTC, time.FixedZone("", 5*3600+45*60), time.FixedZone("", -7*3600)}[r.IntN(3)]
	want := map[string]Group{}
	var total Totals
	for _, e := range events {
		g := single(e)
		if before, ok := want[groupKey(e, by, loc)]; ok {
			g = before.plus(g)
		}
		g.Key = groupKey(e, by, loc)
		want[g.Key] = g
		s := single(e)
		total.Events, total.Attempts, total.Lost = total.Events+1, total.Attempts+s.Attempts, total.Lost+s.Lost
		total.Denied, total.Allowed = total.Denied+s.Denied, total.Allowed+s.Allowed
		total.TokensIn, total.TokensOut = total.TokensIn+e.TokensIn, total.TokensOut+e.TokensOut
	}
	if len(events) > 0 {
		total.First, total.Last = events[0].Time, events[len(events)-1].Time
	}
	got, err := reader.Group(t.Context(), f, by, 0, loc)
	if err != nil {
		t.Fatal(err)
	}
	byKey := map[string]Group{}
	for _, g := range got {
		byKey[g.Key] = g
	}
	if diff := cmp.Diff(want, byKey); diff != "" || len(got) != len(byKey) {
		t.Fatalf("by %s in %v, %+v:\n%s", by, loc, f, diff)
	}
	totals, err := reader.Totals(t.Context(), f)
	if diff := cmp.Diff(total, totals); diff != "" || err != nil {
		t.Fatalf("totals of %+v: %v\n%s", f, err, diff)
	}
	checkHistogram(t, r, reader, f, events, loc)
}

func checkHistogram(t *testing.T, r random, reader *Reader, f Filter, events []Event, loc *time.Location) {
	t.Helper()
	bucket := []time.Duration{time.Minute, 7 * time.Minute, 15 * time.Minute, time.Hour, 6 * time.Hour, day, 7 * day}[r.IntN(7)]
	got, err := reader.Histogram(t.Context(), f, bucket, loc)
	if err != nil {
		t.Fatal(err)
	}
	want := map[int64]Bucket{}
	for _, e := range events {
		at := bucketOf(e.Time, bucket, loc)
		b, s := want[at.Unix()], single(e)
		b.Start, b.Denied, b.Allowed, b.Lost = at, b.Denied+s.Denied, b.Allowed+s.Allowed, b.Lost+s.Lost
		want[at.Unix()] = b
	}
	for i, b := range got {
		if w := want[b.Start.Unix()]; w.Denied != b.Denied || w.Allowed != b.Allowed || w.Lost != b.Lost {
			t.Fatalf("%v from %v, %+v: %+v, want %+v", bucket, b.Start, f, b, w)
		}
		delete(want, b.Start.Unix())
		if i > 0 && !following(got[i-1].Start, bucket).Equal(b.Start) {
			t.Fatalf("%v: a gap between %v and %v", bucket, got[i-1].Start, b.Start)
		}
	}
	if len(want) > 0 {
		t.Fatalf("%v, %+v: not there: %+v", bucket, f, want)
	}
}
