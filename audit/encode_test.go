package audit

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestField(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"empty", "", ""},
		{"plain", "api.example.com", "api.example.com"},
		{"UTF-8", "bücher.example", "bücher.example"},
		{"bytes", "a\xff\x80b", `a\xff\x80b`},
		{"cut UTF-8", "a\xe2\x9d", `a\xe2\x9d`},
		{"U+FFFD itself", "a\uFFFDb", "a\uFFFDb"},
		{"control characters stay", "a\x00\x1bb", "a\x00\x1bb"},
		{"backslash stays", `a\xffb`, `a\xffb`},
		{"longest", strings.Repeat("x", MaxField), strings.Repeat("x", MaxField)},
		{"too long", strings.Repeat("x", MaxField+1), strings.Repeat("x", MaxField-22) + "…[cut, 2049 bytes]"},
		{"DNS name, all escaped", strings.Repeat(`\255`, 254), strings.Repeat(`\255`, 254)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := field(tt.in)
			if tt.name == "too long" {
				if len(got) > MaxField || !strings.HasSuffix(got, "x…[cut, 2049 bytes]") || len(got) < MaxField-1 {
					t.Errorf("field = %d bytes, ending %q", len(got), got[len(got)-30:])
				}
				return
			}
			if got != tt.want {
				t.Errorf("field(%q) = %q, want %q", tt.in, got, tt.want)
			}
		})
	}
}

func FuzzField(f *testing.F) {
	f.Add("api.example.com")
	f.Add("a\xffb")
	f.Add(strings.Repeat("é\xff", 2000))
	f.Fuzz(func(t *testing.T, s string) {
		got := field(s)
		if len(got) > MaxField || !utf8.ValidString(got) || field(got) != got {
			t.Errorf("field(%q) = %q, again %q", s, got, field(got))
		}
	})
}

// maxLine is more than an event's JSON can have: all its strings at their
// longest, every character escaped.
const maxLine = 1 << 20

// Whatever a container put into an event, its line is one line, safe on a
// terminal, and gives the same event back.
func FuzzEncode(f *testing.F) {
	f.Add("api.example.com", "\x1b]52;c;aGk=\a")
	f.Add("\u202egnp.exe\u009b31m\x7f\n", "a\xff🎉\U000e0041")
	f.Fuzz(func(t *testing.T, host, path string) {
		e := bound(Event{Time: noon, Host: host, Path: path})
		line, err := Encode(e)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.TrimSuffix(string(line), "\n")
		if len(line) > maxLine || len(text) != len(line)-1 || Printable(text) != text {
			t.Errorf("line %q", line)
		}
		var back Event
		if err := json.Unmarshal(line, &back); err != nil || back != e {
			t.Errorf("%+v came back as %+v, %v", e, back, err)
		}
	})
}

func TestAppendBoundsEveryString(t *testing.T) {
	long := strings.Repeat("\x1b", 5000)
	path := storePath(t)
	s := openStore(t, path)
	parents := make([]Parent, 1000)
	for i := range parents {
		parents[i].Name = long
	}
	process := &Process{Exe: long, Command: long, Unknown: long, Parents: parents}
	stored := mustAppend(t, s, Event{
		ID: long, Subject: Subject{long, long, long, long}, Layer: Layer(long), Proto: long, Src: long, Dst: long, Host: long,
		SNI: long, Method: long, Path: long, Rule: long, Reason: long, Session: long, RepeatOf: long, Process: process,
	})
	if process.Exe != long || len(process.Parents) != 1000 {
		t.Error("the caller's process was changed")
	}
	if len(stored.ID) != 26 || stored.RepeatOf != "" {
		t.Errorf("id %q and repeat_of %q are the caller's", stored.ID, stored.RepeatOf)
	}
	line, err := Encode(stored)
	if err != nil || len(line) > maxLine {
		t.Errorf("the line has %d bytes, %v", len(line), err)
	}
	var back Event
	if err := json.Unmarshal(line, &back); err != nil {
		t.Fatal(err)
	}
	if len(back.Process.Parents) != maxParents {
		t.Errorf("%d parents", len(back.Process.Parents))
	}
	for _, s := range append(texts(&back), (*string)(&back.Layer)) {
		if len(*s) > MaxField {
			t.Errorf("a string has %d bytes", len(*s))
		}
	}
}
