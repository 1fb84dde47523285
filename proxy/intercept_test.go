package proxy

import (
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestIntercept(t *testing.T) {
	hello := string(clientHello(t, "api.example.com"))
	var split []byte // the same hello, each record cut into records of 7 bytes
	for at := 5; at < len(hello); at += 7 {
		part := hello[at:min(at+7, len(hello))]
		split = append(split, 22, 3, 1, 0, byte(len(part)))
		split = append(split, part...)
	}
	for name, c := range map[string]struct {
		send, later             string
		host, sni, method, path string
		note                    string
		http                    bool
	}{
		"TLS":                     {send: hello, host: "api.example.com", sni: "api.example.com"},
		"TLS in two segments":     {send: hello[:300], later: hello[300:], host: "api.example.com", sni: "api.example.com"},
		"TLS in many records":     {send: string(split), host: "api.example.com", sni: "api.example.com"},
		"TLS without a name":      {send: string(clientHello(t, ""))},
		"half a hello":            {send: hello[:300], note: "ended or paused"},
		"broken TLS":              {send: "\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", note: "cannot be read"},
		"HTTP":                    {send: "GET /a/b?token=c HTTP/1.1\r\nAccept: */*\r\nhOST:  web.example \r\n\r\n", host: "web.example", method: "GET", path: "/a/b", http: true},
		"HTTP in two segments":    {send: "POST /up HTTP/1.1\r\nHo", later: "st: web.example:8080\r\n\r\nbody", host: "web.example", method: "POST", path: "/up", http: true},
		"HTTP with a long body":   {send: "POST /up HTTP/1.1\r\nHost: web.example\r\n\r\n" + strings.Repeat("x", 100<<10), host: "web.example", method: "POST", path: "/up", http: true},
		"HTTP, absolute form":     {send: "GET http://in.example/x HTTP/1.1\r\nHost: out.example\r\n\r\n", host: "in.example", method: "GET", path: "/x", http: true},
		"HTTP without its end":    {send: "GET / HTTP/1.1\r\nHost: web.example\r\n", host: "web.example", method: "GET", path: "/", note: "ended or paused", http: true},
		"SSH":                     {send: "SSH-2.0-OpenSSH_9.2\r\n", note: "neither"},
		"one that waits":          {note: "sent nothing"},
		"binary":                  {send: "\x00\x01\x02", note: "neither"},
		"an endless request line": {send: "GET /" + strings.Repeat("a", 5000), note: "too long"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLedger()
			conn := connect(t, start(t, &Intercept{Record: l.record, Log: quiet, MaxHello: 4096,
				HelloTimeout: 100 * time.Millisecond, firstByte: 50 * time.Millisecond}))
			if c.send != "" {
				conn.send(c.send)
			}
			if c.later != "" {
				conn.send(c.later)
			}
			body, err := conn.rest()
			if c.http {
				if err != nil || !strings.HasPrefix(body, "HTTP/1.1 403") || !strings.Contains(body, directReason) {
					t.Errorf("%q %v", body, err)
				}
			} else if !errors.Is(err, syscall.ECONNRESET) || body != "" {
				t.Errorf("%q %v; want a reset", body, err)
			}
			e := l.next(t)
			if e.Host != c.host || e.SNI != c.sni || e.Method != c.method || e.Path != c.path {
				t.Errorf("event %+v", e)
			}
			mustContain(t, e.Reason, directReason, c.note)
			if e.Layer != "intercept" || e.Verdict != "denied" || e.Dst != conn.RemoteAddr().String() || e.Port == 0 {
				t.Errorf("event %+v", e)
			}
		})
	}
}

func TestInterceptFloodIsBoundedAndRecorded(t *testing.T) {
	l := newLedger()
	addr, stop := startStop(t, &Intercept{Record: l.record, Log: quiet, MaxConns: 2, HelloTimeout: time.Hour, firstByte: time.Hour})
	a, b := connect(t, addr), connect(t, addr)
	a.send("GET / HTTP/1.1\r\n")
	b.send("\x16\x03")
	for range 50 {
		if !refusedAtOnce(addr, "") {
			t.Error("no reset")
		}
		if e := l.next(t); !strings.Contains(e.Reason, tooMany) {
			t.Errorf("event %+v", e)
		}
	}
	l.none(t)
	stop() // ends the two, and records them
	if n := len(l.more); n != 2 {
		t.Errorf("%d events at the end, want 2", n)
	}
}

func TestInterceptResetsWhenTheRecordFails(t *testing.T) {
	l := newLedger()
	l.setFail(true)
	c := connect(t, start(t, &Intercept{Record: l.record, Log: quiet}))
	c.send("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
	if body, err := c.rest(); !errors.Is(err, syscall.ECONNRESET) || body != "" {
		t.Errorf("%q %v", body, err)
	}
}

// failing is a listener that runs out of descriptors once, then ends.
type failing struct{ calls int }

type noFiles struct{ error }

func (noFiles) Temporary() bool { return true }

func (f *failing) Accept() (net.Conn, error) {
	if f.calls++; f.calls == 1 {
		return nil, noFiles{syscall.EMFILE}
	}
	return nil, io.ErrUnexpectedEOF
}
func (*failing) Close() error   { return nil }
func (*failing) Addr() net.Addr { return &net.TCPAddr{} }

func TestInterceptSurvivesAnAcceptError(t *testing.T) {
	f := &failing{}
	err := (&Intercept{Record: newLedger().record, Log: quiet}).Serve(t.Context(), f)
	if f.calls != 2 || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%d calls, %v", f.calls, err)
	}
}
