package proxy

// Each test here is named after what would leak, hang or be lost without one of
// the overrides of goproxy's defaults.

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/policy"
)

func TestLeakEngineIsOpenByDefault(t *testing.T) {
	hit := httpOrigin(t, func(http.ResponseWriter, *http.Request) { t.Error("the origin was reached") })
	t.Setenv("HTTP_PROXY", "http://"+hit)
	t.Setenv("HTTPS_PROXY", "http://"+hit)
	e := newEngine(quiet)
	for _, r := range []*http.Request{
		httptest.NewRequest("GET", "http://"+hit+"/", nil),
		httptest.NewRequest("GET", "https://"+hit+"/", nil),
		httptest.NewRequest("GET", "/", nil),
		httptest.NewRequest("CONNECT", "http://"+hit, nil),
	} {
		w := httptest.NewRecorder()
		e.ServeHTTP(w, r)
		if w.Code != http.StatusForbidden {
			t.Errorf("%s %s: %d %s", r.Method, r.URL, w.Code, w.Body)
		}
	}
	if e.Tr.Proxy != nil || e.Tr.TLSClientConfig != nil || e.ConnectDial != nil {
		t.Error("goproxy's own transport or proxy settings are left")
	}
}

func TestLeakEarlyDataAfterConnectIsLost(t *testing.T) {
	got := make(chan string, 1)
	addr := origin(t, func(c *net.TCPConn) {
		b, _ := io.ReadAll(c)
		got <- string(b)
	})
	l := newLedger()
	c := connect(t, start(t, forwardTo(t, l, addr)))
	c.send(connectLine("ok.example:8443") + "EARLY")
	c.response("CONNECT")
	c.send(" LATE")
	_ = c.CloseWrite()
	if s := <-got; s != "EARLY LATE" {
		t.Errorf("origin got %q", s)
	}
}

func TestLeakHopByHopHeadersBothWays(t *testing.T) {
	seen := make(chan http.Header, 1)
	addr := origin(t, func(c *net.TCPConn) {
		r, _ := http.ReadRequest(bufio.NewReader(c))
		seen <- r.Header
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nConnection: X-Back\r\nX-Back: secret\r\nKeep-Alive: timeout=9\r\n"+
			"Proxy-Authenticate: Basic\r\nX-Fine: yes\r\nContent-Length: 2\r\n\r\nok")
	})
	l := newLedger()
	c := connect(t, start(t, forwardTo(t, l, addr)))
	c.send("GET http://ok.example/p?q HTTP/1.1\r\nHost: ok.example\r\nConnection: X-Secret, Keep-Alive\r\nX-Secret: s\r\n" +
		"Keep-Alive: 1\r\nTE: trailers\r\nProxy-Authorization: Basic eA==\r\nProxy-Connection: keep-alive\r\nX-Fine: yes\r\n\r\n")
	resp, body := c.response("GET")
	if resp.StatusCode != 200 || body != "ok" || resp.Header.Get("X-Fine") != "yes" {
		t.Errorf("%v %q", resp, body)
	}
	up := <-seen
	for _, name := range []string{"X-Secret", "Keep-Alive", "Te", "Proxy-Authorization", "Proxy-Connection", "User-Agent"} {
		if up.Get(name) != "" {
			t.Errorf("the origin got %s: %s", name, up.Get(name))
		}
	}
	if up.Get("X-Fine") != "yes" {
		t.Errorf("the origin got %v", up)
	}
	for _, name := range []string{"X-Back", "Keep-Alive", "Proxy-Authenticate"} {
		if resp.Header.Get(name) != "" {
			t.Errorf("the client got %s", name)
		}
	}
	e := l.next(t)
	if e.Verdict != "allowed" || e.Status != 200 || e.BytesOut != 2 || e.Rule != "ok.example" || e.Path != "/p" {
		t.Errorf("event %+v", e)
	}
}

