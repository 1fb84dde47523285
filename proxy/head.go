package proxy

import (
	"bytes"
	"errors"
	"strings"
)

// maxHead bounds a request's line and headers, in bytes.
const maxHead = 64 << 10

var (
	errBareLF   = errors.New("a header line ends without CR")
	errFold     = errors.New("a folded header line")
	errBothLen  = errors.New("both Content-Length and Transfer-Encoding")
	errManyLen  = errors.New("more than one Content-Length or Transfer-Encoding")
	errManyHost = errors.New("more than one Host")
	errColon    = errors.New("a malformed header line")
)

// headEnd returns the length of the request head at the start of b, its empty
// line included, or -1 where it is not complete. Like net/http it takes a bare
// LF for a line's end, so that the two agree where the head ends; checkHead then
// refuses it.
func headEnd(b []byte) int {
	for at := 0; ; {
		i := bytes.IndexByte(b[at:], '\n')
		if i < 0 {
			return -1
		}
		at += i + 1
		switch rest := b[at:]; {
		case len(rest) > 0 && rest[0] == '\n':
			return at + 1
		case len(rest) > 1 && rest[0] == '\r' && rest[1] == '\n':
			return at + 2
		}
	}
}

// checkHead refuses what two HTTP parsers may read differently (RFC 9112 §2.2,
// §5.2, §6.3) and returns the Host header, empty where there is none. net/http
// tolerates most of it and drops Host where the request line names a host.
func checkHead(head []byte) (host string, err error) {
	first, rest, _ := bytes.Cut(head, []byte("\n"))
	if !bytes.HasSuffix(first, []byte("\r")) {
		return "", errBareLF
	}
	var length, encoding, hosts int
	for len(rest) > 0 {
		line, after, _ := bytes.Cut(rest, []byte("\n"))
		rest = after
		line, found := bytes.CutSuffix(line, []byte("\r"))
		if !found {
			return "", errBareLF
		}
		if len(line) == 0 {
			break
		}
		if line[0] == ' ' || line[0] == '\t' {
			return "", errFold
		}
		name, value, ok := strings.Cut(string(line), ":")
		if !ok || name == "" || strings.ContainsAny(name, " \t") {
			return "", errColon
		}
		switch strings.ToLower(name) {
		case "host":
			hosts++
			host = strings.Trim(value, " \t")
		case "content-length":
			length++
		case "transfer-encoding":
			encoding++
		}
	}
	switch {
	case hosts > 1:
		return "", errManyHost
	case length > 0 && encoding > 0:
		return "", errBothLen
	case length > 1 || encoding > 1:
		return "", errManyLen
	}
	return host, nil
}

// requestLine splits the first line of an HTTP/1 request, as far as it got.
// The strings are not checked: they are for the record.
func requestLine(b []byte) (method, target string) {
	line, _, _ := bytes.Cut(b[:min(len(b), maxPath+maxMethod)], []byte("\n"))
	method, target, _ = strings.Cut(strings.TrimRight(string(line), "\r"), " ")
	target, _, _ = strings.Cut(target, " ")
	target, _, _ = strings.Cut(target, "?")
	return bound(method, maxMethod), bound(target, maxPath)
}

// claimedHost returns the first Host of a request's head, as far as it got. Like
// requestLine, it checks nothing.
func claimedHost(b []byte) string {
	for rest := b[:min(len(b), maxHead)]; len(rest) > 0; {
		line, after, _ := bytes.Cut(rest, []byte("\n"))
		rest = after
		name, value, _ := strings.Cut(strings.TrimRight(string(line), "\r"), ":")
		if strings.EqualFold(strings.TrimSpace(name), "host") {
			return bound(strings.Trim(value, " \t"), maxName)
		}
		if name == "" {
			break // the head's end
		}
	}
	return ""
}
