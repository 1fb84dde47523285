package proxy

import (
	"bytes"
	"encoding/json"
	"math"
	"time"
)

// Bytes kept of a passing response, to read the token counts from.
const (
	maxEventLine = 16 << 10 // one line of an event stream; longer ones are passed over
	maxTail      = 4 << 10  // the end of a JSON response, where usage stands
)

// usage is a response's token counts, as the model reported them, and its times.
type usage struct {
	in, out     int64
	first, last time.Time // of a stream's content; zero: none came
}

// firstToken is how long after start the first content came, in seconds; zero:
// none came.
func (u usage) firstToken(start time.Time) float64 {
	if u.first.IsZero() {
		return 0
	}
	return u.first.Sub(start).Seconds()
}

// perSecond is the speed of what came after the first content; zero: not known.
func (u usage) perSecond() float64 {
	took := u.last.Sub(u.first)
	if u.out <= 0 || took < time.Millisecond {
		return 0
	}
	return math.Round(float64(u.out)/took.Seconds()*100) / 100
}

// counts is the part of Anthropic's messages that is read.
type counts struct {
	Type    string `json:"type"`
	Message struct {
		Usage tokens `json:"usage"`
	} `json:"message"`
	Usage tokens `json:"usage"`
}

type tokens struct {
	In  int64 `json:"input_tokens"`
	Out int64 `json:"output_tokens"`
}

func (u *usage) take(t tokens) {
	if t.In > 0 {
		u.in = t.In
	}
	if t.Out > 0 {
		u.out = t.Out
	}
}

// eventScanner follows an SSE stream (WHATWG HTML §9.2) as it passes: whether it
// stands between two events, and what message_start and message_delta count.
type eventScanner struct {
	usage
	line    []byte    // the current line, up to maxEventLine bytes
	over    bool      // the current line is longer
	bytes   bool      // the current line holds a byte
	inEvent bool      // an event has begun and not ended
	cr      bool      // the last byte was a CR: a LF may follow
	stopped bool      // message_stop has passed
	now     time.Time // when the bytes came that are fed; its owner sets it
}

// boundary says whether something may be put into the stream here.
func (s *eventScanner) boundary() bool { return !s.inEvent && !s.bytes && !s.cr }

// feed takes the next bytes of the stream.
func (s *eventScanner) feed(p []byte) {
	lines := lineEndsIn(p)
	for len(p) > 0 {
		if s.cr && p[0] == '\n' {
			p = p[1:]
			s.cr = false
			continue
		}
		s.cr = false
		end := lines.end(p)
		if end < 0 {
			s.keep(p)
			return
		}
		s.endLine(p[:end])
		s.cr = p[end] == '\r'
		p = p[end+1:]
	}
}

// keep takes a part of a line that has not ended.
func (s *eventScanner) keep(p []byte) {
	if len(p) == 0 {
		return
	}
	s.bytes = true
	if len(s.line)+len(p) > maxEventLine {
		s.over, s.line = true, s.line[:0]
	}
	if !s.over {
		s.line = append(s.line, p...)
	}
}

// endLine takes the rest of a line: mostly all of it, which need not be kept.
func (s *eventScanner) endLine(rest []byte) {
	line := rest
	if s.bytes || len(rest) > maxEventLine {
		s.keep(rest)
		line = s.line
	}
	s.inEvent = s.bytes || len(rest) > 0
	if data, ok := bytes.CutPrefix(line, []byte("data:")); ok && !s.over {
		s.data(data)
	}
	s.line, s.over, s.bytes = s.line[:0], false, false
}

// lineEnds finds the ends of lines in some bytes. That none is a CR is usual, and
// quick.
type lineEnds bool

func lineEndsIn(p []byte) (onlyLF lineEnds) { return bytes.IndexByte(p, '\r') < 0 }

// end is where the first line of rest, an end of the bytes, ends; -1: not in it.
func (onlyLF lineEnds) end(rest []byte) int {
	if onlyLF {
		return bytes.IndexByte(rest, '\n')
	}
	return bytes.IndexAny(rest, "\r\n")
}

func (s *eventScanner) data(b []byte) {
	if bytes.Contains(b, []byte(`"content_block_`)) {
		if s.last = s.now; s.first.IsZero() {
			s.first = s.last
		}
	}
	if bytes.Contains(b, []byte(`"message_stop"`)) {
		s.stopped = true
	}
	if !bytes.Contains(b, []byte(`"usage"`)) {
		return
	}
	var c counts
	if unmarshalApart(b, &c) != nil {
		return
	}
	switch c.Type {
	case "message_start":
		s.take(c.Message.Usage)
	case "message_delta":
		s.take(c.Usage)
	}
}

// unmarshalApart is json.Unmarshal on a stack of its own: it needs 16 kB of one,
// which a stream's would keep for as long as the stream lasts.
func unmarshalApart(b []byte, into any) error {
	done := make(chan error)
	go func() { done <- json.Unmarshal(b, into) }()
	return <-done
}

// tailScanner keeps the end of a JSON response, in which usage is looked for
// when it is over.
type tailScanner struct {
	tail []byte
}

func (s *tailScanner) feed(p []byte) {
	if len(p) >= maxTail {
		s.tail = append(s.tail[:0], p[len(p)-maxTail:]...)
		return
	}
	if over := len(s.tail) + len(p) - maxTail; over > 0 {
		s.tail = append(s.tail[:0], s.tail[over:]...)
	}
	s.tail = append(s.tail, p...)
}

// usage reads the last "usage" object. Inside a string its quotes would be
// escaped, so that text cannot pass for it.
func (s *tailScanner) usage() (u usage) {
	const key = `"usage":`
	i := bytes.LastIndex(s.tail, []byte(key))
	if i < 0 {
		return u
	}
	var t tokens
	if json.NewDecoder(bytes.NewReader(s.tail[i+len(key):])).Decode(&t) == nil {
		u.take(t)
	}
	return u
}
