package view

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport/sallyport/audit"
)

// hostile is a name that a container made up to act on a terminal.
const hostile = "evil\x1b[2J\x1b]0;x\a\r\n\u009b31m\u202e\u200b日本.example"

func curl() *audit.Process {
	return &audit.Process{PID: 123, UID: 1000, Exe: "/usr/bin/curl", Command: "curl -H 'Authorization: ***' https://x.example",
		Parents: []audit.Parent{{PID: 100, Name: "bash"}, {PID: 7, Name: "claude"}}}
}

func tableEvents() []audit.Event {
	subject := audit.Subject{Sandbox: "k3f9"}
	at := func(seconds int) time.Time { return noon.Add(time.Duration(seconds) * time.Second) }
	return []audit.Event{
		{Time: at(0), ID: "01A", Subject: audit.Subject{Sandbox: "k3f9", Project: "/home/u/shop"}, Layer: audit.LayerDNS, Verdict: "denied", Host: "api.example.com", Method: "A", Reason: "names are not looked up", Count: 1, Process: curl()},
		{Time: at(1), ID: "01B", Subject: subject, Layer: audit.LayerProxy, Verdict: "denied", Method: "CONNECT", Host: "api.example.com", Port: 443, Reason: "not on the allow list", Count: 1, Process: &audit.Process{Unknown: "it had ended"}},
		{Time: at(2), ID: "01C", Subject: subject, Layer: audit.LayerProxy, Verdict: "denied", Method: "CONNECT", Host: "api.example.com", Port: 443, Reason: "not on the allow list", Count: 3, RepeatOf: "01B"},
		{Time: at(3), ID: "01D", Subject: subject, Layer: audit.LayerModel, Verdict: "allowed", Method: "POST", Path: "/v1/messages", Dst: "10.213.0.1:8000", Count: 1},
		{Time: at(4), ID: "01E", Subject: subject, Layer: audit.LayerIntercept, Proto: "tcp", Verdict: "denied", Dst: "203.0.113.10:443", SNI: "x.example", Count: 1},
		{Time: at(5), ID: "01F", Subject: subject, Layer: audit.LayerIntercept, Proto: "tcp", Verdict: "denied", Dst: "203.0.113.10:80", Host: "x.example", Method: "GET", Path: "/p", Count: 1},
		{Time: at(6), ID: "01G", Subject: subject, Layer: audit.LayerPacket, Verdict: "denied", Proto: "udp", Dst: "[2001:db8::9]:443", Count: 12, RepeatOf: "01A", Open: true},
		{Time: at(7), ID: "01H", Layer: audit.LayerPacket, Verdict: "denied", Rule: "lost", Reason: "they came too fast", Lost: 40, About: true},
		{Time: at(8), ID: "01I", Layer: audit.LayerControl, Verdict: "denied", Rule: "foreign-interface", Host: "veth9", Reason: "removed", Count: 1},
	}
}

func TestWriteTable(t *testing.T) {
	var b bytes.Buffer
	if err := WriteTable(&b, tableEvents(), Screen{Loc: time.FixedZone("", 3600)}); err != nil {
		t.Fatal(err)
	}
	want := `
TIME                 ID   SANDBOX    PROCESS                    WHAT                                      VERDICT  WHY                             ×
2026-03-01 13:00:00  01A  k3f9/shop  curl(123) < bash < claude  dns A api.example.com                     denied   names are not looked up
2026-03-01 13:00:01  01B  k3f9       unknown: it had ended      proxy api.example.com:443         denied   not on the allow list
2026-03-01 13:00:02  01C  k3f9                                  proxy api.example.com:443         denied   not on the allow list  +3
2026-03-01 13:00:03  01D  k3f9                                  model POST /v1/messages                   allowed
2026-03-01 13:00:04  01E  k3f9                                  tcp 203.0.113.10:443 (x.example)          denied
2026-03-01 13:00:05  01F  k3f9                                  http GET 203.0.113.10:80/p (x.example)    denied
2026-03-01 13:00:06  01G  k3f9                                  udp [2001:db8::9]:443                     denied     +12…
2026-03-01 13:00:07  01H                                        packet about 40 lost                      denied   they came too fast              ×40
2026-03-01 13:00:08  01I                                        control foreign-interface veth9           denied   removed
`
	if diff := cmp.Diff(squeeze(strings.TrimPrefix(want, "\n")), squeeze(b.String())); diff != "" {
		t.Error(diff)
	}
}

// squeeze leaves the columns' exact widths out of a comparison.
func squeeze(s string) string {
	for strings.Contains(s, "   ") {
		s = strings.ReplaceAll(s, "   ", "  ")
	}
	return s
}

func hostileEvents() []audit.Event {
	events := tableEvents()
	events[0].Host = strings.Repeat("a-long-label.", 18) + "example"
	for i := range events[1:] {
		e := &events[i+1]
		e.Host, e.SNI, e.Dst, e.Path, e.Reason, e.Rule, e.Project, e.Sandbox = hostile, hostile, hostile, hostile, hostile, hostile, hostile, hostile
		e.Method, e.Verdict, e.ID, e.RepeatOf, e.Proto, e.Agent, e.Model, e.Session = hostile, hostile, hostile, hostile, hostile, hostile, hostile, hostile
		e.Process = &audit.Process{PID: 3, Exe: "/" + hostile, Command: hostile, Parents: []audit.Parent{{Name: hostile}}, Unknown: hostile}
	}
	return events
}

