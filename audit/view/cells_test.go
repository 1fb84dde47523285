package view

import (
	"strings"
	"testing"

	"github.com/sallyport/sallyport/audit"
)

func TestShorten(t *testing.T) {
	for _, tt := range []struct {
		in   string
		max  int
		want string
	}{
		{"api.example.com", 15, "api.example.com"},
		{"api.example.com", 14, "api.exa…le.com"},
		{"api.example.com", 2, "a…"},
		{"api.example.com", 1, "…"},
		{"api.example.com", 0, ""},
		{"日本日本", 8, "日本日本"},
		{"日本日本", 7, "日本…本"},
		{"日本日本", 6, "日…本"},
	} {
		if got := Shorten(tt.in, tt.max); got != tt.want {
			t.Errorf("Shorten(%q, %d) = %q, want %q", tt.in, tt.max, got, tt.want)
		}
	}
	if s := Shorten(strings.Repeat("a", 300)+".example", 20); !strings.HasSuffix(s, ".example") {
		t.Errorf("%q has lost the name's end", s)
	}
}

func FuzzShorten(f *testing.F) {
	for _, s := range []string{"a", "\x1b[31m", "\u009b\xff\u202e", "e\u0301", "\xe2\x80", "日本"} {
		f.Add(s, 10)
	}
	f.Fuzz(func(t *testing.T, s string, max int) {
		s = audit.Printable(s)
		if max = max % 100; max >= 0 {
			if short := Shorten(s, max); Cells(short) > max {
				t.Errorf("Shorten(%q, %d) = %q", s, max, short)
			}
		}
	})
}
