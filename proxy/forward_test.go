package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/policy"
)

// forwardTo is a Forward that allows ok.example at 443, 80 and 8443 and dials
// addr for it.
func forwardTo(t *testing.T, l *ledger, addr string) *Forward {
	return &Forward{
		Policy: allow(t, policy.Rule{Host: "ok.example", Ports: []uint16{80, 443, 8443}}),
		Dial:   dialTo(addr), Record: l.record, Log: quiet,
	}
}

func noDial(t *testing.T) func(context.Context, string, uint16) (net.Conn, error) {
	return func(_ context.Context, host string, port uint16) (net.Conn, error) {
		t.Errorf("dialled %s:%d", host, port)
		return nil, errors.New("no")
	}
}

func connectLine(target string) string {
	return "CONNECT " + target + " HTTP/1.1\r\nHost: " + target + "\r\n\r\n"
}

// clientHello is the first message of a TLS client for name.
func clientHello(t testing.TB, name string) []byte {
	t.Helper()
	var b bytes.Buffer
	conf := &tls.Config{ServerName: name, InsecureSkipVerify: name == ""}
	_ = tls.Client(recording{&b}, conf).Handshake()
	return b.Bytes()
}

type recording struct{ w io.Writer }

func (c recording) Read([]byte) (int, error)       { return 0, io.EOF }
func (c recording) Write(p []byte) (int, error)    { return c.w.Write(p) }
func (recording) Close() error                     { return nil }
func (recording) LocalAddr() net.Addr              { return nil }
func (recording) RemoteAddr() net.Addr             { return nil }
func (recording) SetDeadline(time.Time) error      { return nil }
func (recording) SetReadDeadline(time.Time) error  { return nil }
func (recording) SetWriteDeadline(time.Time) error { return nil }

