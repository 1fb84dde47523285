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

	in      []byte // scratch
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
		if s.in == nil {
			s.in = make([]byte, 32<<10)
		}
		n, err := s.ReadCloser.Read(s.in)
		s.out = s.out[:0]
		s.feed(s.in[:n])
		if err != nil {
			s.release()
			s.err = err
		}
	}
	n := copy(p, s.out)
	s.out = s.out[n:]
	return n, nil
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
	if len(s.line) > maxEventLine || !s.mayBeError() {
		s.release()
		s.passed = true
	}
}

// starts of lines that are looked at, without blanks. The second and third are
// for streams without "event:" (llama.cpp's OpenAI-like ones).
var errorStarts = [][]byte{[]byte("event:error"), []byte(`data:{"error":`), []byte(`data:{"type":"error"`)}

// mayBeError says whether the line is, or may become, one that is looked at.
func (s *errorEvents) mayBeError() bool {
	head := bytes.ReplaceAll(s.line[:min(len(s.line), 64)], []byte(" "), nil)
	if s.isError && alike(head, []byte("data:")) {
		return true
	}
	for _, start := range errorStarts {
		if alike(head, start) {
			return true
		}
	}
	return false
}

// alike says whether a starts with b, or b with a.
func alike(a, b []byte) bool { return bytes.HasPrefix(a, b) || bytes.HasPrefix(b, a) }

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