func TestLeakDialErrorMapsTheNetwork(t *testing.T) {
	const secret = "dial tcp 203.0.113.9:80: connection refused"
	for _, send := range []string{connectLine("ok.example:443"), "GET http://ok.example/ HTTP/1.1\r\nHost: ok.example\r\n\r\n"} {
		l := newLedger()
		f := forwardTo(t, l, "")
		f.Dial = func(context.Context, string, uint16) (net.Conn, error) { return nil, errors.New(secret) }
		c := connect(t, start(t, f))
		c.send(send)
		resp, body := c.response("GET")
		if resp.StatusCode != 502 || strings.Contains(body, "203.0.113.9") || !strings.Contains(body, "gateway audit") {
			t.Errorf("%s %q", resp.Status, body)
		}
		e := l.next(t)
		mustContain(t, e.Reason, secret)
		if e.Verdict != "denied" || e.Status != 502 {
			t.Errorf("event %+v", e)
		}
	}
}

func TestLeakIdleTunnelsStayForEver(t *testing.T) {
	hold := make(chan struct{})
	addr := origin(t, func(c *net.TCPConn) { // says and closes nothing
		_, _ = io.Copy(io.Discard, c)
		<-hold
	})
	defer close(hold)
	l := newLedger()
	f := forwardTo(t, l, addr)
	f.IdleTimeout = 50 * time.Millisecond
	c := connect(t, start(t, f))
	c.send(connectLine("ok.example:8443") + "x")
	c.response("CONNECT")
	_ = c.CloseWrite() // half-closed tunnels are the ones that stay
	if _, err := c.rest(); err == nil {
		t.Error("the tunnel ended without a reset")
	}
	if e := l.next(t); e.Verdict != "allowed" || !strings.Contains(e.Reason, "idle") || e.BytesIn != 1 {
		t.Errorf("event %+v", e)
	}
}

func TestLeakShutdownDrainsNothing(t *testing.T) {
	hold := make(chan struct{})
	addr := origin(t, func(c *net.TCPConn) { // says and closes nothing
		_, _ = io.Copy(io.Discard, c)
		<-hold
	})
	defer close(hold)
	l := newLedger()
	proxy, stop := startStop(t, forwardTo(t, l, addr))
	var open []*client
	for range 20 {
		c := connect(t, proxy)
		c.send(connectLine("ok.example:8443") + "x")
		c.response("CONNECT")
		_ = c.CloseWrite()
		open = append(open, c)
	}
	stop()
	for _, c := range open {
		if _, err := c.rest(); err == nil {
			t.Error("no reset")
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.events) != 20 {
		t.Errorf("%d events when Serve had returned; want 20", len(l.events))
	}
}

func TestLeakOriginSwitchesProtocolsUnasked(t *testing.T) {
	addr := origin(t, func(c *net.TCPConn) {
		_, _ = http.ReadRequest(bufio.NewReader(c))
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_, _ = io.Copy(io.Discard, c)
	})
	l := newLedger()
	c := connect(t, start(t, forwardTo(t, l, addr)))
	c.send("GET http://ok.example/ HTTP/1.1\r\nHost: ok.example\r\n\r\n")
	if resp, _ := c.response("GET"); resp.StatusCode != 502 {
		t.Error(resp.Status)
	}
	if e := l.next(t); e.Verdict != "denied" {
		t.Errorf("event %+v", e)
	}
}

func TestLeakOnlyEventStreamsAreFlushed(t *testing.T) {
	next := make(chan struct{})
	addr := httpOrigin(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-ndjson")
		_, _ = io.WriteString(w, "{}\n")
		_ = http.NewResponseController(w).Flush()
		<-next
	})
	l := newLedger()
	c := connect(t, start(t, forwardTo(t, l, addr)))
	c.send("GET http://ok.example/ HTTP/1.1\r\nHost: ok.example\r\n\r\n")
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(resp.Body).ReadString('\n'); line != "{}\n" {
		t.Errorf("%q %v", line, err)
	}
	close(next) // only now does the origin end
}

