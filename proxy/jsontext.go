package proxy

import (
	"fmt"
	"unicode/utf16"
	"unicode/utf8"
)

func (n *normalizer) number() error {
	start := n.pos
	if n.in[n.pos] == '-' {
		n.pos++
	}
	whole := n.digits()
	if whole == 0 || whole > 1 && n.in[n.pos-whole] == '0' {
		return errJSONNumber
	}
	if n.pos < len(n.in) && n.in[n.pos] == '.' {
		n.pos++
		if n.digits() == 0 {
			return errJSONNumber
		}
	}
	if n.pos < len(n.in) && (n.in[n.pos] == 'e' || n.in[n.pos] == 'E') {
		n.pos++
		if n.pos < len(n.in) && (n.in[n.pos] == '+' || n.in[n.pos] == '-') {
			n.pos++
		}
		if n.digits() == 0 {
			return errJSONNumber
		}
	}
	if n.pos-start > maxNumber {
		return errJSONNumber
	}
	n.out = append(n.out, n.in[start:n.pos]...)
	return nil
}

func (n *normalizer) digits() (count int) {
	for ; n.pos < len(n.in) && n.in[n.pos] >= '0' && n.in[n.pos] <= '9'; n.pos++ {
		count++
	}
	return count
}

// str reads a string. Runs without an escape are copied as they are.
func (n *normalizer) str() error {
	n.pos++
	n.out = append(n.out, '"')
	for {
		run := n.pos
		for n.pos < len(n.in) && n.in[n.pos] >= ' ' && n.in[n.pos] != '"' && n.in[n.pos] != '\\' {
			n.pos++
		}
		if n.pos == len(n.in) {
			return errJSONEnd
		}
		if !utf8.Valid(n.in[run:n.pos]) {
			return errJSONString
		}
		n.out = append(n.out, n.in[run:n.pos]...)
		switch n.in[n.pos] {
		case '"':
			n.pos++
			n.out = append(n.out, '"')
			return nil
		case '\\':
			if err := n.escape(); err != nil {
				return err
			}
		default:
			return errJSONString
		}
	}
}

func (n *normalizer) escape() error {
	if n.pos+1 == len(n.in) {
		return errJSONEnd
	}
	c := n.in[n.pos+1]
	switch c {
	case '"', '\\', 'b', 'f', 'n', 'r', 't':
		n.out = append(n.out, '\\', c)
	case '/':
		n.out = append(n.out, '/')
	case 'u':
		return n.unicode()
	default:
		return errJSONEscape
	}
	n.pos += 2
	return nil
}

// unicode reads \uXXXX, or two of them that make one character.
func (n *normalizer) unicode() error {
	r, ok := hex4(n.in[n.pos:])
	if !ok {
		return errJSONEscape
	}
	n.pos += 6
	if utf16.IsSurrogate(r) {
		low, ok := hex4(n.in[n.pos:])
		pair := utf16.DecodeRune(r, low)
		if r = pair; ok && pair != utf8.RuneError {
			n.pos += 6
		} else {
			r = utf8.RuneError
		}
	}
	n.out = appendRune(n.out, r)
	return nil
}

// hex4 reads \uXXXX at the start of b.
func hex4(b []byte) (r rune, ok bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	for _, c := range b[2:6] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// appendRune writes r in the one spelling that normalize uses.
func appendRune(out []byte, r rune) []byte {
	switch r {
	case '"', '\\':
		return append(out, '\\', byte(r))
	case '\b':
		return append(out, `\b`...)
	case '\f':
		return append(out, `\f`...)
	case '\n':
		return append(out, `\n`...)
	case '\r':
		return append(out, `\r`...)
	case '\t':
		return append(out, `\t`...)
	}
	if r < ' ' {
		return fmt.Appendf(out, `\u%04x`, r)
	}
	return utf8.AppendRune(out, r)
}
