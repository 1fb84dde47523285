package proxy

import (
	"bufio"
	"bytes"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/sallyport/sallyport/policy"
)

// requests are what a container may send to the forward proxy: good ones, and
// each kind of ambiguity.
var requests = []string{
	"GET http://a.example/x?y HTTP/1.1\r\nHost: a.example\r\n\r\n",
	"POST http://a.example:80/ HTTP/1.1\r\nHost: A.example.:80\r\nContent-Length: 3\r\n\r\nabc",
	"POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
	"POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\nGET http://c.example/ HTTP/1.1\r\n\r\n",
	"POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding:\x0bchunked\r\nTransfer-Encoding: identity\r\n\r\n",
	"GET http://a.example/ HTTP/1.1\r\nHost: c.example\r\n\r\n",
	"GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\nHost: c.example\r\n\r\n",
	"GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\nX: y\r\n folded\r\n\r\n",
	"GET http://a.example/ HTTP/1.1\nHost: a.example\n\n",
	"GET http://a.example/ HTTP/1.1\r\nHost: a.example\nX: y\r\n\r\n",
	"GET http://a.example/ HTTP/1.0\r\n\r\nGET http://a.example/2 HTTP/1.1\r\nHost: a.example\r\n\r\n",
	"GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\nConnection: x-secret, upgrade\r\nX-Secret: 1\r\nUpgrade: h2c\r\n\r\n",
	"GET http://u:p@a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n",
	"GET http://a.example%2f@c.example/ HTTP/1.1\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n",
	"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
	"CONNECT c.example:443 HTTP/1.1\r\n\r\n",
	"CONNECT a.example:443 HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n",
	"CONNECT 127.1:443 HTTP/1.1\r\n\r\n",
	"CONNECT a.example:80 HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n",
	"CONNECT [::1]:443 HTTP/1.1\r\nContent-Length: 1\r\n\r\nx",
}

// allowed are all that the targets' policy lets through.
var allowed = regexp.MustCompile(`(?i)^(a\.example\.?|([a-z0-9_-]{1,63}\.)+b\.example\.?):(80|443)$`)

func fuzzPolicy(t testing.TB) func() *policy.Policy {
	return allow(t, policy.Rule{Host: "a.example", Ports: []uint16{80, 443}}, policy.Rule{Host: "*.b.example", Ports: []uint16{80, 443}})
}

// A request is allowed only if a strict reader, who knows nothing but the RFC,
// finds an allowed host in it and nothing that speaks of another.
func FuzzDecide(f *testing.F) {
	for _, r := range requests {
		f.Add([]byte(r))
	}
	rules := fuzzPolicy(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		k := &kept{}
		s := &forward{Forward: Forward{Policy: rules, Log: quiet}, rec: &recorder{put: k.record, log: quiet}}
		conn := &clientConn{Conn: bytesConn{bytes.NewReader(raw)}}
		r, err := http.ReadRequest(bufio.NewReader(conn))
		if err != nil || !serverTakes(r) {
			return
		}
		g, no := s.decide(conn, r)
		if (no == nil) != (g.event.Verdict == policy.Allow.String()) {
			t.Fatalf("%q: %v, and the event says %q", raw, no, g.event.Verdict)
		}
		if no != nil {
			return
		}
		q, ok := readStrict(string(raw))
		if !ok {
			t.Fatalf("allowed, and no request to a strict reader: %q", raw)
		}
		want := strictTarget(t, q)
		if host := strings.ToLower(want); !allowed.MatchString(want) || g.host+":"+portText(g.port) != strings.Replace(host, ".:", ":", 1) {
			t.Errorf("%q: allowed %s:%d; a strict reader finds %q", raw, g.host, g.port, want)
		}
	})
}

func portText(port uint16) string {
	if port == 80 {
		return "80"
	}
	return "443"
}

// serverTakes is what net/http's server looks at beyond ReadRequest.
func serverTakes(r *http.Request) bool {
	// A higher minor version is taken for 1.1 (RFC 9110, 2.5); what is sent on is written anew.
	if r.ProtoMajor != 1 || r.ProtoMinor > 1 || len(r.Header["Host"]) > 1 || r.Host != "" && !httpguts.ValidHostHeader(r.Host) {
		return false
	}
	for name, values := range r.Header {
		if !httpguts.ValidHeaderFieldName(name) || slices.ContainsFunc(values, func(v string) bool { return !httpguts.ValidHeaderFieldValue(v) }) {
			return false
		}
	}
	return true
}

