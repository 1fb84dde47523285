package battery

import (
	"fmt"
	"io"
	"strings"
)

// Escapes is made by the launcher, which stands between a container and the terminal.
const Escapes = "terminal-escapes"

// escapes are control strings (ECMA-48, 5.6 and 8.3) that reach beyond the screen. Each
// %s is a text that nothing else holds.
var escapes = []struct{ what, format string }{
	{"OSC 52, the clipboard", "\x1b]52;c;%s\a"},
	{"OSC 52, ended by ST", "\x1b]52;c;%s\x1b\\"},
	{"OSC 52, with zeros before its number", "\x1b]00052;c;%s\a"},
	{"OSC 52 as a C1 character in UTF-8", "\u009d52;c;%s\a"},
	{"OSC 52 as a C1 byte", "\x9d52;c;%s\x9c"},
	{"OSC 46, a log file", "\x1b]46;/tmp/%s\a"},
	{"OSC 50, xterm's fonts and iTerm2's old commands", "\x1b]50;CopyToClipboard=%s\a"},
	{"OSC 1337, iTerm2's files", "\x1b]1337;File=name=%s:\a"},
	{"OSC 5113, kitty's file transfer", "\x1b]5113;ac=send;id=%s\x1b\\"},
	{"DCS, a question for settings that is answered as typed", "\x1bP$q%s\x1b\\"},
	{"DCS as a C1 character in UTF-8", "\u0090$q%s\x1b\\"},
	{"APC, kitty's graphics from a file", "\x1b_Gt=f;%s\x1b\\"},
	{"PM", "\x1b^%s\x1b\\"},
	{"SOS", "\x1bX%s\x1b\\"},
}

const (
	escapesBegin = "before the escapes"
	escapesEnd   = "after the escapes"
)

func secret(i int) string { return fmt.Sprintf("sallyport-escape-%d-", i) }

// WriteEscapes prints the escapes, as an agent may, between two lines of plain text.
func WriteEscapes(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintln(&b, escapesBegin)
	for i, e := range escapes {
		fmt.Fprintf(&b, e.format, secret(i))
	}
	fmt.Fprintf(&b, "\n%s\n", escapesEnd)
	_, err := io.WriteString(w, b.String())
	return err
}

// EscapesIn returns which of the escapes are in what reached a terminal. It is an error
// if the plain text around them is not.
func EscapesIn(printed string) (found []string, err error) {
	if !strings.Contains(printed, escapesBegin) || !strings.Contains(printed, escapesEnd) {
		return nil, fmt.Errorf("not all was printed: %.80q", printed)
	}
	for i, e := range escapes {
		if strings.Contains(printed, secret(i)) {
			found = append(found, e.what)
		}
	}
	return found, nil
}
