package proxy

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport/sallyport/policy"
)

var claudeEndpoints = []policy.Endpoint{{Method: "POST", Path: "/v1/messages"}, {Method: "POST", Path: "/v1/messages/count_tokens"}}

func modelTo(l *ledger, addr string) *Model {
	return &Model{
		Record: l.record, Log: quiet, Endpoints: claudeEndpoints, ModelName: "gpt-oss", Aliases: []string{"haiku"},
		Where: func() string { return "strix (unix:///run/m.sock)" }, UpstreamToken: "up-token", PingAfter: time.Hour,
		Dial: func(ctx context.Context) (net.Conn, error) { return dialTo(addr)(ctx, "", 0) },
	}
}

func post(path, body string, more ...string) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: m\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%s\r\n%s",
		path, len(body), strings.Join(more, ""), body)
}

const small = `{"model":"gpt-oss","messages":[{"role":"user","content":"hi"}],"max_tokens":9}`

func TestModelRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		send   string
		status int
		typ    string
		why    string
	}{
		"metrics":              {"GET /metrics HTTP/1.1\r\nHost: m\r\n\r\n", 403, "permission_error", "/metrics"},
		"tokenize":             {post("/tokenize", small), 403, "permission_error", "/tokenize"},
		"LoRA":                 {post("/v1/load_lora_adapter", small), 403, "permission_error", ""},
		"other method":         {"GET /v1/messages HTTP/1.1\r\nHost: m\r\n\r\n", 403, "permission_error", ""},
		"DELETE /":             {"DELETE / HTTP/1.1\r\nHost: m\r\n\r\n", 403, "permission_error", ""},
		"double slash":         {post("//v1/messages", small), 403, "permission_error", ""},
		"dot segments":         {post("/v1/x/../messages", small), 403, "permission_error", ""},
		"escaped slash":        {post("/v1%2fmessages", small), 403, "permission_error", ""},
		"escaped letter":       {post("/v1/%6dessages", small), 403, "permission_error", ""},
		"trailing slash":       {post("/v1/messages/", small), 403, "permission_error", ""},
		"absolute form":        {post("http://m/v1/messages", small), 403, "permission_error", "not a proxy"},
		"CONNECT":              {connectLine("m:8000"), 403, "permission_error", "not a proxy"},
		"upgrade":              {post("/v1/messages", small, "Connection: upgrade\r\nUpgrade: websocket\r\n"), 400, "invalid_request_error", "upgrade"},
		"h2c":                  {post("/v1/messages", small, "Connection: HTTP2-Settings\r\nHTTP2-Settings: AA\r\n"), 400, "invalid_request_error", "upgrade"},
		"CL.TE":                {post("/v1/messages", small, "Transfer-Encoding: chunked\r\n"), 400, "invalid_request_error", "ambiguous"},
		"another model":        {post("/v1/messages", `{"model":"other"}`), 400, "invalid_request_error", `"other" is not this sandbox's model`},
		"no model":             {post("/v1/messages", `{}`), 400, "invalid_request_error", "model: missing"},
		"too long":             {post("/v1/messages", `{"model":"`+strings.Repeat("x", 5000)+`"}`), 413, "request_too_large", "4096"},
		"too long, chunked":    {"POST /v1/messages HTTP/1.1\r\nHost: m\r\nTransfer-Encoding: chunked\r\n\r\n1400\r\n" + strings.Repeat("x", 5120) + "\r\n0\r\n\r\n", 413, "request_too_large", "4096"},
		"image by URL":         {post("/v1/messages", `{"model":"gpt-oss","messages":[{"role":"user","content":[{"type":"image","source":{"type":"url","url":"http://203.0.113.1/"}}]}]}`), 400, "invalid_request_error", "messages[0].content[0].source.type"},
		"HEAD with a body":     {"GET /health HTTP/1.1\r\nHost: m\r\nContent-Length: 1\r\n\r\nx", 400, "invalid_request_error", "body"},
		"body that is no JSON": {post("/v1/messages", "hello"), 400, "invalid_request_error", "JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLedger()
			m := modelTo(l, "")
			m.MaxBody = 4096
			m.Dial = func(context.Context) (net.Conn, error) { t.Error("dialled"); return nil, errors.New("no") }
			conn := connect(t, start(t, m))
			conn.send(c.send)
			resp, body := conn.response("POST")
			var got struct {
				Type  string
				Error struct{ Type, Message string }
			}
			if err := json.Unmarshal([]byte(body), &got); err != nil {
				t.Fatalf("%q: %v", body, err)
			}
			if resp.StatusCode != c.status || got.Type != "error" || got.Error.Type != c.typ {
				t.Errorf("%s %s; want %d %s", resp.Status, body, c.status, c.typ)
			}
			mustContain(t, got.Error.Message, c.why)
			if e := l.next(t); e.Verdict != "denied" || e.Status != c.status || e.Layer != "model" || e.Reason == "" {
				t.Errorf("event %+v", e)
			}
		})
	}
}