// strictTarget is host:port of a request that may pass, as its line names it. It
// fails where another part names another host, or where the body's length is not
// plain.
func strictTarget(t *testing.T, q wireRequest) string {
	t.Helper()
	host, one := q.only("host")
	length, oneLength := q.only("content-length")
	encoding, oneEncoding := q.only("transfer-encoding")
	if !one || !oneLength || !oneEncoding || length != "" && encoding != "" {
		t.Fatalf("allowed with headers %q", q.headers)
	}
	if q.method == http.MethodConnect {
		if encoding != "" || strings.Trim(length, "0") != "" {
			t.Fatalf("CONNECT with a body: %q", q.headers)
		}
		return q.target
	}
	rest, ok := strings.CutPrefix(strings.ToLower(q.target[:min(7, len(q.target))])+q.target[min(7, len(q.target)):], "http://")
	if !ok || len(q.headers["upgrade"]) > 0 {
		t.Fatalf("allowed: %q %q", q.target, q.headers)
	}
	authority := withPort(rest[:len(rest)-len(strings.TrimLeft(rest, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:"))], ":80")
	if plain := func(s string) string { return strings.Replace(strings.ToLower(s), ".:", ":", 1) }; host != "" && plain(withPort(host, ":80")) != plain(authority) {
		t.Fatalf("allowed %q with Host %q", q.target, host)
	}
	return authority
}

// Whatever comes on one connection, each connection that is made for it gets one
// request, of a strict reader's grammar, for the host that was allowed: no second
// one is smuggled along.
func FuzzForward(f *testing.F) {
	for _, r := range requests {
		f.Add([]byte(r))
		f.Add([]byte(r + requests[0]))
	}
	f.Add(append([]byte("CONNECT a.example:443 HTTP/1.1\r\n\r\n"), clientHello(f, "a.example")...))
	f.Add(append([]byte("CONNECT a.example:443 HTTP/1.1\r\n\r\n"), clientHello(f, "c.example")...))
	rules := fuzzPolicy(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) > 8<<10 {
			return
		}
		synctest.Test(t, func(t *testing.T) {
			origin := &far{answer: []byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")}
			k := &kept{}
			talk(&Forward{Policy: rules, Dial: origin.dial, Record: k.record, IdleTimeout: time.Second, Log: quiet}, raw)
			origin.wg.Wait()
			connects := 0
			for _, e := range k.events {
				if e.Method == http.MethodConnect {
					connects++
				}
			}
			for _, got := range origin.got {
				checkOrigin(t, got.String(), connects > 0)
			}
			if len(origin.got) > len(k.events) || k.allowed() > len(origin.got) {
				t.Errorf("%d connections were made, %d events: %+v", len(origin.got), len(k.events), k.events)
			}
		})
	})
}

// checkOrigin looks at what one connection to an origin was sent. After a CONNECT
// to port 80 it may be anything that is no TLS.
func checkOrigin(t *testing.T, got string, tunnel bool) {
	t.Helper()
	if got == "" {
		return
	}
	if strings.HasPrefix(got, "\x16\x03") {
		if names := slowSNI([]byte(got)); len(names) != 1 || !allowed.MatchString(names[0]+":443") {
			t.Errorf("a hello for %q went on", names)
		}
		return
	}
	q, ok := readStrict(got)
	if tunnel {
		return
	}
	host, one := q.only("host")
	if !ok || !one || !allowed.MatchString(withPort(host, ":80")) || !strings.HasPrefix(q.target, "/") && q.target != "*" {
		t.Fatalf("an origin was sent %q", got)
	}
	for name := range q.headers {
		if slices.Contains(hopHeaders, http.CanonicalHeaderKey(name)) && name != "transfer-encoding" && name != "connection" && name != "te" {
			t.Errorf("%s reached the origin: %q", name, got)
		}
	}
	r := bufio.NewReader(strings.NewReader(got))
	first, err := http.ReadRequest(r)
	if err != nil {
		t.Fatalf("an origin was sent %q: %v", got, err)
	}
	_, _ = bytes.NewBuffer(nil).ReadFrom(first.Body)
	if r.Buffered() > 0 {
		rest, _ := r.Peek(r.Buffered())
		t.Errorf("behind the request to the origin comes %q", rest)
	}
}

// bytesConn reads bytes; it has an address.
type bytesConn struct{ *bytes.Reader }

func (bytesConn) Write(p []byte) (int, error)      { return len(p), nil }
func (bytesConn) Close() error                     { return nil }
func (bytesConn) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (bytesConn) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (bytesConn) SetDeadline(time.Time) error      { return nil }
func (bytesConn) SetReadDeadline(time.Time) error  { return nil }
func (bytesConn) SetWriteDeadline(time.Time) error { return nil }