func TestForwardRefuses(t *testing.T) {
	get := func(url, more string) string { return "GET " + url + " HTTP/1.1\r\n" + more + "\r\n" }
	for name, c := range map[string]struct {
		send   string
		status int
		reason string
	}{
		"name without a rule":      {connectLine("api.example.com:443"), 403, "not on the allow list"},
		"allowed name, other port": {connectLine("ok.example:22"), 403, "not on the allow list"},
		"IPv4":                     {connectLine("203.0.113.7:443"), 403, "an address"},
		"IPv6":                     {connectLine("[2001:db8::1]:443"), 403, "an address"},
		"mapped IPv6":              {connectLine("[::ffff:203.0.113.7]:443"), 403, "an address"},
		"zone":                     {connectLine("[fe80::1%25eth0]:443"), 403, "an address"},
		"short IPv4":               {connectLine("127.1:443"), 403, "an address"},
		"decimal IPv4":             {connectLine("2130706433:443"), 403, "an address"},
		"hexadecimal IPv4":         {connectLine("0x7f000001:443"), 403, "an address"},
		"octal IPv4":               {connectLine("0177.0.0.1:443"), 403, "an address"},
		"metadata":                 {get("http://169.254.169.254/latest/", "Host: 169.254.169.254\r\n"), 403, "an address"},
		"userinfo":                 {get("http://ok.example@evil.example/", "Host: evil.example\r\n"), 403, "plain host name"},
		"full width":               {"CONNECT ok。example:443 HTTP/1.1\r\nHost: ok.example:443\r\n\r\n", 403, "plain host name"},
		"no port":                  {connectLine("ok.example"), 403, "plain host name"},
		"port 0":                   {connectLine("ok.example:0"), 403, "no port"},
		"two trailing dots":        {connectLine("ok.example..:443"), 403, "plain host name"},
		"Host differs":             {get("http://ok.example/", "Host: evil.example\r\n"), 403, "differs"},
		"Host's port differs":      {get("http://ok.example/", "Host: ok.example:81\r\n"), 403, "differs"},
		"two Hosts":                {get("http://ok.example/", "Host: ok.example\r\nHost: evil.example\r\n"), 400, "malformed"},
		"https without CONNECT":    {get("https://ok.example/", "Host: ok.example\r\n"), 400, "scheme"},
		"https at 443":             {get("https://ok.example:443/", "Host: ok.example:443\r\n"), 400, "scheme"},
		"ftp":                      {get("ftp://ok.example/", "Host: ok.example\r\n"), 400, "scheme"},
		"websocket":                {get("http://ok.example/", "Host: ok.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"), 403, "upgrade"},
		"h2c":                      {get("http://ok.example/", "Host: ok.example\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"), 403, "upgrade"},
		"h2 preface":               {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "not a proxy request"},
		"origin form":              {get("/", "Host: ok.example\r\n"), 400, "not a proxy request"},
		"OPTIONS *":                {"OPTIONS * HTTP/1.1\r\nHost: ok.example\r\n\r\n", 400, "not a proxy request"},
		"CONNECT with a body":      {"CONNECT ok.example:443 HTTP/1.1\r\nHost: ok.example:443\r\nContent-Length: 3\r\n\r\nabc", 400, "with a body"},
		"CL.TE":                    {get("http://ok.example/", "Host: ok.example\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n") + "0\r\n\r\n", 400, "ambiguous"},
		"TE.TE":                    {get("http://ok.example/", "Host: ok.example\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: xchunked\r\n"), 501, "malformed"},
		"obsolete fold":            {get("http://ok.example/", "Host: ok.example\r\nX-A: b\r\n c: d\r\n"), 400, "folded"},
		"bare LF":                  {"GET http://ok.example/ HTTP/1.1\nHost: ok.example\n\n", 400, "ambiguous"},
		"headers of 65 kB":         {get("http://ok.example/", "X-A: "+strings.Repeat("a", 65<<10)+"\r\n"), 431, "64 KiB"},
		"TLS to the proxy":         {string(clientHello(t, "ok.example")) + "\r\n\r\n", 400, "malformed"},
		"space before colon":       {get("http://ok.example/", "Host: ok.example\r\nTransfer-Encoding : chunked\r\n"), 400, "malformed"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLedger()
			f := forwardTo(t, l, "")
			f.Dial = noDial(t)
			conn := connect(t, start(t, f))
			conn.send(c.send)
			resp, body := conn.response("GET")
			if resp.StatusCode != c.status {
				t.Errorf("status %d, body %q; want %d", resp.StatusCode, body, c.status)
			}
			e := l.next(t)
			if e.Verdict != "denied" || e.Status != c.status || e.Layer != "proxy" || e.Src == "" || e.Dst == "" {
				t.Errorf("event %+v", e)
			}
			mustContain(t, e.Reason, c.reason)
			if c.status == 403 && !strings.Contains(resp.Header.Get("X-Sallyport-Reason"), c.reason) {
				t.Errorf("reason header %q", resp.Header.Get("X-Sallyport-Reason"))
			}
			if strings.Count(body, "\n") > 1 {
				t.Errorf("more than a line: %q", body)
			}
			_ = conn.Close()
		})
	}
}

func TestForwardSaysHowToAllow(t *testing.T) {
	l := newLedger()
	f := forwardTo(t, l, "")
	f.Dial = noDial(t)
	c := connect(t, start(t, f))
	for range 2 { // the connection is kept
		c.send(connectLine("API.example.com.:443"))
		resp, body := c.response("POST")
		if resp.StatusCode != 403 {
			t.Fatal(resp.Status)
		}
		want := `sallyport: api.example.com:443 is not on the allow list. To allow it, add to policy.allow in your config: {host: "api.example.com", ports: [443]}`
		if strings.TrimSpace(body) != want {
			t.Errorf("got  %s\nwant %s", body, want)
		}
		if e := l.next(t); e.Host != "api.example.com" || e.Port != 443 || e.Method != "CONNECT" {
			t.Errorf("event %+v", e)
		}
	}
}

func TestForwardDeniesWithoutAPolicy(t *testing.T) {
	l := newLedger()
	f := forwardTo(t, l, "")
	f.Dial, f.Policy = noDial(t), func() *policy.Policy { return nil }
	c := connect(t, start(t, f))
	c.send(connectLine("ok.example:443"))
	if resp, _ := c.response("POST"); resp.StatusCode != 403 {
		t.Error(resp.Status)
	}
}