func TestModelAnswersLocally(t *testing.T) {
	l := newLedger()
	m := modelTo(l, "")
	m.Dial = func(context.Context) (net.Conn, error) { t.Error("dialled"); return nil, errors.New("no") }
	c := connect(t, start(t, m))
	for _, line := range []string{"HEAD /api/hello", "HEAD /", "GET /", "GET /health", "HEAD /health", "GET /v1/models?limit=1000"} {
		method, _, _ := strings.Cut(line, " ")
		c.send(line + " HTTP/1.1\r\nHost: m\r\n\r\n")
		resp, body := c.response(method)
		if resp.StatusCode != 200 {
			t.Errorf("%s: %s", line, resp.Status)
		}
		if strings.HasPrefix(line, "GET /v1/models") {
			mustContain(t, body, `"id":"gpt-oss"`, `"data":[`, `"object":"list"`)
		}
		if e := l.next(t); e.Verdict != "allowed" || e.Status != 200 {
			t.Errorf("event %+v", e)
		}
	}
}

func TestModelForwardsWhatWasChecked(t *testing.T) {
	type seen struct {
		r    *http.Request
		body string
	}
	got := make(chan seen, 1)
	addr := httpOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got <- seen{r, string(b)}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Set-Cookie", "a=b")
		w.Header().Set("Server", "uvicorn")
		w.Header().Set("Trailer", "X-T")
		w.WriteHeader(http.StatusEarlyHints)
		_, _ = io.WriteString(w, `{"type":"message","content":[{"type":"text","text":"\"usage\":{\"input_tokens\":1}"}],"usage":{"input_tokens":12,"output_tokens":34}}`)
		w.Header().Set("X-T", "1")
	})
	l := newLedger()
	c := connect(t, start(t, modelTo(l, addr)))
	c.send(post("/v1/messages?beta=true&x=y", ` { "messages" : [ {"role":"user","content":"a\u0062\/"} ], "\u006dodel":"haiku", "temperature": 1.50 } `,
		"Authorization: Bearer mine\r\nX-Api-Key: mine\r\nCookie: c\r\nAnthropic-Version: 2023-06-01\r\nanthropic-beta: b1,b2\r\n"+
			"Connection: keep-alive, Anthropic-Version\r\nX-Forwarded-For: 1\r\nX-Claude-Code-Session-Id: s-1\r\nAccept-Encoding: gzip\r\nUser-Agent: claude-cli/2\r\n"))
	resp, body := c.response("POST")
	if resp.StatusCode != 200 || !strings.HasPrefix(body, `{"type":"message"`) {
		t.Errorf("%s %q", resp.Status, body)
	}
	for _, h := range []string{"Set-Cookie", "Server", "Trailer"} {
		if resp.Header.Get(h) != "" || len(resp.Trailer) > 0 {
			t.Errorf("the client got %s", h)
		}
	}
	up := <-got
	if want := `{"messages":[{"role":"user","content":"ab/"}],"model":"gpt-oss","temperature":1.50}`; up.body != want {
		t.Errorf("sent on %s\nwant    %s", up.body, want)
	}
	if up.r.RequestURI != "/v1/messages?beta=true" || up.r.Header.Get("Authorization") != "Bearer up-token" {
		t.Errorf("%s %v", up.r.RequestURI, up.r.Header)
	}
	for _, h := range []string{"X-Api-Key", "Cookie", "X-Forwarded-For", "Accept-Encoding", "Connection"} {
		if up.r.Header.Get(h) != "" {
			t.Errorf("the model server got %s: %s", h, up.r.Header.Get(h))
		}
	}
	if up.r.Header.Get("Anthropic-Beta") != "b1,b2" || up.r.Header.Get("User-Agent") != "claude-cli/2" {
		t.Errorf("headers %v", up.r.Header)
	}
	e := l.next(t)
	if e.Verdict != "allowed" || e.TokensIn != 12 || e.TokensOut != 34 || e.Session != "s-1" || e.BytesIn == 0 || e.BytesOut != int64(len(body)) {
		t.Errorf("event %+v", e)
	}
}

