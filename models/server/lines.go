package server

import (
	"bytes"
	"io"
	"slices"
)

// The most that is kept of a log: lines for a diagnosis, and their bytes.
const (
	keepLines = 500
	keepBytes = 256 << 10
)

// lineBuffer cuts what a server writes into lines. A carriage return ends a line
// too, as progress bars use it; a line's bytes past maxLine are dropped. What
// escape sequences there are is taken out.
type lineBuffer struct {
	rest []byte // maxLine at most
}

// write takes in some bytes and gives each line that is complete.
func (b *lineBuffer) write(p []byte, line func(string)) {
	for len(p) > 0 {
		i := bytes.IndexAny(p, "\r\n")
		if i < 0 {
			b.add(p)
			return
		}
		b.add(p[:i])
		b.flush(line)
		p = p[i+1:]
	}
}

func (b *lineBuffer) add(p []byte) {
	b.rest = append(b.rest, p[:min(len(p), maxLine-len(b.rest))]...)
}

// flush gives the line that is not complete, as at the end of the log.
func (b *lineBuffer) flush(line func(string)) {
	text := b.peek()
	b.rest = b.rest[:0]
	if text != "" {
		line(text)
	}
}

// peek returns the line that is not complete yet: a progress bar's newest.
func (b *lineBuffer) peek() string {
	return string(bytes.TrimRight(withoutEscapes(b.rest), " \t"))
}

// withoutEscapes returns p without its terminal escape sequences: ESC [ … final
// byte, ESC ] … BEL or ESC \, and ESC with one byte. Other control characters
// stay, for printable to show.
func withoutEscapes(p []byte) []byte {
	const esc = 0x1b
	if bytes.IndexByte(p, esc) < 0 {
		return p
	}
	out := make([]byte, 0, len(p))
	for i := 0; i < len(p); i++ {
		if p[i] != esc {
			out = append(out, p[i])
			continue
		}
		if i++; i >= len(p) {
			break
		}
		switch p[i] {
		case '[': // ECMA-48 5.4: parameters and intermediates, then one of 0x40–0x7e
			for i++; i < len(p) && (p[i] < 0x40 || p[i] > 0x7e); i++ {
			}
		case ']':
			for i++; i < len(p) && p[i] != 0x07 && p[i] != esc; i++ {
			}
			if i+1 < len(p) && p[i] == esc && p[i+1] == '\\' {
				i++
			}
		}
	}
	return out
}

// tail keeps the last lines of a log.
type tail struct {
	lines []string
	bytes int
}

func (t *tail) add(line string) {
	t.lines = append(t.lines, line)
	t.bytes += len(line)
	drop := 0
	for ; len(t.lines)-drop > keepLines || t.bytes > keepBytes; drop++ {
		t.bytes -= len(t.lines[drop])
	}
	t.lines = slices.Delete(t.lines, 0, drop)
}

// readLines reads a log to its end and returns its last lines, oldest first. A
// log that breaks off gives what came before.
func readLines(r io.Reader) []string {
	var t tail
	var b lineBuffer
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		b.write(buf[:n], t.add)
		if err != nil {
			b.flush(t.add)
			return t.lines
		}
	}
}
