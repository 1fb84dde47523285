package endpoint

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"
)

// Bounds of what is read of a request, in bytes. What is longer than maxKept is read
// and not looked at.
const (
	maxHead = 1 << 20
	maxBody = 64 << 20
	maxKept = 1 << 20
)

var (
	errHead = errors.New("the head is too long")
	errBody = errors.New("the body cannot be framed")
)

// reading is how a server takes a request apart where parsers differ (RFC 9112 §6.3
// and §11.2). The zero reading is the one that sees most: every LF ends a line, a
// folded line is a line, each Transfer-Encoding that mentions chunked counts, else
// the last Content-Length.
type reading struct {
	noEncoding  bool // Content-Length comes before Transfer-Encoding
	exact       bool // a field counts only if it is written as the RFC has it
	firstLength bool // the first of several Content-Length counts
	crlf        bool // a bare LF ends no line
	fold        bool // a folded line belongs to the one before
	bareGet     bool // a GET has no body
}

// field is a header line; its name is in lower case.
type field struct{ name, value string }

// message is a request.
type message struct {
	raw            []byte // as it came, up to maxKept
	method, target string
	fields         []field // trailers included
	body           []byte  // without chunks, up to maxKept
}

// get returns the last value of a field.
func (m *message) get(name string) string {
	for i := len(m.fields) - 1; i >= 0; i-- {
		if m.fields[i].name == name {
			return m.fields[i].value
		}
	}
	return ""
}

// path returns the target without its query, and the query.
func (m *message) path() (path, query string) {
	path, query, _ = strings.Cut(m.target, "?")
	return path, query
}

// request reads one request with its body.
func (r reading) request(br *bufio.Reader) (*message, error) {
	head, err := r.head(br)
	if err != nil {
		return nil, err
	}
	lines := r.lines(string(head))
	m := &message{raw: head, fields: r.fields(lines[1:])}
	m.method, m.target, _ = strings.Cut(lines[0], " ")
	if i := strings.LastIndexByte(m.target, ' '); i >= 0 {
		m.target = m.target[:i]
	}
	return m, r.body(br, m)
}

// head reads up to the empty line, which it includes.
func (r reading) head(br *bufio.Reader) ([]byte, error) {
	var head []byte
	for len(head) < maxHead {
		line, err := br.ReadSlice('\n')
		head = append(head, line...)
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return nil, err
		}
		switch {
		case len(bytes.Trim(head, "\r\n")) == 0:
			head = head[:0] // RFC 9112 §2.2: empty lines before a request
		case bytes.HasSuffix(head, []byte("\r\n\r\n")), !r.crlf && bytes.HasSuffix(head, []byte("\n\n")):
			return head, nil
		}
	}
	return nil, errHead
}

func (r reading) lines(head string) []string {
	if r.crlf {
		return strings.Split(head, "\r\n")
	}
	return strings.Split(strings.ReplaceAll(head, "\r\n", "\n"), "\n")
}

func (r reading) fields(lines []string) []field {
	var list []field
	for _, line := range lines {
		if r.fold && len(list) > 0 && strings.HasPrefix(line, " ") {
			list[len(list)-1].value += line
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			continue
		}
		if !r.exact {
			name = strings.TrimSpace(name)
		}
		list = append(list, field{strings.ToLower(name), strings.Trim(value, " \t")})
	}
	return list
}

// body reads a message's body, in the framing that r sees.
func (r reading) body(br *bufio.Reader, m *message) error {
	length, chunked := r.framing(m.fields)
	switch {
	case r.bareGet && m.method == "GET":
		return nil
	case chunked:
		return r.chunks(br, m)
	case length < 0 || length > maxBody:
		return errBody
	}
	return m.take(br, length)
}

func (r reading) framing(fields []field) (length int64, chunked bool) {
	lengths := 0
	for _, f := range fields {
		switch f.name {
		case "transfer-encoding":
			chunked = chunked || f.value == "chunked" || !r.exact && strings.Contains(strings.ToLower(f.value), "chunked")
		case "content-length":
			if lengths++; lengths > 1 && r.firstLength {
				continue
			}
			n, err := strconv.ParseInt(strings.TrimPrefix(f.value, "+"), 10, 64)
			if err != nil {
				n = -1
			}
			length = n
		}
	}
	return length, chunked && !(r.noEncoding && lengths > 0)
}

// take reads n bytes of the body.
func (m *message) take(br *bufio.Reader, n int64) error {
	kept := min(n, max(0, maxKept-int64(len(m.body))))
	piece := make([]byte, kept)
	if _, err := io.ReadFull(br, piece); err != nil {
		return err
	}
	m.body, m.raw = append(m.body, piece...), append(m.raw, piece...)
	_, err := io.CopyN(io.Discard, br, n-kept)
	return err
}

// chunks reads a chunked body and its trailers.
func (r reading) chunks(br *bufio.Reader, m *message) error {
	for total := int64(0); ; {
		line, err := m.line(br)
		if err != nil {
			return err
		}
		digits, _, _ := strings.Cut(line, ";")
		size, err := strconv.ParseInt(strings.TrimSpace(digits), 16, 64)
		if total += size; err != nil || size < 0 || total > maxBody {
			return errBody
		}
		if size == 0 {
			return r.trailers(br, m)
		}
		if err := m.take(br, size); err != nil {
			return err
		}
		if _, err := m.line(br); err != nil {
			return err
		}
	}
}

func (r reading) trailers(br *bufio.Reader, m *message) error {
	for range 100 {
		line, err := m.line(br)
		if err != nil || line == "" {
			return err
		}
		m.fields = append(m.fields, r.fields([]string{line})...)
	}
	return errHead
}

// line reads a line of the body's framing, without its end.
func (m *message) line(br *bufio.Reader) (string, error) {
	line, err := br.ReadSlice('\n')
	if len(m.raw) < 2*maxKept {
		m.raw = append(m.raw, line...)
	}
	return strings.TrimRight(string(line), "\r\n"), err
}