func TestForwardClosedWhenTheRecordFails(t *testing.T) {
	l := newLedger()
	addr := origin(t, func(c *net.TCPConn) { _, _ = io.Copy(c, c) })
	f := forwardTo(t, l, addr)
	proxy := start(t, f)
	l.setFail(true)
	c := connect(t, proxy)
	c.send(connectLine("no.example:443"))
	if resp, body := c.response("POST"); resp.StatusCode != 403 || !strings.Contains(body, auditFailed) {
		t.Error(resp.Status, body)
	}
	c.send(connectLine("ok.example:8443"))
	if resp, body := c.response("POST"); resp.StatusCode != 503 || !strings.Contains(body, auditFailed) {
		t.Error(resp.Status, body)
	}
	l.setFail(false)
	c.send(connectLine("ok.example:8443")) // refused, recorded: the record works again
	if resp, _ := c.response("POST"); resp.StatusCode != 503 {
		t.Error(resp.Status)
	}
	c.send(connectLine("ok.example:8443"))
	if resp, _ := c.response("CONNECT"); resp.StatusCode != 200 {
		t.Error(resp.Status)
	}
}

func TestForwardRecordsUnfinishedRequests(t *testing.T) {
	l := newLedger()
	c := connect(t, start(t, forwardTo(t, l, "")))
	c.send("CONNECT ok.example:443 HT")
	_ = c.CloseWrite()
	_, _ = c.rest()
	e := l.next(t)
	if e.Verdict != "denied" || e.Method != "CONNECT" || e.Path != "ok.example:443" {
		t.Errorf("event %+v", e)
	}
}

func TestForwardRefusesPipelinedRequestsOneByOne(t *testing.T) {
	l := newLedger()
	f := forwardTo(t, l, "")
	f.Dial = noDial(t)
	c := connect(t, start(t, f))
	post := "POST http://no.example/ HTTP/1.1\r\nHost: no.example\r\nContent-Length: 3\r\n\r\nabc"
	c.send(connectLine("a.example:1") + connectLine("b.example:2") + post + connectLine("late.example:3"))
	for i, want := range []string{"a.example", "b.example", "no.example"} {
		if resp, _ := c.response("POST"); resp.StatusCode != 403 {
			t.Error(i, resp.Status)
		}
		if e := l.next(t); e.Host != want {
			t.Errorf("event %+v", e)
		}
	}
	// A body ends the connection; what came after it is an attempt all the same.
	if e := l.next(t); e.Verdict != "denied" || e.Path != "late.example:3" || e.Status != 0 {
		t.Errorf("event %+v", e)
	}
}

func TestForwardSlowlorisEndsAndIsRecorded(t *testing.T) {
	l := newLedger()
	f := forwardTo(t, l, "")
	f.headWait = 20 * time.Millisecond
	c := connect(t, start(t, f))
	c.send("GET http://ok.example/ HTTP/1.1\r\nHost: ok.exa")
	if s, _ := c.rest(); s != "" {
		t.Errorf("got %q", s)
	}
	if e := l.next(t); e.Verdict != "denied" || e.Method != "GET" || !strings.Contains(e.Reason, "not completed") {
		t.Errorf("event %+v", e)
	}
}

func TestForwardMaxConns(t *testing.T) {
	l := newLedger()
	f := forwardTo(t, l, "")
	f.MaxConns = 2
	addr := start(t, f)
	a, b := connect(t, addr), connect(t, addr)
	for _, c := range []*client{a, b} {
		c.send(connectLine("no.example:1"))
		c.response("POST")
		l.next(t)
	}
	if !refusedAtOnce(addr, "") {
		t.Error("no reset")
	}
	if e := l.next(t); e.Verdict != "denied" || e.Reason != tooMany {
		t.Errorf("event %+v", e)
	}
	_ = a.Close()
	for refusedAtOnce(addr, connectLine("no.example:1")) { // until the server has seen the close
	}
}

func TestForwardChecksConstruction(t *testing.T) {
	err := (&Forward{}).Serve(context.Background(), nil)
	mustContain(t, fmt.Sprint(err), "no Policy", "no Dial", "no Record", "no Log")
}
