package view

import (
	"bytes"
	"encoding/csv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport/sallyport/audit"
)

func TestProcess(t *testing.T) {
	for _, c := range []struct {
		p    *audit.Process
		want string
	}{
		{nil, ""},
		{&audit.Process{}, "unknown: no reason is recorded"},
		{&audit.Process{Unknown: "it had ended"}, "unknown: it had ended"},
		{curl(), "curl(123) < bash < claude"},
		{&audit.Process{PID: 1, Exe: "/bin/sh"}, "sh(1)"},
		{&audit.Process{PID: 4, Exe: "/x/a\x1b[2J", Parents: []audit.Parent{{PID: 1}}}, `a\x1b[2J(4) < ?`},
		{&audit.Process{PID: 4, Exe: "/bin/sh", Unknown: "its parents hide"}, "sh(4) (its parents hide)"},
	} {
		if got := Process(c.p); got != c.want {
			t.Errorf("%+v: %q, want %q", c.p, got, c.want)
		}
	}
}

func TestCSV(t *testing.T) {
	events := append(tableEvents(), audit.Event{Time: noon, Host: "=HYPERLINK(\"x\")", Path: "+1+2", Dst: "-3.5", Reason: "a,\"b\"\n" + hostile, Process: &audit.Process{Exe: "/bin/@x", PID: 2}})
	var b bytes.Buffer
	c, err := NewCSV(&b)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if err := c.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(strings.NewReader(b.String())).ReadAll()
	if err != nil || len(rows) != len(events)+1 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	checkText(t, "CSV", b.String(), 0)
	cell := func(row int, name string) string {
		for i, head := range rows[0] {
			if head == name {
				return rows[row][i]
			}
		}
		t.Fatalf("no column %s", name)
		return ""
	}
	last := len(rows) - 1
	for _, c := range [][2]string{
		{cell(1, "time"), "2026-03-01T12:00:00.123456789Z"}, {cell(1, "process"), "curl(123) < bash < claude"}, {cell(3, "count"), "3"}, {cell(3, "repeat_of"), "01B"},
		{cell(last, "host"), `'=HYPERLINK("x")`}, {cell(last, "path"), "'+1+2"}, {cell(last, "dst"), "-3.5"}, {cell(last, "process"), "'@x(2)"}, {cell(7, "open"), "true"},
	} {
		if c[0] != c[1] {
			t.Errorf("%q, want %q", c[0], c[1])
		}
	}
}

func TestWriteGroups(t *testing.T) {
	groups := []audit.Group{
		{Key: "api.example.com", Events: 2, Attempts: 1800, Denied: 1800, First: noon, Last: noon.Add(time.Hour)},
		{Key: "", Attempts: 3, Allowed: 3, Lost: 7, First: noon, Last: noon},
	}
	want := `ATTEMPTS  DENIED  ALLOWED  LOST  HOST             FIRST        LAST
1800      1800    0        0     api.example.com  03-01 12:00  03-01 13:00
3         0       3        7     -                03-01 12:00  03-01 12:00
`
	var b bytes.Buffer
	if err := WriteGroups(&b, "HOST", groups, Screen{Width: 80}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
	b.Reset()
	if err := WriteGroups(&b, "HOST", groups, Screen{Width: 40}); err != nil {
		t.Fatal(err)
	}
	if want := "ATTEMPTS  DENIED  HOST\n1800      1800    api.example.com\n3         0       -\n"; b.String() != want {
		t.Error(cmp.Diff(want, b.String()))
	}
}

func TestWriteBars(t *testing.T) {
	buckets := []audit.Bucket{
		{Start: noon.Truncate(time.Hour), Denied: 80, Allowed: 20}, {Start: noon.Truncate(time.Hour).Add(time.Hour)},
		{Start: noon.Truncate(time.Hour).Add(2 * time.Hour), Allowed: 1, Lost: 9},
	}
	for _, c := range []struct {
		s    Screen
		want string
	}{
		{Screen{Width: 60}, `03-01 12:00  █████████████████░░░░  80 refused, 20 allowed
03-01 13:00
03-01 14:00  ▓▓░  9 lost, 1 allowed
█ refused  ░ allowed  ▓ lost: known by number alone
`},
		{Screen{Width: 24}, `03-01 12:00  ███░
03-01 13:00
03-01 14:00  ▓░  9…allowed
█ refused  ░ allowed
`},
	} {
		var b bytes.Buffer
		if err := WriteBars(&b, buckets, time.Hour, c.s); err != nil {
			t.Fatal(err)
		}
		checkText(t, "bars", b.String(), c.s.Width)
		t.Log("\n" + b.String())
	}
	for span, want := range map[time.Duration]time.Duration{0: time.Minute, 20 * time.Minute: time.Minute, time.Hour: 5 * time.Minute, 23 * time.Hour: time.Hour, 20 * 24 * time.Hour: 24 * time.Hour, 9000 * time.Hour: 7 * 24 * time.Hour} {
		if got := BucketFor(span, 30); got != want {
			t.Errorf("%v: %v, want %v", span, got, want)
		}
	}
}

func TestShow(t *testing.T) {
	events := tableEvents()
	var b bytes.Buffer
	if err := Show(&b, Shown{Event: events[2], Head: audit.Head{Seq: 3}, Before: events[:2], After: events[3:4]}, Screen{}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"event    01C\n", "repeats  of event 01B\n", "chain    3:0000", "> 2026-03-01 12:00:02  01C", "  2026-03-01 12:00:01  01B"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("lacks %q:\n%s", want, b.String())
		}
	}
	b.Reset()
	if err := Show(&b, Shown{Event: events[0]}, Screen{Width: 50}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"executable  /usr/bin/curl\n", "parents     bash (pid 100)\n…           claude (pid 7)\n"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("lacks %q:\n%s", want, b.String())
		}
	}
}

func TestWrap(t *testing.T) {
	for _, c := range []struct {
		text  string
		width int
		want  []string
	}{
		{"", 5, []string{""}}, {"a b c", 0, []string{"a b c"}}, {"ab cd ef", 5, []string{"ab cd", "ef"}},
		{"abcdefgh", 3, []string{"abc", "def", "gh"}}, {"日本日本", 1, []string{"日", "本", "日", "本"}}, {"x 日本日本", 5, []string{"x", "日本", "日本"}},
	} {
		if diff := cmp.Diff(c.want, wrap(c.text, c.width)); diff != "" {
			t.Errorf("%q at %d: %s", c.text, c.width, diff)
		}
	}
}
