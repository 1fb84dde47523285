package proxy

import (
	"bytes"
	"io"
)

// errorEvents is an event stream in which error events that tell of an overflow
// are put into other words. Of everything else no byte waits: only a line that
// is or may become the data of an error event is held until its end, and not if
// it is longer than maxEventLine.
type errorEvents struct {
	io.ReadCloser
	found func(overflow)

	buf     []byte // of out
	out     []byte // ready to be read
	err     error  // of the stream; comes after out
	line    []byte // the current line, held; empty where it was passed on
	passed  bool   // the current line is passed on as it comes
	isError bool   // the current event said "event: error"
	cr      bool   // the last byte was a CR: a LF may follow
}

// Read returns the next bytes.
func (s *errorEvents) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(s.out) == 0 {
		if s.err != nil {
			return 0, s.err
		}
		n, err := s.ReadCloser.Read(p)
		s.err = err
		if n > 0 && s.plain(p[:n]) {
			return n, nil
		}
		s.out = s.buf[:0]
		s.feed(p[:n])
		if err != nil {
			s.release()
		}
		s.buf = s.out
	}
	n := copy(p, s.out)
	s.out = s.out[n:]
	return n, nil
}

// plain says whether all of p can pass as it is, and notes that it has: nothing is
// held, and no line that begins in p is or may become one that is looked at. feed
// would make the same of it, by way of a copy.
func (s *errorEvents) plain(p []byte) bool {
	if s.isError || len(s.line) > 0 {
		return false
	}
	lines, rest, passed := lineEndsIn(p), p, s.passed
	if s.cr && rest[0] == '\n' {
		rest = rest[1:]
	}
	for len(rest) > 0 {
		end := lines.end(rest)
		line := rest[:max(end, 0)]
		if end < 0 {
			line = rest
		}
		if !passed && len(line) > 0 && s.mayBeError(line) {
			return false
		}
		if passed = end < 0; passed {
			break
		}
		rest = rest[end+1:]
	}
	s.passed, s.cr = passed, p[len(p)-1] == '\r'
	return true
}

// feed takes the next bytes of the stream.
func (s *errorEvents) feed(p []byte) {
	for len(p) > 0 {
		if s.cr && p[0] == '\n' {
			s.out, p, s.cr = append(s.out, '\n'), p[1:], false
			continue
		}
		s.cr = false
		end := bytes.IndexAny(p, "\r\n")
		if end < 0 {
			s.part(p)
			return
		}
		s.part(p[:end])
		s.endLine()
		s.out = append(s.out, p[end])
		s.cr = p[end] == '\r'
		p = p[end+1:]
	}
}

// part takes bytes of the current line.
func (s *errorEvents) part(p []byte) {
	if s.passed || len(p) == 0 {
		s.out = append(s.out, p...)
		return
	}
	s.line = append(s.line, p...)
	if len(s.line) > maxEventLine || !s.mayBeError(s.line) {
		s.release()
		s.passed = true
	}
}

// starts of lines that are looked at, without blanks. The second and third are
// for streams without "event:" (llama.cpp's OpenAI-like ones).
var errorStarts = [...]string{"event:error", `data:{"error":`, `data:{"type":"error"`}

// mayBeError says whether a line is, or may become, one that is looked at.
func (s *errorEvents) mayBeError(line []byte) bool {
	if s.isError && alike(line, "data:") {
		return true
	}
	for _, start := range errorStarts {
		if alike(line, start) {
			return true
		}
	}
	return false
}

// alike says whether line, of which the blanks do not count, starts with start, or
// start with it.
func alike(line []byte, start string) bool {
	for _, c := range line[:min(len(line), 64)] {
		switch {
		case c == ' ':
		case start == "":
			return true
		case c != start[0]:
			return false
		default:
			start = start[1:]
		}
	}
	return true
}

// endLine decides on the line that has ended.
func (s *errorEvents) endLine() {
	name, isName := bytes.CutPrefix(s.line, []byte("event:"))
	data, isData := bytes.CutPrefix(s.line, []byte("data:"))
	switch {
	case s.passed:
	case len(s.line) == 0: // the event's end
		s.isError = false
	case isName:
		s.isError = string(bytes.TrimSpace(name)) == "error"
	case isData:
		if o, ok := findOverflow(data); ok {
			s.found(o)
			s.line = append([]byte("data: "), o.body()...)
		}
	}
	s.release()
	s.passed = false
}

// release passes on what is held.
func (s *errorEvents) release() {
	s.out = append(s.out, s.line...)
	s.line = s.line[:0]
}
