package audit

import (
	"testing"
	"unicode/utf8"
)

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"api.example.com":       "api.example.com",
		"bücher 日本 🎉":           "bücher 日本 🎉",
		`a\.b`:                  `a\.b`,
		"a\x1b]52;c;x\ab":       `a\x1b]52;c;x\x07b`,
		"a\r\n\tb\x7f":          `a\x0d\x0a\x09b\x7f`,
		"\u009b31m":             `\u009b31m`,
		"\xff\x9b":              `\xff\x9b`,
		"\uFFFD":                "\uFFFD",
		"a\u202eb\u2066c":       `a\u202eb\u2066c`,
		"a\u200bb\ufeffc\u00ad": `a\u200bb\ufeffc\u00ad`,
		"e\u0301 \u0336":        `e\u0301 \u0336`,
		"\u3164\u115f":          `\u3164\u115f`,
		"a\u00a0b\u2028c":       `a\u00a0b\u2028c`,
		"\U000e0041\ue000":      `\U000e0041\ue000`,
	} {
		if got := Printable(in); got != want {
			t.Errorf("Printable(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzPrintable(f *testing.F) {
	for _, s := range []string{"a", "\x1b[31m", "\u009b\xff\u202e", "e\u0301", "\xe2\x80", "日本"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := Printable(s)
		if !utf8.ValidString(got) || Printable(got) != got {
			t.Errorf("Printable(%q) = %q", s, got)
		}
		for _, r := range got {
			if r < ' ' || r >= 0x7f && r < 0xa0 || r >= 0x200b && r <= 0x200f || r >= 0x2028 && r <= 0x202e || r >= 0x2060 && r <= 0x2069 {
				t.Errorf("Printable(%q) has %U", s, r)
			}
		}
	})
}