// serveSSE answers each connection's first request with head and pieces, waiting
// for next before each piece.
func serveSSE(t *testing.T, next chan string) string {
	return origin(t, func(c *net.TCPConn) {
		r, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n")
		for p := range next {
			_, _ = fmt.Fprintf(c, "%x\r\n%s\r\n", len(p), p)
		}
	})
}

func TestModelStreamsEachEventAtOnceAndCountsTokens(t *testing.T) {
	next := make(chan string)
	l := newLedger()
	c := connect(t, start(t, modelTo(l, serveSSE(t, next))))
	c.send(post("/v1/messages", small))
	events := []string{
		"event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":7,\"output_tokens\":1}}}\n\n",
		"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\"\\\"usage\\\":{\\\"output_tokens\\\":9}\"}}\n\n",
		"event: message_delta\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":42}}\n\n",
		"0\r\n\r\n",
	}
	var br *bufio.Reader
	for i, ev := range events[:3] {
		next <- ev
		if i == 0 {
			resp, err := http.ReadResponse(c.r, nil)
			if err != nil {
				t.Fatal(err)
			}
			br = bufio.NewReader(resp.Body)
		}
		got := make([]byte, len(ev))
		if _, err := io.ReadFull(br, got); err != nil || string(got) != ev {
			t.Fatalf("%q %v", got, err)
		}
	}
	_ = c.Close() // the client hangs up: the model server's connection ends
	close(next)
	if e := l.next(t); e.TokensIn != 7 || e.TokensOut != 42 || e.Status != 200 || e.Verdict != "allowed" {
		t.Errorf("event %+v", e)
	}
}

func TestModelPingsReachTheClient(t *testing.T) {
	next := make(chan string)
	l := newLedger()
	m := modelTo(l, serveSSE(t, next))
	m.PingAfter = 5 * time.Millisecond
	c := connect(t, start(t, m))
	c.send(post("/v1/messages", small))
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	ping := make([]byte, len(pingEvent))
	for range 3 {
		if _, err := io.ReadFull(resp.Body, ping); err != nil || string(ping) != pingEvent {
			t.Fatalf("%q %v", ping, err)
		}
	}
	close(next)
}

func TestStreamPingsBetweenEventsOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := httptest.NewRecorder()
		m := &model{Model: Model{PingAfter: 15 * time.Second, maxSilence: time.Hour}}
		s := newStream(w, m, func() { t.Error("given up") })
		expect := func(after time.Duration, want string) {
			t.Helper()
			time.Sleep(after) // the bubble's clock
			synctest.Wait()
			s.mu.Lock()
			defer s.mu.Unlock()
			if got := w.Body.String(); got != want {
				t.Errorf("got %q\nwant %q", got, want)
			}
			w.Body.Reset()
		}
		expect(10*time.Minute, "") // no header yet: a status is never invented
		s.Header().Set("Content-Type", "text/event-stream")
		s.WriteHeader(103)
		s.WriteHeader(200)
		expect(14*time.Second, "")
		expect(2*time.Second, pingEvent)
		expect(30*time.Second, pingEvent+pingEvent)
		_, _ = s.Write([]byte("event: x\ndata: half"))
		expect(5*time.Minute, "event: x\ndata: half")
		_, _ = s.Write([]byte(" whole\n"))
		expect(5*time.Minute, " whole\n")
		_, _ = s.Write([]byte("\r"))
		expect(5*time.Minute, "\r") // the LF may follow
		_, _ = s.Write([]byte("\n"))
		expect(16*time.Second, "\n"+pingEvent)
		s.end()
		expect(time.Hour, "")
	})
}

func TestStreamGivesUpAfterSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var given atomic.Bool
		m := &model{Model: Model{PingAfter: time.Second, maxSilence: time.Minute}}
		s := newStream(httptest.NewRecorder(), m, func() { given.Store(true) })
		s.Header().Set("Content-Type", "text/event-stream")
		s.WriteHeader(200)
		time.Sleep(59 * time.Second)
		synctest.Wait()
		if given.Load() {
			t.Error("given up too early")
		}
		time.Sleep(2 * time.Second) // pings are ours and do not count
		synctest.Wait()
		if _, _, _, silent := s.end(); !given.Load() || !silent {
			t.Error("never given up")
		}
	})
}

func TestModelClientHangUpCancelsTheModelServer(t *testing.T) {
	gone := make(chan struct{})
	begun := make(chan struct{})
	addr := httpOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		close(begun)
		<-r.Context().Done()
		close(gone)
	})
	l := newLedger()
	c := connect(t, start(t, modelTo(l, addr)))
	c.send(post("/v1/messages", small))
	<-begun
	_ = c.Close()
	<-gone
	if e := l.next(t); e.Reason != "the client hung up" || e.Status != 0 {
		t.Errorf("event %+v", e)
	}
}

func TestModelKeepsTheConnection(t *testing.T) {
	addr := httpOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		_, _ = w.Write(b)
	})
	l := newLedger()
	c := connect(t, start(t, modelTo(l, addr)))
	big := `{"model":"gpt-oss","system":"` + strings.Repeat("y", 100<<10) + `"}` // more than one read
	for _, body := range []string{small, big, small, big} {
		c.send(post("/v1/messages", body))
		if resp, got := c.response("POST"); got != body || resp.Close {
			t.Fatalf("%s, %d bytes", resp.Status, len(got))
		}
		l.next(t)
	}
}

func TestModelUnreachable(t *testing.T) {
	l := newLedger()
	m := modelTo(l, "")
	m.Dial = func(context.Context) (net.Conn, error) { return nil, errors.New("connection refused") }
	c := connect(t, start(t, m))
	c.send(post("/v1/messages", small))
	resp, body := c.response("POST")
	if resp.StatusCode != 502 {
		t.Error(resp.Status)
	}
	mustContain(t, body, `"type":"api_error"`, "strix (unix:///run/m.sock)", "connection refused", "`launcher status`")
	if e := l.next(t); e.Status != 502 || e.Verdict != "allowed" || !strings.Contains(e.Reason, "connection refused") {
		t.Errorf("event %+v", e)
	}
}

func TestModelServerIsHostile(t *testing.T) {
	for name, c := range map[string]struct {
		answer string // raw
		status int
		why    string
	}{
		"redirect":           {"HTTP/1.1 307 Moved\r\nLocation: http://203.0.113.1/\r\nContent-Length: 0\r\n\r\n", 502, "redirect (307)"},
		"upgrade":            {"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", 502, "switched protocols"},
		"endless headers":    {"HTTP/1.1 200 OK\r\nX-A: " + strings.Repeat("a", 80<<10), 502, "header"},
		"endless 1xx":        {strings.Repeat("HTTP/1.1 103 Early Hints\r\nX-A: "+strings.Repeat("b", 900)+"\r\n\r\n", 100), 502, ""},
		"response splitting": {"HTTP/1.1 200 OK\r\nX-Request-Id: a\rSet-Cookie: b\r\nContent-Length: 0\r\n\r\n", 502, ""},
		"not HTTP":           {"SSH-2.0-x\r\n", 502, "malformed"},
		"compressed":         {"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 0\r\n\r\n", 502, "compressed"},
		"closed at once":     {"", 502, "EOF"},
		"its own error":      {"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}", 400, ""},
		"overloaded":         {"HTTP/1.1 529 \r\nRetry-After: 3\r\nContent-Length: 2\r\n\r\n{}", 529, ""},
	} {
		t.Run(name, func(t *testing.T) {
			addr := origin(t, func(conn *net.TCPConn) {
				r, err := http.ReadRequest(bufio.NewReader(conn))
				if err != nil {
					return
				}
				_, _ = io.Copy(io.Discard, r.Body)
				_, _ = io.WriteString(conn, c.answer)
			})
			l := newLedger()
			conn := connect(t, start(t, modelTo(l, addr)))
			conn.send(post("/v1/messages", small))
			resp, body := conn.response("POST")
			if resp.StatusCode != c.status {
				t.Errorf("%s %s", resp.Status, body)
			}
			mustContain(t, body, c.why)
			for _, h := range []string{"Location", "X-A", "Set-Cookie", "Upgrade"} {
				if resp.Header.Get(h) != "" {
					t.Errorf("the client got %s", h)
				}
			}
			if e := l.next(t); e.Status != c.status {
				t.Errorf("event %+v", e)
			}
		})
	}
}