// checkText fails unless every line of a text fits and moves nothing.
func checkText(t *testing.T, what, text string, width int) {
	t.Helper()
	for _, row := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		if audit.Printable(row) != row {
			t.Errorf("%s at width %d: %q", what, width, row)
		}
		if width > 0 && Cells(row) > width {
			t.Errorf("%s: %d cells of %d: %q", what, Cells(row), width, row)
		}
	}
}

// All that is written for a terminal fits it, and nothing acts on it.
func TestHostileNames(t *testing.T) {
	events := hostileEvents()
	groups := []audit.Group{{Key: hostile, Attempts: 3, First: noon}, {Key: "a.example", Attempts: 1}}
	novel := []audit.Novelty{{Project: hostile, Target: hostile, First: events[3]}}
	buckets := []audit.Bucket{{Start: noon, Denied: 123456, Allowed: 3, Lost: 9}, {Start: noon.Add(time.Hour)}, {Start: noon.Add(2 * time.Hour), Denied: 1}}
	for _, width := range []int{0, 1, 20, 40, 59, 60, 80, 110, 132, 200} {
		s := Screen{Width: width}
		for name, write := range map[string]func(*bytes.Buffer) error{
			"table":     func(b *bytes.Buffer) error { return WriteTable(b, events, s) },
			"groups":    func(b *bytes.Buffer) error { return WriteGroups(b, "HOST", groups, s) },
			"novelties": func(b *bytes.Buffer) error { return WriteNovelties(b, novel, s) },
			"bars":      func(b *bytes.Buffer) error { return WriteBars(b, buckets, time.Hour, s) },
			"show": func(b *bytes.Buffer) error {
				return Show(b, Shown{Event: events[4], Before: events[:4], After: events[5:]}, s)
			},
			"explanation": func(b *bytes.Buffer) error { return WriteExplanation(b, events[4], "config.yaml", s) },
		} {
			if width == 1 && name == "bars" {
				continue // they need 20
			}
			var b bytes.Buffer
			if err := write(&b); err != nil {
				t.Fatal(err)
			}
			checkText(t, name, b.String(), width)
		}
	}
	sum := Summarize(events)
	checkText(t, "summary", strings.Join(sum.Lines(99, 40), "\n"), 40)
}

func TestTableKeepsWhatCounts(t *testing.T) {
	events := tableEvents()
	events[0].Host = strings.Repeat("a-long-label.", 18) + "example"
	for _, width := range []int{80, 100, 132} {
		var b bytes.Buffer
		if err := WriteTable(&b, events, Screen{Width: width}); err != nil {
			t.Fatal(err)
		}
		rows := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
		if len(rows) != len(events)+1 || !strings.HasSuffix(rows[3], "+3") || !strings.Contains(rows[1], "ample  ") {
			t.Errorf("width %d: lost a count or the end of a name:\n%s", width, b.String())
		}
	}
}

// A table of more events than are measured goes on with the widths it has.
func TestLongTable(t *testing.T) {
	var b bytes.Buffer
	table := NewTable(&b, Screen{Width: 80}, false)
	for i := range measured + 500 {
		e := tableEvents()[0]
		e.Host = fmt.Sprintf("h%d.example", i)
		if i > measured {
			e.Host = strings.Repeat("longer.", 20) + e.Host
		}
		if err := table.Add(e); err != nil {
			t.Fatal(err)
		}
		if i == measured && b.Len() == 0 {
			t.Error("nothing is written until the end")
		}
	}
	if err := table.Close(); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(b.String(), "\n"); n != measured+501 {
		t.Errorf("%d lines", n)
	}
	checkText(t, "table", b.String(), 80)
}

// Colours are the only escape sequences, and only where they are asked for.
func TestColours(t *testing.T) {
	var b bytes.Buffer
	if err := WriteTable(&b, tableEvents(), Screen{Colours: true}); err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(b.String(), "\x1b"); got != 2 || !strings.Contains(b.String(), "\x1b[2m2026-03-01 12:00:03") {
		t.Errorf("%d escapes:\n%q", got, b.String())
	}
}

type fullWriter struct{}

func (fullWriter) Write([]byte) (int, error) { return 0, errors.New("full") }

func TestWriteErrors(t *testing.T) {
	var w fullWriter
	s := Screen{Width: 80}
	c, _ := NewCSV(w)
	for i, err := range []error{
		WriteTable(w, tableEvents(), s), c.Close(), WriteGroups(w, "HOST", nil, s), WriteNovelties(w, nil, s), WriteBars(w, nil, time.Hour, s),
		Show(w, Shown{}, s), WriteExplanation(w, audit.Event{}, "", s), WriteTotals(w, audit.Totals{}, s),
	} {
		if err == nil {
			t.Errorf("%d: no error", i)
		}
	}
}
