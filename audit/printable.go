package audit

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Printable returns s with everything made visible that is not a visible
// character or a space: control characters of ASCII and bytes that are not UTF-8
// as \xNN, others (C1, writing direction, zero width, combining, private use) as
// \uNNNN. The
// result is one line and moves nothing on a terminal. Doing it twice changes
// nothing; a backslash stays one, so the result is for reading, not for
// decoding.
func Printable(s string) string {
	if harmless(s) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case visible(r):
			b.WriteRune(r)
		case r < utf8.RuneSelf:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r > 0xffff:
			fmt.Fprintf(&b, `\U%08x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
		i += n
	}
	return b.String()
}

// harmless says whether all of s is visible.
func harmless(s string) bool {
	for i, r := range s {
		if !visible(r) {
			return false
		}
		if r == utf8.RuneError {
			if _, n := utf8.DecodeRuneInString(s[i:]); n == 1 {
				return false
			}
		}
	}
	return true
}

// visible says whether r takes a place of its own on a terminal and nothing
// else. Combining marks do not: they paint over their neighbours.
func visible(r rune) bool {
	if r < utf8.RuneSelf {
		return r >= ' ' && r < 0x7f
	}
	return unicode.IsPrint(r) && !unicode.In(r, unicode.M, unicode.Other_Default_Ignorable_Code_Point)
}