func TestLeakClientHalfCloseCancelsTheDial(t *testing.T) {
	addr := origin(t, func(c *net.TCPConn) { _, _ = io.WriteString(c, "late but whole") })
	l := newLedger()
	f := forwardTo(t, l, addr)
	dialling, proceed := make(chan struct{}), make(chan struct{})
	f.Dial = func(ctx context.Context, host string, port uint16) (net.Conn, error) {
		close(dialling)
		select {
		case <-proceed:
		case <-ctx.Done():
		}
		return dialTo(addr)(ctx, host, port)
	}
	c := connect(t, start(t, f))
	c.send(connectLine("ok.example:8443"))
	<-dialling
	_ = c.CloseWrite()
	close(proceed)
	if resp, _ := c.response("CONNECT"); resp.StatusCode != 200 {
		t.Fatal(resp.Status)
	}
	if s, _ := c.rest(); s != "late but whole" {
		t.Errorf("got %q", s)
	}
}

func TestLeakDialOutlivesServe(t *testing.T) {
	l := newLedger()
	f := forwardTo(t, l, "")
	dialling := make(chan struct{})
	f.Dial = func(ctx context.Context, _ string, _ uint16) (net.Conn, error) {
		close(dialling)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	addr, stop := startStop(t, f)
	c := connect(t, addr)
	c.send(connectLine("ok.example:8443"))
	<-dialling
	stop()
	if e := l.next(t); e.Verdict != "denied" {
		t.Errorf("event %+v", e)
	}
}

func TestLeakHalfCloseEndsBothDirections(t *testing.T) {
	addr := origin(t, func(c *net.TCPConn) {
		b, _ := io.ReadAll(c)
		_, _ = c.Write(bytes.ToUpper(b))
	})
	l := newLedger()
	c := connect(t, start(t, forwardTo(t, l, addr)))
	c.send(connectLine("ok.example:8443"))
	c.response("CONNECT")
	c.send("question")
	_ = c.CloseWrite()
	if s, err := c.rest(); s != "QUESTION" || err != nil {
		t.Errorf("%q %v", s, err)
	}
	e := l.next(t)
	if e.Verdict != "allowed" || e.Status != 200 || e.BytesIn != 8 || e.BytesOut != 8 || e.Duration <= 0 || e.Rule != "ok.example" {
		t.Errorf("event %+v", e)
	}
}

func TestLeakCutResponseLooksWhole(t *testing.T) {
	addr := origin(t, func(c *net.TCPConn) {
		_, _ = http.ReadRequest(bufio.NewReader(c))
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
	})
	l := newLedger()
	c := connect(t, start(t, forwardTo(t, l, addr)))
	c.send("GET http://ok.example/ HTTP/1.1\r\nHost: ok.example\r\n\r\n")
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("%q looks whole", b)
	}
	mustContain(t, l.next(t).Reason, "cut short")
}

func TestLeakResponseTrailers(t *testing.T) {
	addr := httpOrigin(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Trailer", "X-Known")
		_, _ = io.WriteString(w, "ok")
		w.Header().Set("X-Known", "1")
		w.Header().Set(http.TrailerPrefix+"X-Unknown", "1")
	})
	l := newLedger()
	c := connect(t, start(t, forwardTo(t, l, addr)))
	c.send("GET http://ok.example/ HTTP/1.1\r\nHost: ok.example\r\n\r\n")
	if resp, body := c.response("GET"); body != "ok" || len(resp.Trailer) > 0 || resp.Header.Get("Trailer") != "" {
		t.Errorf("%q, trailers %v", body, resp.Trailer)
	}
}

func TestLeakOriginEndlessHeaders(t *testing.T) {
	addr := origin(t, func(c *net.TCPConn) {
		_, _ = http.ReadRequest(bufio.NewReader(c))
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n")
		for {
			if _, err := io.WriteString(c, "X-A: "+strings.Repeat("a", 1000)+"\r\n"); err != nil {
				return
			}
		}
	})
	l := newLedger()
	c := connect(t, start(t, forwardTo(t, l, addr)))
	c.send("GET http://ok.example/ HTTP/1.1\r\nHost: ok.example\r\n\r\n")
	if resp, _ := c.response("GET"); resp.StatusCode != 502 {
		t.Error(resp.Status)
	}
}

