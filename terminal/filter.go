package terminal

import (
	"bytes"
	"fmt"
	"io"
	"unicode/utf8"
)

// maxString bounds the text of one operating system command (bytes); what is
// longer is cut off and closed.
const maxString = 64 << 10

// maxNumber bounds an operating system command's introducer and number (bytes),
// leading zeros included: all that is ever held back.
const maxNumber = 24

// The control characters that the filter tells apart.
const (
	bel = 0x07
	can = 0x18
	sub = 0x1a
	esc = 0x1b
	del = 0x7f
	csi = 0x9b // as one C1 character
	st  = 0x9c
	osc = 0x9d
)

// st7 ends a string, in its seven-bit form.
var st7 = []byte{esc, '\\'}

// beyondScreen holds the operating system commands that reach beyond the screen.
var beyondScreen = map[int]string{
	46:   "xterm: writes a log file",
	50:   "iTerm2: the old number of 1337",
	51:   "Vim, Emacs: calls the editor's functions",
	52:   "clipboard",
	55:   "rxvt: writes the screen to a file",
	1337: "iTerm2: clipboard, files, and more",
	5113: "kitty: file transfer",
	5522: "kitty: clipboard",
}

type state uint8

const (
	ground      state = iota
	escape            // ESC is held back
	escapeMore        // ESC and an intermediate byte have been passed
	escapeDrop        // in ESC %: it would switch the terminal's encoding, and with it what our bytes mean
	control           // in a CSI sequence
	number            // in an OSC, its number not yet known; held back
	command           // in an OSC that passes
	commandEsc        // ESC in it
	commandDrop       // in an OSC that is dropped
	stringDrop        // in a DCS, SOS, PM or APC
	dropEsc           // ESC in one of the two
)

// Filter writes to an underlying writer what an agent sends to the terminal,
// less what reaches beyond the screen: OSC 52 and its kind (beyondScreen), DCS,
// SOS, PM and APC, in the forms ESC x and, encoded as UTF-8 or as a byte that
// belongs to no UTF-8 character, as C1 characters. Everything else passes, the
// terminal's own questions included, but for every OSC begun by such a byte and
// by no number, and ESC %. Characters cut short become U+FFFD.
//
// The terminal is taken to speak UTF-8. What comes out does not depend on how
// the input is cut into writes. It is not safe for concurrent use.
type Filter struct {
	w     io.Writer
	out   []byte // to be written by this Write
	char  []byte // an unfinished UTF-8 character
	held  []byte // an unfinished introducer
	state state
	open  bool // the terminal has seen the beginning of a sequence and not its end
	text  int  // bytes of the command that passes
	modes modes
}

// NewFilter returns a filter in front of w.
func NewFilter(w io.Writer) *Filter {
	return &Filter{w: w}
}

// Write filters p and writes what passes with one call, or none. It keeps at
// most an unfinished character and an introducer of maxNumber bytes.
func (f *Filter) Write(p []byte) (int, error) {
	f.out = f.out[:0]
	for i := 0; i < len(p); i++ {
		if f.state == ground && len(f.char) == 0 {
			n := plain(p[i:])
			f.out = append(f.out, p[i:i+n]...)
			if i += n; i == len(p) {
				break
			}
		}
		f.decode(p[i])
	}
	if len(f.out) == 0 {
		return len(p), nil
	}
	if _, err := f.w.Write(f.out); err != nil {
		return 0, fmt.Errorf("write to the terminal: %w", err)
	}
	return len(p), nil
}

// Undo returns what puts the terminal's modes back that the agent has set and
// not reset (the alternate screen, mouse reports, a hidden cursor, …), for when
// it died in mid-sentence. It is empty if there is nothing to undo.
func (f *Filter) Undo() []byte {
	var head []byte
	switch f.state {
	case command, commandEsc:
		head = st7
	case ground:
	default:
		head = []byte{can}
	}
	return append(bytes.Clone(head), f.modes.undo()...)
}

// plain counts the leading bytes that need no look: ASCII but ESC.
func plain(p []byte) int {
	for i, b := range p {
		if b == esc || b >= utf8.RuneSelf {
			return i
		}
	}
	return len(p)
}

// decode puts UTF-8 characters together and hands on one character at a time:
// its code if that is below U+00A0, else 0xff, and its bytes.
func (f *Filter) decode(b byte) {
	if len(f.char) > 0 {
		if continues(f.char, b) {
			f.char = append(f.char, b)
			if utf8.FullRune(f.char) {
				f.character()
			}
			return
		}
		f.char = f.char[:0]
		f.step(0xff, "\uFFFD")
	}
	switch {
	case b < utf8.RuneSelf:
		f.step(b, string(rune(b)))
	case b < 0xa0:
		f.step(b, string([]byte{b})) // a C1 character by itself
	case b >= 0xc2 && b <= 0xf4:
		f.char = append(f.char, b)
	case b == 0xc0 || b == 0xc1:
		// Never in UTF-8; a careless decoder would make an ESC of C0 9B.
	default:
		f.step(0xff, string([]byte{b}))
	}
}

func (f *Filter) character() {
	r, _ := utf8.DecodeRune(f.char)
	c := byte(0xff)
	if r < 0xa0 {
		c = byte(r)
	}
	raw := string(f.char)
	f.char = f.char[:0]
	f.step(c, raw)
}

// continues says whether b goes on with the unfinished character (Unicode 16,
// table 3-7).
func continues(char []byte, b byte) bool {
	lo, hi := byte(0x80), byte(0xbf)
	if len(char) == 1 {
		switch char[0] {
		case 0xe0:
			lo = 0xa0
		case 0xed:
			hi = 0x9f
		case 0xf0:
			lo = 0x90
		case 0xf4:
			hi = 0x8f
		}
	}
	return b >= lo && b <= hi
}