func TestModelSilenceIsBounded(t *testing.T) {
	addr := origin(t, func(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) })
	l := newLedger()
	m := modelTo(l, addr)
	m.maxSilence = 30 * time.Millisecond
	c := connect(t, start(t, m))
	c.send(post("/v1/messages", small))
	resp, body := c.response("POST")
	if resp.StatusCode != 504 {
		t.Error(resp.Status)
	}
	mustContain(t, body, "timeout_error", "silent")
	if e := l.next(t); e.Status != 504 {
		t.Errorf("event %+v", e)
	}
}

func TestModelBrokenStreamSaysWhyAndDoesNotLookWhole(t *testing.T) {
	const event = "event: a\ndata: b\n\n"
	for _, c := range []struct {
		piece string
		told  bool
	}{{event, true}, {event + "event: half", false}} {
		next := make(chan string, 1)
		next <- c.piece
		close(next) // the connection ends without the last chunk
		l := newLedger()
		conn := connect(t, start(t, modelTo(l, serveSSE(t, next))))
		conn.send(post("/v1/messages", small))
		resp, err := http.ReadResponse(conn.r, nil)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		if err == nil || strings.Contains(string(b), "event: error") != c.told || !strings.HasPrefix(string(b), c.piece) {
			t.Errorf("%q %v", b, err)
		}
		mustContain(t, l.next(t).Reason, "failed")
	}
}

func TestModelCutsTheAnswerThatCannotBeRecorded(t *testing.T) {
	l := newLedger()
	addr := httpOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		l.setFail(true)
		_, _ = io.WriteString(w, "{")
		_ = http.NewResponseController(w).Flush()
		_, _ = io.WriteString(w, "}")
	})
	proxy := start(t, modelTo(l, addr))
	c := connect(t, proxy)
	c.send(post("/v1/messages", small))
	if resp, err := http.ReadResponse(c.r, nil); err == nil {
		if b, err := io.ReadAll(resp.Body); err == nil {
			t.Errorf("%q looks whole", b)
		}
	}
	c = connect(t, proxy)
	c.send(post("/v1/messages", small))
	if resp, body := c.response("POST"); resp.StatusCode != 503 || !strings.Contains(body, auditFailed) {
		t.Error(resp.Status, body)
	}
}

func TestModelManyStreamsAreNotLost(t *testing.T) {
	// An origin that answers before it has read the body: see readBody.
	addr := httpOrigin(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for range 5 {
			_, _ = io.WriteString(w, "data: x\n\n")
			_ = http.NewResponseController(w).Flush()
		}
	})
	l := newLedger()
	proxy := start(t, modelTo(l, addr))
	body := `{"model":"gpt-oss","system":"` + strings.Repeat("y", 200<<10) + `"}`
	for range 200 {
		c := connect(t, proxy)
		c.send(post("/v1/messages", body))
		if _, got := c.response("POST"); got != strings.Repeat("data: x\n\n", 5) {
			t.Fatalf("got %q", got)
		}
		_ = c.Close()
	}
}

func TestModelChecksConstruction(t *testing.T) {
	m := &Model{Endpoints: []policy.Endpoint{{Method: "POST", Path: "/v1/chat/completions"}}}
	err := m.Serve(context.Background(), nil)
	mustContain(t, fmt.Sprint(err), "no Dial", "no Record", "no Log", "no ModelName", "/v1/chat/completions cannot be forwarded")
}
