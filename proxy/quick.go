package proxy

import (
	"bytes"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/sallyport/sallyport/policy"
)

// quick answers the refused CONNECTs that a connection begins with before
// net/http sees them: an agent that is told no asks again and again. What is not
// of its plain form, or is allowed, goes on to net/http, and so does all that
// comes after it on the connection. Its answers and events are net/http's and
// forward's, byte for byte: see FuzzQuick.
type quick struct {
	s    *forward
	done bool   // net/http has the connection
	used bool   // it answered; the deadline for reading is its own
	out  []byte // the answer, kept for the next one
}

// read reads for net/http from c, and answers by itself for as long as it can.
func (q *quick) read(c *clientConn, p []byte) (int, error) {
	for {
		n, err := c.Conn.Read(p)
		if err == nil && q.answer(c, p[:n]) {
			if _, err := c.Conn.Write(q.out); err != nil {
				return 0, io.EOF // of another error net/http would tell the client
			}
			q.used = true
			_ = c.SetReadDeadline(time.Now().Add(q.s.IdleTimeout))
			continue
		}
		q.done = true
		if q.used && err == nil {
			_ = c.SetReadDeadline(time.Now().Add(orDefault(q.s.lis.headWait, headTimeout)))
		}
		return n, err
	}
}

// answer records b's refusal and fills out. It does nothing and returns false
// where b is not one plain CONNECT, or is not refused by the policy.
func (q *quick) answer(c *clientConn, b []byte) bool {
	target, ok := plainConnect(b)
	if !ok {
		return false
	}
	host, port, err := parseTarget(string(target))
	if err != nil {
		return false
	}
	d := q.s.policyNow().Decide(host, port)
	if d.Verdict == policy.Allow {
		return false
	}
	e := event(c, policy.Deny)
	e.Method, e.Host, e.Port, e.Rule = http.MethodConnect, host, port, d.Rule
	e.Status, e.Reason = http.StatusForbidden, d.Reason
	line := allowHint(host, port, d.Explain(host, port))
	if !q.s.rec.record(e) {
		line = "sallyport: " + auditFailed
	}
	q.out = appendForbidden(q.out[:0], headerSafe(d.Reason), line, time.Now())
	return true
}

// appendForbidden appends a 403 as http.Error writes it.
func appendForbidden(b []byte, reason, line string, now time.Time) []byte {
	b = append(b, "HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\nX-Sallyport-Reason: "...)
	b = append(b, reason...)
	b = append(b, "\r\nDate: "...)
	b = now.UTC().AppendFormat(b, http.TimeFormat)
	b = append(b, "\r\nContent-Length: "...)
	b = strconv.AppendInt(b, int64(len(line)+1), 10)
	b = append(b, "\r\n\r\n"...)
	b = append(b, line...)
	return append(b, '\n')
}

// plainConnect returns the target of a CONNECT, where b is that request and
// nothing before, within or after it leaves a choice to its reader: HTTP/1.1, CRLF,
// printable ASCII, no header but those of harmless, at most one Host, which repeats
// the target.
func plainConnect(b []byte) (target []byte, ok bool) {
	rest, ok := bytes.CutPrefix(b, []byte("CONNECT "))
	if !ok {
		return nil, false
	}
	target, rest, ok = bytes.Cut(rest, []byte(" HTTP/1.1\r\n"))
	if !ok {
		return nil, false
	}
	for hosts := 0; ; {
		line, after, ok := bytes.Cut(rest, []byte("\r\n"))
		if !ok {
			return nil, false
		}
		rest = after
		if len(line) == 0 {
			return target, len(rest) == 0
		}
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ok || !harmless(name) || !printable(value) {
			return nil, false
		}
		if bytes.EqualFold(name, []byte("Host")) {
			hosts++
			if hosts > 1 || !bytes.Equal(bytes.TrimSpace(value), target) {
				return nil, false
			}
		}
	}
}

// harmless says whether a header changes nothing about a CONNECT's answer.
func harmless(name []byte) bool {
	for _, known := range []string{"Host", "User-Agent", "Proxy-Connection", "Accept", "Proxy-Authorization"} {
		if len(name) == len(known) && bytes.EqualFold(name, []byte(known)) {
			return true
		}
	}
	return false
}

func printable(b []byte) bool {
	for _, c := range b {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return true
}
