package proxy

import (
	"bytes"
	"context"
	"net"
	"strings"
)

// What a first message was recognised as.
const (
	isNothing = iota
	isTLS
	isHTTP
)

// sight is what a look at a connection's first bytes told.
type sight struct {
	kind   int
	sni    string
	host   string // SNI, or HTTP's Host
	method string
	path   string
	bytes  int64
	note   string // why nothing, or not all, was seen
}

// look reads conn's first message. It reads no more than s.most bytes and not
// longer than s.timeout.
func (s *interceptor) look(ctx context.Context, conn net.Conn) sight {
	s.arm(ctx, conn, s.firstByte)
	h := hello{max: s.most}
	buf := make([]byte, 4096)
	for first := true; ; first = false {
		n, err := conn.Read(buf[:min(len(buf), s.most-len(h.buf))])
		if first && n > 0 {
			s.arm(ctx, conn, s.timeout)
		}
		seen, done := sniff(&h, buf[:n])
		if done {
			return seen
		}
		if err != nil || len(h.buf) >= s.most {
			return partial(&h, s.most)
		}
	}
}

// sniff adds bytes to h and says what they are as soon as that is certain.
func sniff(h *hello, p []byte) (seen sight, done bool) {
	from := max(0, len(h.buf)-2) // an empty line may have begun before p
	complete, err := h.add(p)
	seen.bytes = int64(len(h.buf))
	switch {
	case complete:
		seen.kind = isTLS
		name, err := h.serverName()
		if err != nil {
			seen.note = "a TLS ClientHello that cannot be read"
		}
		seen.sni, seen.host = bound(name, maxName), bound(name, maxName)
		return seen, true
	case err == nil:
		return seen, false
	case h.looksTLS():
		seen.kind, seen.note = isTLS, "a TLS ClientHello that cannot be read"
		return seen, true
	}
	if !maybeHTTP(h.buf) {
		seen.note = "neither TLS nor HTTP"
		return seen, true
	}
	if headEnd(h.buf[from:]) < 0 {
		return seen, false
	}
	return httpSight(h.buf), true
}

// partial is what can be said of a message that did not become complete.
func partial(h *hello, most int) sight {
	seen := sight{bytes: int64(len(h.buf)), note: "it ended or paused within its first message"}
	switch {
	case len(h.buf) == 0:
		seen.note = "it sent nothing"
	case h.looksTLS():
		seen.kind = isTLS
	case bytes.IndexByte(h.buf, '\n') > 0 && maybeHTTP(h.buf):
		note := seen.note
		seen = httpSight(h.buf)
		seen.note = note
	}
	if len(h.buf) >= most {
		seen.note = "its first message is too long"
	}
	return seen
}

// maybeHTTP says whether b may start an HTTP/1 request line: a method of upper
// case letters, a space and, once the line is whole, HTTP/1.x at its end.
func maybeHTTP(b []byte) bool {
	for i, c := range b {
		if c == ' ' && i > 0 {
			break
		}
		if (c < 'A' || c > 'Z') && c != '-' || i >= maxMethod {
			return false
		}
	}
	line, _, whole := bytes.Cut(b, []byte("\n"))
	if !whole {
		return true
	}
	line = bytes.TrimSuffix(line, []byte("\r"))
	i := bytes.LastIndexByte(line, ' ')
	return i > 0 && bytes.HasPrefix(line[i:], []byte(" HTTP/1."))
}

// httpSight reads method, path and host out of an HTTP/1 head, be it whole or
// cut off. An absolute URL's host comes before the Host header, as RFC 9112
// §3.2.2 has it.
func httpSight(b []byte) sight {
	seen := sight{kind: isHTTP, bytes: int64(len(b))}
	seen.method, seen.path = requestLine(b)
	if _, rest, ok := strings.Cut(seen.path, "://"); ok && seen.path[0] != '/' {
		host, path, _ := strings.Cut(rest, "/")
		seen.host, seen.path = bound(host, maxName), "/"+path
		return seen
	}
	_, rest, _ := bytes.Cut(b, []byte("\n"))
	for len(rest) > 0 {
		line, after, _ := bytes.Cut(rest, []byte("\n"))
		rest = after
		if len(bytes.TrimSuffix(line, []byte("\r"))) == 0 {
			break // the head's end: a body names no host
		}
		name, value, ok := bytes.Cut(line, []byte(":"))
		if ok && bytes.EqualFold(bytes.TrimSpace(name), []byte("host")) {
			seen.host = bound(string(bytes.TrimSpace(value[:min(len(value), maxPath)])), maxName)
			return seen
		}
	}
	return seen
}
