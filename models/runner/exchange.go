package runner

import (
	"bytes"
	"strconv"
	"strings"
	"sync"
)

// maxHead bounds the head of a message that is looked at.
const maxHead = 64 << 10

// exchange watches the HTTP/1 of one connection to tell work from polls. What is
// not surely a GET or HEAD counts as work, and what is not surely answered as
// under way: the doubt keeps a server running, never ends it.
type exchange struct {
	activity *activity

	mu       sync.Mutex
	poll     pollHead // of the GET or HEAD whose head is not complete yet
	open     bool     // a request that counts is under way
	response response // to it
}

// fromClient is told of bytes that a client sent.
func (x *exchange) fromClient(p []byte) {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case x.open: // more of its body
		x.activity.touch()
	case x.poll.take(p):
	default:
		x.open, x.response = true, response{}
		x.activity.begin()
	}
}

// fromServer is told of bytes that the server sent.
func (x *exchange) fromServer(p []byte) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.open {
		return
	}
	x.activity.touch()
	if x.response.take(p) {
		x.open = false
		x.activity.done()
	}
}

// end is told that the server will send no more, or that nobody will read it.
func (x *exchange) end() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.open {
		x.open = false
		x.activity.done()
	}
}

// pollHead is the head of a request without a body, as far as it has come.
type pollHead struct {
	size int    // zero: none has begun
	tail []byte // its last three bytes at most
}

// take reports whether p is (more of) the head of one GET or HEAD request, and no
// more than that.
func (h *pollHead) take(p []byte) bool {
	if h.size == 0 && !bytes.HasPrefix(p, []byte("GET ")) && !bytes.HasPrefix(p, []byte("HEAD ")) {
		return false
	}
	seen := append(h.tail, p...)
	end := bytes.Index(seen, []byte("\r\n\r\n"))
	if h.size += len(p); h.size > maxHead || end >= 0 && end+4 != len(seen) {
		*h = pollHead{}
		return false
	}
	if end >= 0 {
		*h = pollHead{}
		return true
	}
	h.tail = bytes.Clone(seen[max(0, len(seen)-3):])
	return true
}

// How the end of a response is known: RFC 9112, section 6.3.
type framing int

const (
	inHead     framing = iota // its head is not complete
	byLength                  // left bytes more
	byChunks                  // the last chunk is empty
	untilClose                // and whatever is not understood
)

// response is what is known of an answer.
type response struct {
	framing  framing
	head     []byte
	left     int64  // of the body, or of a chunk
	line     []byte // of a chunked body, not complete
	trailers bool   // its last chunk has come
}

// take reports whether p ends the response.
func (r *response) take(p []byte) bool {
	for r.framing == inHead {
		r.head = append(r.head, p...)
		end := bytes.Index(r.head, []byte("\r\n\r\n"))
		if end < 0 {
			if len(r.head) > maxHead {
				r.framing, r.head = untilClose, nil
			}
			return false
		}
		head := string(r.head[:end])
		p = bytes.Clone(r.head[end+4:])
		r.head = nil
		r.begin(head)
	}
	switch r.framing {
	case byLength:
		r.left -= int64(len(p))
		return r.left <= 0
	case byChunks:
		return r.chunk(p)
	}
	return false
}

// begin reads a head. An interim response (1xx) leaves r waiting for the next.
func (r *response) begin(head string) {
	lines := strings.Split(head, "\r\n")
	r.framing = untilClose
	version, rest, _ := strings.Cut(lines[0], " ")
	if !strings.HasPrefix(version, "HTTP/1.") || len(rest) < 3 {
		return
	}
	code := rest[:3]
	switch {
	case code == "101":
		return
	case code[0] == '1':
		r.framing = inHead
		return
	case code == "204" || code == "304":
		r.framing, r.left = byLength, 0
		return
	}
	for _, line := range lines[1:] {
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch strings.ToLower(name) {
		case "transfer-encoding":
			if r.framing = untilClose; strings.EqualFold(value, "chunked") {
				r.framing = byChunks
			}
			return // it overrides a length
		case "content-length":
			r.framing = untilClose
			if n, err := strconv.ParseInt(value, 10, 64); err == nil && n >= 0 {
				r.framing, r.left = byLength, n
			}
		}
	}
}

// chunk reports whether p ends the last chunk and its trailers.
func (r *response) chunk(p []byte) bool {
	for len(p) > 0 {
		if n := min(r.left, int64(len(p))); n > 0 {
			r.left -= n
			p = p[n:]
			continue
		}
		end := bytes.IndexByte(p, '\n')
		if end < 0 {
			if r.line = append(r.line, p...); len(r.line) > maxHead {
				r.framing, r.line = untilClose, nil
			}
			return false
		}
		line := strings.TrimSuffix(string(append(r.line, p[:end]...)), "\r")
		r.line, p = nil, p[end+1:]
		if r.trailers {
			if line == "" {
				return true
			}
			continue
		}
		digits, _, _ := strings.Cut(line, ";")
		size, err := strconv.ParseInt(strings.TrimSpace(digits), 16, 62)
		if err != nil || size < 0 {
			r.framing = untilClose
			return false
		}
		if r.trailers = size == 0; !r.trailers {
			r.left = size + 2 // and the end of its line
		}
	}
	return false
}
