package terminal

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func FuzzFilter(f *testing.F) {
	for _, tt := range filterTests {
		f.Add([]byte(tt.in), uint8(3))
	}
	f.Fuzz(func(t *testing.T, in []byte, size uint8) {
		whole := run(t, string(in))
		checkSafe(t, string(in), whole)
		for _, careless := range []bool{false, true} {
			if beyond, _ := watch(whole, careless); beyond != "" {
				t.Errorf("in  %q\nout %q\na terminal takes it for %s", in, whole, beyond)
			}
		}
		var pieces []string
		for rest := string(in); rest != ""; {
			n := min(int(size)+1, len(rest))
			pieces = append(pieces, rest[:n])
			rest = rest[n:]
		}
		if got := run(t, pieces...); got != whole {
			t.Errorf("in pieces of %d: %q, whole: %q", int(size)+1, got, whole)
		}
		if isText(string(in)) && whole != string(in) {
			t.Errorf("the text %q became %q", in, whole)
		}
		// CAN ends whatever is open: what is cut off has an end that is held back.
		closed := run(t, string(in)+"\x18")
		if again := run(t, closed); again != closed {
			t.Errorf("filtered again: %q, once: %q", again, closed)
		}
	})
}

// Wherever an agent stops, what undoes its modes finds the terminal listening,
// and is itself nothing that would not pass.
func FuzzUndo(f *testing.F) {
	for _, tt := range filterTests {
		f.Add([]byte(tt.in))
	}
	for _, s := range []string{"\x1b[?1000;1006;2004h", "\x1b[?1049h\x1b[?25l", "\x1b[?1000;1006;2004h\x1b[>1u\x1b[3 q", "\x1b[>4;2m\x1b]0;t", "\x1bc\x1b[?7l\x1b[?1049"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		var out bytes.Buffer
		filter := NewFilter(&out)
		if _, err := filter.Write(in); err != nil {
			t.Fatal(err)
		}
		undo := string(filter.Undo())
		beyond, open := watch(out.String()+undo, false)
		if beyond != "" || undo != "" && open {
			t.Errorf("after %q: %q is %s, open %v", in, undo, beyond, open)
		}
		if left := spoilt(out.String() + undo); len(left) > 0 {
			t.Errorf("after %q: %q leaves the modes %v", in, undo, left)
		}
	})
}

// setting is a sequence that sets or resets private modes.
var setting = regexp.MustCompile(`\x1b\[\?([0-9;]+)([hl])`)

// spoilt lists the private modes that are, at the end of s, as no shell expects
// them: the mouse, its encodings, focus, bracketed paste, the alternate screen, a
// hidden cursor. It knows only what has no other sequence before them.
func spoilt(s string) (left []string) {
	on := map[string]bool{"25": true, "7": true}
	if rest := setting.ReplaceAllString(s, ""); strings.Contains(strings.TrimSuffix(rest, "\x1b>\x0f\x1b(B\x1b[0m"), "\x1b") || strings.ContainsFunc(rest, func(r rune) bool { return r >= 0x80 }) {
		return nil
	}
	for _, m := range setting.FindAllStringSubmatch(s, -1) {
		for mode := range strings.SplitSeq(m[1], ";") {
			on[strings.TrimLeft(mode, "0")] = m[2] == "h"
		}
	}
	for _, mode := range []string{"1", "9", "1000", "1002", "1003", "1004", "1005", "1006", "1015", "1016", "2004", "2026", "47", "1047", "1049", "6"} {
		if on[mode] {
			left = append(left, mode)
		}
	}
	for _, mode := range []string{"25", "7"} {
		if !on[mode] {
			left = append(left, mode)
		}
	}
	return left
}

// isText says whether s is UTF-8 without any control character but those that
// only move the cursor.
func isText(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool {
		return r != '\n' && r != '\r' && r != '\t' && unicode.IsControl(r)
	})
}

// watch is a terminal's parser, made after the DEC VT500's states and apart from
// the filter: it says what of out reaches beyond the screen, and whether out
// ends within a sequence. It takes a lone C1 byte for a control character. A
// careless one decodes what is no UTF-8 as if it were.
func watch(out string, careless bool) (beyond string, open bool) {
	var text []rune
	state := "ground"
	for _, c := range codes(out, careless) {
		switch {
		case c == 0x18, c == 0x1a:
			state = "ground"
			continue
		case state == "command" && (c == 0x07 || c == 0x1b || c >= 0x80 && c < 0xa0):
			if beyond = does(text); beyond != "" {
				return beyond, true
			}
		}
		switch {
		case c == 0x1b:
			state = "escape"
		case c >= 0x80 && c < 0xa0:
			state = "ground"
			switch c {
			case 0x90, 0x98, 0x9e, 0x9f:
				return fmt.Sprintf("the string %U", c), true
			case 0x9b:
				state = "sequence"
			case 0x9d:
				state, text = "command", nil
			}
		case state == "command" && c == 0x07:
			state = "ground"
		case state == "command":
			text = append(text, c)
		case c < 0x20, c == 0x7f, state == "ground":
		case state == "escape":
			switch {
			case strings.ContainsRune("PX^_%", c):
				return fmt.Sprintf("ESC %c", c), true
			case c == '[':
				state = "sequence"
			case c == ']':
				state, text = "command", nil
			case c < 0x30:
				state = "more"
			default:
				state = "ground"
			}
		case state == "more" && c >= 0x30, state == "sequence" && c >= 0x40:
			state = "ground"
		}
	}
	if state == "command" && bytes.ContainsRune([]byte(string(text)), ';') {
		beyond = does(text) // as good as whole
	}
	return beyond, state != "ground"
}

// does says what an operating system command does beyond the screen. Where
// its number is not clear, anything.
func does(text []rune) string {
	said := strings.Map(func(c rune) rune {
		if c < 0x20 || c == 0x7f {
			return -1
		}
		return c
	}, string(text))
	number, _, _ := strings.Cut(said, ";")
	n, err := strconv.Atoi(number)
	if err != nil || n < 0 || n > 32767 || slices.Contains([]int{46, 50, 51, 52, 55, 1337, 5113, 5522}, n) {
		return fmt.Sprintf("the command %q", said)
	}
	return ""
}

// codes decodes s as UTF-8; a byte that is none stands for itself.
func codes(s string, careless bool) []rune {
	var out []rune
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 {
			if r = rune(s[i]); careless {
				r, n = overlong(s[i:])
			}
		}
		out = append(out, r)
		i += n
	}
	return out
}

// overlong decodes one character as a decoder would that looks at its first
// byte's length alone.
func overlong(s string) (r rune, n int) {
	switch c := s[0]; {
	case c >= 0xc0 && c < 0xe0:
		r, n = rune(c&0x1f), 2
	case c >= 0xe0 && c < 0xf0:
		r, n = rune(c&0x0f), 3
	default:
		return rune(c), 1
	}
	if len(s) < n {
		return rune(s[0]), 1
	}
	for _, c := range []byte(s[1:n]) {
		if c&0xc0 != 0x80 {
			return rune(s[0]), 1
		}
		r = r<<6 | rune(c&0x3f)
	}
	return r, n
}
