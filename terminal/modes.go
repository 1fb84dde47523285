package terminal

import (
	"bytes"
	"strconv"
)

// maxParameters bounds what is remembered of one CSI sequence (bytes); a longer
// one is passed and not remembered.
const maxParameters = 64

// modes remembers what has been set of the modes that spoil a shell's terminal.
// The zero modes remembers nothing.
type modes struct {
	parameters []byte
	changed    map[int]bool // private modes that are not as the terminal had them
	keyboards  int          // pushed kitty keyboard protocols
	otherKeys  bool         // XTMODKEYS
	shape      bool         // the cursor's
	dirty      bool         // any escape sequence at all
}

// private lists the DEC private modes that are put back, in the order of their
// undoing, and how a terminal has them.
var private = []struct {
	mode int
	on   bool
}{
	{1, false},                                              // application cursor keys
	{9, false}, {1000, false}, {1002, false}, {1003, false}, // mouse
	{1005, false}, {1006, false}, {1015, false}, {1016, false}, // its encodings
	{1004, false},                             // focus reports
	{2004, false},                             // bracketed paste
	{2026, false},                             // synchronised output
	{2031, false},                             // colour scheme reports
	{6, false},                                // origin
	{7, true},                                 // wrap
	{47, false}, {1047, false}, {1049, false}, // alternate screen
	{25, true}, // cursor
}

func (m *modes) begin() {
	m.parameters = m.parameters[:0]
	m.dirty = true
}

func (m *modes) parameter(c byte) {
	if len(m.parameters) <= maxParameters {
		m.parameters = append(m.parameters, c)
	}
}

// escape notes ESC c.
func (m *modes) escape(c byte) {
	m.dirty = true
	if c == 'c' { // full reset
		*m = modes{parameters: m.parameters, dirty: true}
	}
}

// end notes the CSI sequence whose final character is c.
func (m *modes) end(c byte) {
	p := m.parameters
	if len(p) > maxParameters || len(p) == 0 {
		return
	}
	switch {
	case p[0] == '?' && (c == 'h' || c == 'l'):
		m.set(p[1:], c == 'h')
	case p[0] == '>' && c == 'u':
		m.keyboards = min(m.keyboards+1, 99)
	case p[0] == '<' && c == 'u':
		n, err := strconv.Atoi(string(p[1:]))
		if err != nil {
			n = 1
		}
		m.keyboards = max(m.keyboards-n, 0)
	case p[0] == '>' && c == 'm':
		m.otherKeys = bytes.HasPrefix(p, []byte(">4;"))
	case p[len(p)-1] == ' ' && c == 'q':
		m.shape = true
	}
}

func (m *modes) set(parameters []byte, on bool) {
	for number := range bytes.SplitSeq(parameters, []byte{';'}) {
		mode, err := strconv.Atoi(string(number))
		if err != nil {
			continue
		}
		for _, p := range private {
			if p.mode != mode {
				continue
			}
			if m.changed == nil {
				m.changed = map[int]bool{}
			}
			m.changed[mode] = on != p.on
		}
	}
}

// undo returns the sequences that put everything back.
func (m *modes) undo() []byte {
	if !m.dirty {
		return nil
	}
	var b []byte
	if m.keyboards > 0 {
		b = append(b, "\x1b[<"+strconv.Itoa(m.keyboards)+"u"...)
	}
	if m.otherKeys {
		b = append(b, "\x1b[>4m"...)
	}
	if m.shape {
		b = append(b, "\x1b[0 q"...)
	}
	for _, p := range private {
		if !m.changed[p.mode] {
			continue
		}
		final := "l"
		if p.on {
			final = "h"
		}
		b = append(b, "\x1b[?"+strconv.Itoa(p.mode)+final...)
	}
	return append(b, "\x1b>\x0f\x1b(B\x1b[0m"...) // keypad, character set, colours
}