func TestForwardPostsABody(t *testing.T) {
	addr := httpOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "ok.example" {
			t.Errorf("Host %q", r.Host)
		}
		_, _ = io.Copy(w, r.Body)
	})
	for _, body := range []string{"Content-Length: 5\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"} {
		l := newLedger()
		c := connect(t, start(t, forwardTo(t, l, addr)))
		c.send("POST http://ok.example/ HTTP/1.1\r\nHost: ok.example\r\n" + body)
		if _, got := c.response("POST"); got != "hello" {
			t.Errorf("got %q", got)
		}
		if e := l.next(t); e.BytesIn != 5 || e.BytesOut != 5 {
			t.Errorf("event %+v", e)
		}
	}
}

func TestForwardTLSMustNameTheConnectHost(t *testing.T) {
	hello := string(clientHello(t, "ok.example"))
	for name, c := range map[string]struct {
		target, send string
		reason       string // empty: all of send arrives
	}{
		"the same name":              {"ok.example:443", hello, ""},
		"the same, other case":       {"OK.Example:443", hello, ""},
		"another name":               {"ok.example:443", string(clientHello(t, "evil.example")), `"evil.example" differs`},
		"another name, other port":   {"ok.example:8443", string(clientHello(t, "evil.example")), `"evil.example" differs`},
		"no name":                    {"ok.example:443", string(clientHello(t, "")), "without a server name"},
		"plain text on 443":          {"ok.example:443", "SSH-2.0-x\r\n", "not TLS"},
		"plain text on another port": {"ok.example:8443", "SSH-2.0-x\r\n", ""},
		"a broken hello":             {"ok.example:8443", "\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", "cannot be read"},
		"half a hello":               {"ok.example:443", hello[:100], "within a TLS ClientHello"},
		"an endless hello":           {"ok.example:443", "\x16\x03\x01\x40\x00\x01\xff\xff\xff" + strings.Repeat("x", 1<<14), "too long"},
	} {
		t.Run(name, func(t *testing.T) {
			got := make(chan string, 1)
			addr := origin(t, func(c *net.TCPConn) {
				b, _ := io.ReadAll(c)
				got <- string(b)
			})
			l := newLedger()
			cl := connect(t, start(t, forwardTo(t, l, addr)))
			cl.send(connectLine(c.target))
			cl.response("CONNECT")
			for part := range strings.SplitSeq(c.send, "\x00\x17") { // in several segments
				_, _ = io.WriteString(cl, part)
				if len(part) < len(c.send) && !strings.HasSuffix(c.send, part) {
					_, _ = io.WriteString(cl, "\x00\x17")
				}
			}
			_ = cl.CloseWrite()
			_, _ = cl.rest()
			e := l.next(t)
			arrived := <-got
			if c.reason == "" {
				if arrived != c.send || e.Verdict != "allowed" {
					t.Errorf("%d of %d bytes arrived; event %+v", len(arrived), len(c.send), e)
				}
				return
			}
			mustContain(t, e.Reason, c.reason)
			if e.Verdict != "denied" || arrived != "" {
				t.Errorf("%q arrived; event %+v", arrived, e)
			}
			l.none(t)
		})
	}
}

func TestForwardCarriesRealTLS(t *testing.T) {
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Host) }))
	defer srv.Close()
	l := newLedger()
	f := forwardTo(t, l, srv.Listener.Addr().String())
	f.Policy = allow(t, policy.Rule{Host: "example.com", Ports: []uint16{443}})
	c := connect(t, start(t, f))
	c.send(connectLine("example.com:443"))
	c.response("CONNECT")
	conf := srv.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	conf.ServerName = "example.com"
	tc := tls.Client(c.TCPConn, conf)
	_, _ = io.WriteString(tc, "GET / HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n")
	b, err := io.ReadAll(tc)
	if err != nil || !strings.HasSuffix(string(b), "example.com") {
		t.Errorf("%q %v", b, err)
	}
	_ = c.Close()
	if e := l.next(t); e.SNI != "example.com" || e.Verdict != "allowed" {
		t.Errorf("event %+v", e)
	}
}
