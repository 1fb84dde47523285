package terminal

import (
	"bytes"
	"errors"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

// run filters the pieces, one Write each.
func run(t testing.TB, pieces ...string) string {
	t.Helper()
	var out bytes.Buffer
	f := NewFilter(&out)
	for _, p := range pieces {
		n, err := f.Write([]byte(p))
		if err != nil || n != len(p) {
			t.Fatalf("Write(%q) = %d, %v", p, n, err)
		}
	}
	return out.String()
}

var filterTests = []struct {
	name, in, want string
}{
	// What stays on the screen.
	{"text", "héllo ❝wörld❞ 日本 🎉\r\n", "héllo ❝wörld❞ 日本 🎉\r\n"},
	{"colours", "\x1b[1;31mred\x1b[0m", "\x1b[1;31mred\x1b[0m"},
	{"questions", "\x1b[6n\x1b[c\x1b[>q\x1b[?u", "\x1b[6n\x1b[c\x1b[>q\x1b[?u"},
	{"title", "\x1b]0;a title\a", "\x1b]0;a title\a"},
	{"title, ST", "\x1b]2;✜ tïtle\x1b\\x", "\x1b]2;✜ tïtle\x1b\\x"},
	{"title, U+009C", "\x1b]2;title\u009cx", "\x1b]2;title\u009cx"},
	{"link", "\x1b]8;;https://a.example/\x1b\\link\x1b]8;;\x1b\\", "\x1b]8;;https://a.example/\x1b\\link\x1b]8;;\x1b\\"},
	{"reset colours", "\x1b]104\a\x1b]110\x1b\\x", "\x1b]104\a\x1b]110\x1b\\x"},
	{"U+009D", "\u009d0;t\a", "\u009d0;t\a"},
	{"U+009B", "\u009b31mred", "\u009b31mred"},
	{"prefixes of 52", "\x1b]5;a\a\x1b]521;b\a\x1b]133;A\a", "\x1b]5;a\a\x1b]521;b\a\x1b]133;A\a"},
	{"charset", "\x1b(0lqk\x1b(B", "\x1b(0lqk\x1b(B"},
	{"save", "\x1b7\x1b8\x1bM\x1b\\", "\x1b7\x1b8\x1bM\x1b\\"},
	{"no UTF-8", "\xff\xe9t\xa9", "\xff\uFFFDt\xa9"},
	{"control in sequence", "\x1b[3\n1m", "\x1b[3\n1m"},
	{"digits are text", "]52;c;aaaa\a", "]52;c;aaaa\a"},

	// What does not.
	{"clipboard", "a\x1b]52;c;aGk=\ab", "ab"},
	{"clipboard, ST", "a\x1b]52;c;aGk=\x1b\\b", "ab"},
	{"clipboard, question", "a\x1b]52;c;?\u009cb", "ab"},
	{"clipboard, zeros", "a\x1b]052;c;\ab\x1b]00000000052;c;\ac", "abc"},
	{"clipboard, many zeros", "a\x1b]" + strings.Repeat("0", 99) + "52;c;\ab", "ab"},
	{"clipboard, wrapped number", "a\x1b]4294967348;c;\ab\x1b]65588;c;\ac", "abc"},
	{"clipboard, bare", "a\x1b]52\ab\x1b]52\x1b\\c", "abc"},
	{"clipboard, U+009D", "a\u009d52;c;aGk=\u009cb", "ab"},
	{"clipboard, lone 9D", "a\x9d52;c;aGk=\x9cb", "ab"},
	{"clipboard, overlong", "a\xc0\x9b]52;c;\ab\xe0\x82\x9d52;c;\ac", "a\x9b]52;c;\ab\uFFFD\x82c"},
	{"clipboard, 9D in a cut character", "a\xe2\x9d\x9dx\xe2\x9d\x9d52;c;", "a❝x❝52;c;"},
	{"clipboard, control in number", "a\x1b]5\n2;c;aGk=\ab", "ab"},
	{"clipboard, control before", "a\x1b\n]52;c;aGk=\ab", "a\nb"},
	{"clipboard, NUL and DEL before", "a\x1b\x00\x7f]52;c;aGk=\ab", "a\x00b"},
	{"clipboard, two ESC", "a\x1b\x1b]52;c;aGk=\a]52;c;b", "a]52;c;b"},
	{"clipboard, ESC and a letter", "a\x1bé]52;c;x", "aé]52;c;x"},
	{"clipboard, ESC and C1", "a\x1b\u009d52;c;\ab", "ab"},
	{"clipboard in a title", "\x1b]0;t\x1b]52;c;aGk=\ab", "\x1b]0;t\x1b\\b"},
	{"clipboard in a title, U+009D", "\x1b]0;t\u009d52;c;aGk=\ab", "\x1b]0;t\x1b\\b"},
	{"clipboard in CSI", "\x1b[3\x1b]52;c;aGk=\a1mx", "\x1b[3\x181mx"},
	{"clipboard in a charset", "\x1b(\x1b]52;c;aGk=\a0x", "\x1b(\x180x"},
	{"aborted clipboard", "a\x1b]52;c;aGk=\x18b\x1b]52;\x1ac\x1b]5\x18d", "abcd"},
	{"iTerm2", "a\x1b]1337;File=:aGk=\ab\x1b]50;CopyToClipboard=\ac", "abc"},
	{"editors", "a\x1b]51;[\"call\",\"Tapi_x\"]\ab", "ab"},
	{"kitty", "a\x1b]5522;type=write\x1b\\b\x1b]5113;ac=send\x1b\\c", "abc"},
	{"log files", "a\x1b]46;/tmp/x\ab\x1b]55;/tmp/x\ac", "abc"},
	{"no number", "a\x1b];x\ab\x1b]P0000000\ac\x1b]ltitle\x1b\\d", "abcd"},
	{"DCS", "a\x1bP+q544e\x1b\\b\x90$qm\x9cc\u0090x\u009cd", "abcd"},
	{"DCS, BEL inside", "a\x1bPx\ay\x1b\\b", "ab"},
	{"tmux passthrough", "a\x1bPtmux;\x1b\x1b]52;c;aGk=\a\x1b\\b", "a\x1b\\b"},
	{"APC", "a\x1b_Gf=24;AAAA\x1b\\b\u009fG\u009cc", "abc"},
	{"PM, SOS", "a\x1b^x\x1b\\b\x1bXy\x1b\\c\u009ez\u009cd\u0098q\u009ce", "abcde"},
	{"string ended by a sequence", "a\x1bPx\x1b[31mb", "a\x1b[31mb"},
	{"encoding switch", "a\x1b%@b\x1b%Gc\x1b%/Gd", "abcd"},
	{"unfinished", "a\x1b]52;c;aGk", "a"},
	{"unfinished number", "a\x1b]0", "a"},
	{"unfinished ESC", "a\x1b", "a"},
	{"cut character", "a\xe2\x9db\xf0\x9f\x1b[0m", "a\uFFFDb\uFFFD\x1b[0m"},
}

func TestFilter(t *testing.T) {
	for _, tt := range filterTests {
		t.Run(tt.name, func(t *testing.T) {
			if got := run(t, tt.in); got != tt.want {
				t.Errorf("in   %q\ngot  %q\nwant %q", tt.in, got, tt.want)
			}
			checkSafe(t, tt.in, run(t, tt.in))
		})
	}
}

// Wherever the input is cut, the output is the same.
func TestFilterChunks(t *testing.T) {
	var all strings.Builder
	for _, tt := range filterTests {
		all.WriteString(tt.in)
		whole := run(t, tt.in)
		for cut := range len(tt.in) {
			if got := run(t, tt.in[:cut], tt.in[cut:]); got != whole {
				t.Errorf("%s: cut at %d: %q, whole: %q", tt.name, cut, got, whole)
			}
		}
	}
	in := all.String()
	whole := run(t, in)
	for size := 1; size < 9; size++ {
		var pieces []string
		for rest := in; rest != ""; rest = rest[min(size, len(rest)):] {
			pieces = append(pieces, rest[:min(size, len(rest))])
		}
		if got := run(t, pieces...); got != whole {
			t.Errorf("in pieces of %d the output differs", size)
		}
	}
}

func TestFilterLongCommand(t *testing.T) {
	fits := "\x1b]0;" + strings.Repeat("x", maxString) + "\a"
	if got := run(t, fits); got != fits {
		t.Errorf("a command of %d bytes does not pass whole", maxString)
	}
	long := "\x1b]0;" + strings.Repeat("x", maxString+1) + "yyy\aafter"
	want := "\x1b]0;" + strings.Repeat("x", maxString) + "\x1b\\after"
	if got := run(t, long); got != want {
		t.Errorf("a longer one: got %d bytes, ending %q", len(got), got[len(got)-10:])
	}
}

// An endless string takes no memory.
func TestFilterBounded(t *testing.T) {
	f := NewFilter(&bytes.Buffer{})
	piece := bytes.Repeat([]byte("0"), 4096)
	for _, start := range []string{"\x1b]", "\x1b]52;", "\x1bP", "\x1b[?", "\x1b("} {
		f.Write([]byte(start))
		for range 100 {
			f.Write(piece)
		}
		if n := cap(f.held) + cap(f.char) + cap(f.modes.parameters); n > 512 {
			t.Errorf("after %q: %d bytes kept", start, n)
		}
		f.Write([]byte("\x18"))
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("gone") }

func TestFilterWriteError(t *testing.T) {
	f := NewFilter(broken{})
	if n, err := f.Write([]byte("x")); n != 0 || err == nil {
		t.Errorf("Write = %d, %v", n, err)
	}
	if n, err := f.Write([]byte("\x1b]52;")); n != 5 || err != nil {
		t.Errorf("a Write that passes nothing = %d, %v", n, err)
	}
}

// What must not be in the output, found in another way than the filter does.
var forbidden = regexp.MustCompile(`(\x1b\]|(?:\xc2)?\x9d)0*(46|50|51|52|55|1337|5113|5522)([^0-9]|$)|\x1b[PX^_%]|\xc2[\x90\x98\x9e\x9f]`)

func checkSafe(t testing.TB, in, out string) {
	t.Helper()
	if m := forbidden.FindString(latin1(out)); m != "" {
		t.Errorf("in %q\nout %q\nhas %q", in, out, m)
	}
	for i := 0; i < len(out); {
		r, n := utf8.DecodeRuneInString(out[i:])
		if r == utf8.RuneError && n == 1 && strings.IndexByte("\x90\x98\x9e\x9f", out[i]) >= 0 {
			t.Errorf("in %q\nout %q\nhas a lone %#x at %d", in, out, out[i], i)
		}
		i += n
	}
}

// latin1 makes each byte a character, for the regular expression, once the
// UTF-8 characters with more than a C1 in them are gone.
func latin1(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if r >= 0xa0 && n > 1 {
			b.WriteByte('?')
		} else {
			for _, c := range []byte(s[i : i+n]) {
				b.WriteRune(rune(c))
			}
		}
		i += n
	}
	return b.String()
}

func BenchmarkFilter(b *testing.B) {
	in := []byte(strings.Repeat("\x1b[38;5;12mfunc\x1b[0m main() { // ❝déjà vu❞ plain text of a line\r\n", 64))
	f := NewFilter(discard{})
	b.SetBytes(int64(len(in)))
	for b.Loop() {
		f.Write(in)
	}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
