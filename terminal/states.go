package terminal

import (
	"math"
	"strconv"
	"strings"
)

// step takes one character: its code (0xff: any printable one beyond ASCII) and
// its bytes. The states are those of a DEC VT500, as in every terminal's parser;
// an ESC or a C1 character ends whatever was open and is looked at anew, so it
// does not matter whether a terminal ends a string sooner than we do.
func (f *Filter) step(c byte, raw string) {
	switch f.state {
	case ground:
		f.inGround(c, raw)
	case escape:
		f.inEscape(c, raw)
	case escapeMore, control:
		f.inSequence(c, raw)
	case escapeDrop:
		f.inEscapeDrop(c, raw)
	case number:
		f.inNumber(c, raw)
	case command:
		f.inCommand(c, raw)
	case commandEsc:
		f.out = append(f.out, st7...)
		f.to(ground)
		if c != '\\' {
			f.hold(escape, "\x1b")
			f.step(c, raw)
		}
	case commandDrop, stringDrop:
		f.inDrop(c, raw)
	case dropEsc:
		f.to(ground)
		if c != '\\' {
			f.hold(escape, "\x1b")
			f.step(c, raw)
		}
	}
}

// to changes the state and forgets what was held back.
func (f *Filter) to(s state) {
	f.state = s
	f.held = f.held[:0]
}

func (f *Filter) hold(s state, raw string) {
	f.state = s
	f.held = append(f.held[:0], raw...)
}

// pass emits what is held back, and raw.
func (f *Filter) pass(s state, raw string) {
	f.out = append(append(f.out, f.held...), raw...)
	f.open = s == escapeMore || s == control
	f.to(s)
}

// drop begins to drop. A sequence that the terminal has seen the beginning of
// is cancelled: the ESC that would have done so is dropped too.
func (f *Filter) drop(s state) {
	if f.open {
		f.out = append(f.out, can)
		f.open = false
	}
	f.to(s)
}

func (f *Filter) inGround(c byte, raw string) {
	switch c {
	case esc:
		f.hold(escape, raw)
	case csi:
		f.modes.begin()
		f.pass(control, raw)
	case osc:
		f.hold(number, raw)
	case 0x90, 0x98, 0x9e, 0x9f: // DCS, SOS, PM, APC
		f.drop(stringDrop)
	default:
		f.pass(ground, raw)
	}
}

func (f *Filter) inEscape(c byte, raw string) {
	switch {
	case c == esc, c == del: // the first ESC of two means nothing, nor does DEL
	case c == can, c == sub:
		f.to(ground)
		f.pass(ground, raw)
	case c < 0x20: // carried out at once; the sequence goes on
		f.out = append(f.out, raw...)
	case c == '[':
		f.modes.begin()
		f.pass(control, raw)
	case c == ']':
		f.hold(number, "\x1b]")
	case c == 'P', c == 'X', c == '^', c == '_':
		f.drop(stringDrop)
	case c == '%':
		f.drop(escapeDrop)
	case c < 0x30:
		f.modes.dirty = true
		f.pass(escapeMore, raw)
	case c < del:
		f.modes.escape(c)
		f.pass(ground, raw)
	default:
		// A C1 character, or one no sequence has: ESC was for nothing. It is not
		// passed, since a terminal might wait for its next byte.
		f.drop(ground)
		f.step(c, raw)
	}
}

// inSequence is in a CSI sequence, or after ESC and an intermediate byte.
func (f *Filter) inSequence(c byte, raw string) {
	final := byte(0x30)
	if f.state == control {
		final = 0x40
	}
	switch {
	case c == esc:
		f.hold(escape, raw)
	case c == can, c == sub:
		f.pass(ground, raw)
	case c < 0x20, c == del, c == 0xff:
		f.out = append(f.out, raw...)
	case c < final:
		f.modes.parameter(c)
		f.out = append(f.out, raw...)
	case c < del:
		if f.state == control {
			f.modes.end(c)
		}
		f.pass(ground, raw)
	default: // C1
		f.to(ground)
		f.step(c, raw)
	}
}

func (f *Filter) inEscapeDrop(c byte, raw string) {
	switch {
	case c >= 0x20 && c < 0x30:
	case c >= 0x30 && c < del:
		f.to(ground)
	default:
		f.to(ground)
		f.step(c, raw)
	}
}

func (f *Filter) inNumber(c byte, raw string) {
	switch {
	case c >= '0' && c <= '9':
		if f.held = append(f.held, c); len(f.held) > maxNumber {
			f.drop(commandDrop)
		}
	case f.mayPass() && (c == bel || c == st):
		f.pass(ground, raw)
	case f.mayPass() && c == ';':
		f.text = 0
		f.pass(command, raw)
	case f.mayPass() && c == esc:
		f.pass(commandEsc, "")
	default:
		f.drop(commandDrop)
		f.step(c, raw)
	}
}

// mayPass says whether the number held back is one, and of a command that stays
// on the screen. A number greater than any in use might be wrapped by a terminal
// to one that does not.
func (f *Filter) mayPass() bool {
	digits := strings.TrimLeft(string(f.held), "\x1b]\u009d") // a lone byte 9D stays and fails
	n, err := strconv.Atoi(digits)
	_, beyond := beyondScreen[n]
	return err == nil && n <= math.MaxInt16 && !beyond
}

func (f *Filter) inCommand(c byte, raw string) {
	switch {
	case c == bel, c == st, c == can, c == sub:
		f.pass(ground, raw)
	case c == esc:
		f.to(commandEsc)
	case c >= 0x80 && c < 0xa0:
		f.out = append(f.out, st7...)
		f.to(ground)
		f.step(c, raw)
	default:
		if f.text += len(raw); f.text > maxString {
			f.out = append(f.out, st7...)
			f.to(commandDrop)
			return
		}
		f.out = append(f.out, raw...)
	}
}

func (f *Filter) inDrop(c byte, raw string) {
	switch {
	case c == esc:
		f.to(dropEsc)
	case c == st, c == can, c == sub, c == bel && f.state == commandDrop:
		f.to(ground)
	case c >= 0x80 && c < 0xa0:
		f.to(ground)
		f.step(c, raw)
	}
}
