package proxy

import (
	"bufio"
	"bytes"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/policy"
)

func FuzzHello(f *testing.F) {
	f.Add(clientHello(f, "a.example"), uint8(7))
	f.Add(clientHello(f, ""), uint8(255))
	f.Add([]byte("\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00"), uint8(1))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"), uint8(3))
	f.Fuzz(func(t *testing.T, b []byte, step uint8) {
		whole, parts := gate{want: "a.example", must: true}, gate{want: "a.example", must: true}
		pass, refused := whole.add(b)
		var got []byte
		why := ""
		size := int(step) + 1
		for at := 0; at < len(b) && why == ""; at += size {
			part := b[at:min(at+size, len(b))]
			if parts.open {
				got = append(got, part...)
				continue
			}
			var p []byte
			p, why = parts.add(part)
			got = append(got, p...)
		}
		if len(b) == 0 {
			return
		}
		if parts.open && !bytes.Equal(got, b) || !parts.open && len(got) > 0 {
			t.Errorf("%d of %d bytes passed", len(got), len(b))
		}
		if whole.open && !bytes.Equal(pass, b) || whole.open != parts.open || (refused != "") != (why != "") {
			t.Errorf("whole: %v %q; in parts: %v %q", whole.open, refused, parts.open, why)
		}
	})
}

func FuzzSniffHTTP(f *testing.F) {
	f.Add([]byte("GET /a?b HTTP/1.1\r\nHost: a.example\r\n\r\n"), uint8(5))
	f.Add([]byte("POST http://a.example/ HTTP/1.0\nhost:b\n\n"), uint8(1))
	f.Add([]byte("SSH-2.0-x\r\n"), uint8(9))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\nHost: b.example\r\n"), uint8(255))
	f.Fuzz(func(t *testing.T, b []byte, step uint8) {
		h := hello{max: 4096}
		size := int(step) + 1
		var seen sight
		done := false
		for at := 0; at < len(b) && !done; at += size {
			seen, done = sniff(&h, b[at:min(at+size, len(b))])
		}
		if !done {
			seen = partial(&h, 4096)
		}
		if len(seen.host) > maxName || len(seen.path) > maxPath+1 || len(seen.method) > maxMethod {
			t.Errorf("unbounded %+v", seen)
		}
		if seen.kind == isHTTP && seen.method == "" {
			t.Errorf("HTTP without a method: %+v", seen)
		}
		// The record names the host that a strict reader would, but for the space around it.
		q, ok := readStrict(string(b))
		host, one := q.only("host")
		if host = strings.TrimSpace(host); done && ok && one && strings.HasPrefix(q.target, "/") && q.method == strings.ToUpper(q.method) && len(b) < 4096 && maybeHTTP(b) && seen.kind == isHTTP &&
			(seen.method != bound(q.method, maxMethod) || seen.host != bound(host, maxName)) {
			t.Errorf("%q: %+v, and a strict reader finds %s and %q", b, seen, q.method, host)
		}
	})
}

func FuzzHead(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\nrest"))
	f.Add([]byte("GET / HTTP/1.1\nHost: a\n\n"))
	f.Add([]byte("GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n"))
	f.Add([]byte("GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n"))
	f.Add([]byte("GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n"))
	f.Add([]byte("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx"))
	f.Fuzz(func(t *testing.T, b []byte) {
		end := headEnd(b)
		if end < 0 {
			return
		}
		if end > len(b) {
			t.Fatal(end)
		}
		host, err := checkHead(b[:end])
		if err != nil {
			return
		}
		if bytes.Count(b[:end], []byte("\n")) != bytes.Count(b[:end], []byte("\r\n")) {
			t.Errorf("a bare LF passes in %q", b[:end])
		}
		q, ok := readStrict(string(b))
		want, one := q.only("host")
		if _, oneLength := q.only("content-length"); ok && (!one || !oneLength || host != want) {
			t.Errorf("%q: Host is %q; a strict reader has %q", b[:end], host, q.headers)
		}
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(b)))
		if err != nil || !serverTakes(r) {
			return
		}
		if !ok {
			t.Fatalf("taken, and no head to a strict reader: %q", b[:end])
		}
		if !r.URL.IsAbs() && r.Method != http.MethodConnect && r.Host != want {
			t.Errorf("%q: Host is %q; net/http has %q, a strict reader %q", b[:end], host, r.Host, q.headers["host"])
		}
		if len(q.rest) != len(b)-end {
			t.Errorf("the head ends at %d; a strict reader leaves %d of %d", end, len(q.rest), len(b))
		}
	})
}

