package endpoint

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
)

// Bounds of an answer as a client takes it. The gateway's own are a 64 KiB head and
// no informational answers at all.
const (
	maxAnswerHead = 128 << 10
	maxEarly      = 4       // answers of 1xx before the one that counts
	maxAnswerBody = 1 << 20 // of more, no more is read
)

// answer is what came back on a connection, read as strictly as HTTP/1.1 is written.
type answer struct {
	early  int // of 1xx
	status int
	fields []field
	body   []byte
	whole  bool   // the body ended as its head says
	more   bool   // it is longer than maxAnswerBody
	flaw   string // what no well-formed answer has; empty: nothing
}

// get returns the first value of a field.
func (a *answer) get(name string) string {
	for _, f := range a.fields {
		if f.name == name {
			return f.value
		}
	}
	return ""
}

// lasts says whether the connection goes on after the answer.
func (a *answer) lasts() bool {
	return a.whole && a.flaw == "" && !strings.EqualFold(a.get("connection"), "close") &&
		(a.get("content-length") != "" || a.get("transfer-encoding") != "" || a.status == 204)
}

var (
	errFlaw    = errors.New("malformed")
	statusLine = regexp.MustCompile(`^HTTP/1\.[01] [1-5][0-9][0-9]( [ -~]*)?$`)
	token      = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")
)

// readAnswer reads one answer. An error is of the connection, or errFlaw.
func readAnswer(br *bufio.Reader) (*answer, error) {
	a := &answer{}
	for {
		if err := a.head(br); err != nil {
			return a, err
		}
		if a.status >= 200 || a.status == 101 {
			return a, a.readBody(br)
		}
		if a.early++; a.early > maxEarly {
			return a, a.flawed("more than %d answers of 1xx", maxEarly)
		}
	}
}

func (a *answer) flawed(format string, args ...any) error {
	a.flaw = fmt.Sprintf(format, args...)
	return errFlaw
}

// head reads a status line and fields.
func (a *answer) head(br *bufio.Reader) error {
	first, err := a.line(br, maxAnswerHead)
	if err != nil {
		return err
	}
	if !statusLine.MatchString(first) {
		return a.flawed("status line %.60q", first)
	}
	a.fields = nil
	a.status, err = strconv.Atoi(first[9:12])
	if err != nil {
		return a.flawed("status line %.60q", first)
	}
	for size := 0; ; {
		line, err := a.line(br, maxAnswerHead-size)
		if err != nil || line == "" {
			return err
		}
		size += len(line) + 2
		name, value, ok := strings.Cut(line, ":")
		if !ok || !token.MatchString(name) || strings.ContainsFunc(value, control) {
			return a.flawed("header line %.60q", line)
		}
		a.fields = append(a.fields, field{strings.ToLower(name), strings.Trim(value, " \t")})
	}
}

func control(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }

// line reads a line that ends in CR LF, without it.
func (a *answer) line(br *bufio.Reader, most int) (string, error) {
	var line []byte
	for {
		part, err := br.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case len(line) > most:
			return "", a.flawed("more than %d bytes of head", maxAnswerHead)
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err != nil && len(line) > 0:
			return "", a.flawed("%.60q and no more", line)
		case err != nil:
			return "", err
		}
		whole, ok := bytes.CutSuffix(line, []byte("\r\n"))
		if !ok {
			return "", a.flawed("a line that ends in a bare LF: %.60q", line)
		}
		return string(whole), nil
	}
}

// readBody reads the body. Where that ends early, whole stays false and there is no
// error: the client can tell.
func (a *answer) readBody(br *bufio.Reader) error {
	var lengths, encodings []string
	for _, f := range a.fields {
		switch f.name {
		case "content-length":
			lengths = append(lengths, f.value)
		case "transfer-encoding":
			encodings = append(encodings, f.value)
		}
	}
	switch {
	case len(lengths)+len(encodings) > 1:
		return a.flawed("framed in two ways")
	case a.status == 101 || a.status == 204 || a.status == 304:
		a.whole = true
		return nil
	case len(encodings) == 1 && encodings[0] != "chunked":
		return a.flawed("Transfer-Encoding %.60q", encodings[0])
	case len(encodings) == 1:
		return a.chunks(br)
	case len(lengths) == 0:
		return a.take(br, maxAnswerBody+1, true)
	}
	n, err := strconv.ParseUint(lengths[0], 10, 48)
	if err != nil {
		return a.flawed("Content-Length %.60q", lengths[0])
	}
	return a.take(br, int64(n), false)
}

// take reads n bytes of the body, or up to the end of the connection.
func (a *answer) take(br *bufio.Reader, n int64, toEnd bool) error {
	room := maxAnswerBody - int64(len(a.body))
	piece, err := io.ReadAll(io.LimitReader(br, min(n, room)))
	a.body = append(a.body, piece...)
	a.more = n > room && int64(len(piece)) == room
	a.whole = err == nil && !a.more && (toEnd || int64(len(piece)) == n)
	return nil
}

func (a *answer) chunks(br *bufio.Reader) error {
	for {
		line, err := br.ReadSlice('\n')
		if err != nil {
			return nil // not whole
		}
		digits, ok := strings.CutSuffix(string(line), "\r\n")
		size, err := strconv.ParseUint(digits, 16, 48)
		if !ok || err != nil {
			return a.flawed("chunk size %.60q", line)
		}
		if size == 0 {
			return a.trailers(br)
		}
		if _ = a.take(br, int64(size), false); !a.whole {
			return nil
		}
		a.whole = false
		if _, err := br.Discard(2); err != nil {
			return nil
		}
	}
}

func (a *answer) trailers(br *bufio.Reader) error {
	line, err := a.line(br, maxAnswerHead)
	if err == nil && line != "" {
		return a.flawed("a trailer: %.60q", line)
	}
	a.whole = err == nil
	return err
}