func FuzzTarget(f *testing.F) {
	for _, s := range []string{"a.example:443", "[::1]:443", "127.1:80", "a@b:1", "A.Example.:65535", "a:0", "0x7f.1:80", "xn--a.example:1", "１.1.1.1:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		host, port, err := parseTarget(s)
		if err != nil {
			return
		}
		if port == 0 || host != strings.ToLower(host) || strings.Trim(host, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "" {
			t.Errorf("%q gave %q %d", s, host, port)
		}
		if again, p2, err := parseTarget(host + ":" + strings.TrimLeft(s[strings.LastIndexByte(s, ':')+1:], "")); err != nil || again != host || p2 != port {
			t.Errorf("%q is not stable: %q %d %v", s, again, p2, err)
		}
		if last := host[strings.LastIndexByte(host, '.')+1:]; strings.Trim(last, "0123456789") == "" {
			t.Errorf("%q is an address", host)
		}
		if inetAton(host) {
			t.Errorf("%q is an address to inet_aton", host)
		}
		// The policy compares what the proxy dials.
		if name, err := policy.Canonical(host); err == nil && name != host {
			t.Errorf("%q is %q to the policy", host, name)
		}
	})
}

// inetAton says whether the C library's inet_aton(3) reads s: up to four numbers,
// decimal, octal or hexadecimal, the last of which fills what is left.
func inetAton(s string) bool {
	parts := strings.Split(s, ".")
	for _, p := range parts {
		_, err := strconv.ParseUint(p, 0, 32)
		goOnly := strings.ContainsAny(p, "_oO") || strings.HasPrefix(strings.ToLower(p), "0b") // no number to C
		if goOnly || err != nil && !strings.EqualFold(p, "0x") {
			return false
		}
	}
	return len(parts) <= 4
}

func FuzzEvents(f *testing.F) {
	f.Add([]byte("event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":7}}}\n\n"), uint8(3))
	f.Add([]byte(": comment\r\n\r\ndata: x\r\rdata"), uint8(0))
	f.Add([]byte("data:"+strings.Repeat("x", 100)), uint8(200))
	f.Fuzz(func(t *testing.T, b []byte, step uint8) {
		var whole, parts eventScanner
		whole.feed(b)
		size := int(step) + 1
		for at := 0; at < len(b); at += size {
			parts.feed(b[at:min(at+size, len(b))])
		}
		if whole.usage != parts.usage || whole.boundary() != parts.boundary() || whole.stopped != parts.stopped {
			t.Errorf("whole %+v, in parts %+v", whole, parts)
		}
		if len(parts.line) > maxEventLine || parts.in < 0 || parts.out < 0 {
			t.Errorf("%+v", parts)
		}
		if parts.boundary() && len(b) > 0 && b[len(b)-1] != '\n' {
			t.Errorf("a boundary after %q", b)
		}
		// Where every line ends in LF: between two events is where an empty line,
		// or nothing, was the last.
		text := strings.ReplaceAll(string(b), "\r\n", "\n")
		if !strings.Contains(text, "\r") && whole.boundary() != (text == "" || text == "\n" || strings.HasSuffix(text, "\n\n") || strings.Trim(text, "\n") == "") {
			t.Errorf("a boundary after %q: %v", b, whole.boundary())
		}
		if whole.in > 0 && !strings.Contains(text, strconv.FormatInt(whole.in, 10)) || whole.out > 0 && !strings.Contains(text, strconv.FormatInt(whole.out, 10)) {
			t.Errorf("%+v, and %q has no such number", whole.usage, b)
		}
	})
}

// However an answer is cut, the counts in its end are the same, and they are in
// it.
func FuzzTail(f *testing.F) {
	f.Add([]byte(`{"content":[],"usage":{"input_tokens":7,"output_tokens":9}}`), uint8(4))
	f.Add([]byte(`{"a":"\"usage\":{\"input_tokens\":7}","usage":{"input_tokens":-1}`), uint8(0))
	f.Add([]byte(strings.Repeat(" ", maxTail)+`"usage":{"output_tokens":3}`), uint8(255))
	f.Fuzz(func(t *testing.T, b []byte, step uint8) {
		var whole, parts tailScanner
		whole.feed(b)
		size := int(step) + 1
		for at := 0; at < len(b); at += size {
			parts.feed(b[at:min(at+size, len(b))])
		}
		want := b[max(0, len(b)-maxTail):]
		if !bytes.Equal(whole.tail, want) || !bytes.Equal(parts.tail, want) || whole.usage() != parts.usage() {
			t.Errorf("%d bytes, whole: %d %+v, in parts: %d %+v", len(b), len(whole.tail), whole.usage(), len(parts.tail), parts.usage())
		}
		if u := whole.usage(); u.in < 0 || u.out < 0 || u.in > 0 && !bytes.Contains(b, strconv.AppendInt(nil, u.in, 10)) {
			t.Errorf("%q: %+v", b, u)
		}
	})
}
