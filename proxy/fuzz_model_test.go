package proxy

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func fuzzModel(k *kept, server *far) *Model {
	return &Model{Record: k.record, Log: quiet, Endpoints: claudeEndpoints, ModelName: "gpt-oss", Aliases: []string{"haiku"}, UpstreamToken: "up-token",
		DialEach: true, maxSilence: time.Minute, PingAfter: time.Hour,
		Dial: func(ctx context.Context) (net.Conn, error) { return server.dial(ctx, "", 0) }}
}

// What reaches a model server is what this program writes: the method, path and
// headers of a table, and a body that says the same to every parser.
func FuzzModel(f *testing.F) {
	for _, more := range []string{"", "Anthropic-Beta: a, b\r\n", "Authorization: Bearer mine\r\nX-Api-Key: mine\r\n", "Transfer-Encoding: chunked\r\n",
		"Connection: upgrade\r\nUpgrade: websocket\r\n", "Content-Length: 0\r\n", "Expect: 100-continue\r\n", "X: y\r\n z\r\n", "User-Agent: a\r\nUser-Agent: b\r\n"} {
		f.Add([]byte(post("/v1/messages", small, more)))
	}
	for _, path := range []string{"/v1/messages?beta=true&x=1", "/v1//messages", "/v1/%6dessages", "/v1/messages/count_tokens", "/metrics", "http://m/v1/messages", "/v1/models", "*"} {
		f.Add([]byte(post(path, small)))
	}
	for _, body := range []string{`{"model":"haiku","messages":[]}`, `{"model":"other"}`, `{"model":"gpt-oss","Model":"x"}`, `{"model":"gpt-oss","mode\u006c":"x"}`, `{"model":"gpt-oss","mcp_servers":[]}`} {
		f.Add([]byte(post("/v1/messages", body) + post("/v1/messages", small)))
	}
	f.Add([]byte("GET /health HTTP/1.1\r\nHost: m\r\n\r\nPOST /v1/messages HTTP/1.1\r\nHost: m\r\nTransfer-Encoding: chunked\r\n\r\n" +
		strconv.FormatInt(int64(len(small)), 16) + "\r\n" + small + "\r\n0\r\nX-Trailer: 1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) > 16<<10 {
			return
		}
		synctest.Test(t, func(t *testing.T) {
			k, server := &kept{}, &far{answer: []byte("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")}
			talk(fuzzModel(k, server), raw)
			server.wg.Wait()
			for _, got := range server.got {
				if got.Len() > 0 {
					checkModelRequest(t, got.String())
				}
			}
			if len(server.got) > k.allowed() {
				t.Errorf("%d connections to the model server, %d events that allow", len(server.got), k.allowed())
			}
		})
	})
}

// mayGo are the headers of a request to a model server, in lower case.
var mayGo = []string{"accept", "anthropic-beta", "anthropic-version", "user-agent", "x-app", "x-claude-code-session-id", "x-claude-code-agent-id",
	"x-claude-code-parent-agent-id", "host", "content-length", "content-type", "authorization", "connection"}

func checkModelRequest(t *testing.T, got string) {
	t.Helper()
	q, ok := readStrict(got)
	if !ok {
		t.Fatalf("the model server was sent %q", got)
	}
	path, query, _ := strings.Cut(q.target, "?")
	if q.method != "POST" || path != "/v1/messages" && path != "/v1/messages/count_tokens" || query != "" && query != "beta=true" {
		t.Errorf("the model server was asked for %s %s", q.method, q.target)
	}
	for name, values := range q.headers {
		if !slices.Contains(mayGo, name) || len(values) != 1 {
			t.Errorf("the model server was sent the header %s: %q", name, values)
		}
	}
	if q.headers["host"][0] != "localhost" || q.headers["authorization"][0] != "Bearer up-token" || q.headers["content-length"] == nil {
		t.Errorf("the model server was sent %q", q.headers)
	}
	length, err := strconv.Atoi(q.headers["content-length"][0])
	if err != nil || len(q.rest) > length {
		t.Fatalf("the model server was sent %d bytes with a length of %q", len(q.rest), q.headers["content-length"])
	}
	if len(q.rest) < length {
		return // the client went away meanwhile
	}
	checkSent(t, []byte(q.rest), bodies[path])
}

// checkSent looks at a body that goes to a model server.
func checkSent(t *testing.T, body []byte, row string) {
	t.Helper()
	var anyCase struct{ Model string } // Go's decoder takes MODEL for it, and the last of several
	if err := json.Unmarshal(body, &anyCase); err != nil || anyCase.Model != "gpt-oss" {
		t.Fatalf("the model in %q is %q, %v", body, anyCase.Model, err)
	}
	if again, err := checkBody(body, row); err != nil || !bytes.Equal(again, body) {
		t.Fatalf("%q would not pass again: %v", body, err)
	}
	checkMeaning(t, body)
}

// mayCome are the headers of an answer to an agent.
var mayCome = []string{"Content-Type", "Content-Length", "Cache-Control", "Date", "Retry-After", "Retry-After-Ms", "Request-Id", "X-Request-Id", "X-Should-Retry",
	"Connection", "Transfer-Encoding"}

// Whatever a model server answers, the agent gets one whole response with the
// headers of a table, or a connection that ends: nothing behind it, no second
// response, no header of the server's own.
func FuzzModelAnswer(f *testing.F) {
	const head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
	for _, answer := range []string{
		head + "Transfer-Encoding: chunked\r\n\r\n" + "1a\r\nevent: ping\ndata: {\"a\": 1}\r\n2\r\n\n\n\r\n0\r\n\r\n",
		head + "\r\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":7}}}\n\nevent: error\ndata: {\"error\":{\"message\":\"x\"}}\n\n",
		"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nX-Request-Id: a\r\nSet-Cookie: b\r\n\r\n{}HTTP/1.1 200 OK\r\n\r\n",
		"HTTP/1.1 400 Bad\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n" + `{"error":"a b"}`,
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
		"HTTP/1.1 302 Found\r\nLocation: http://203.0.113.1/\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nX-Request-Id: a\rHTTP/1.1 500 x\r\nContent-Encoding: gzip\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nTrailer: x\r\n\r\n",
		"HTTP/1.0 200 OK\n\nbody to the end", "nonsense", "",
	} {
		f.Add([]byte(answer))
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		if len(answer) > 16<<10 {
			return
		}
		synctest.Test(t, func(t *testing.T) {
			k, server := &kept{}, &far{answer: answer}
			got := talk(fuzzModel(k, server), []byte(post("/v1/messages", small)))
			server.wg.Wait()
			if len(k.events) != 1 || k.events[0].Path != "/v1/messages" {
				t.Errorf("events %+v", k.events)
			}
			checkAnswer(t, got)
		})
	})
}

func checkAnswer(t *testing.T, got []byte) {
	t.Helper()
	if len(got) == 0 {
		return // cut off: the answer does not look whole
	}
	r := bufio.NewReader(bytes.NewReader(got))
	response, err := http.ReadResponse(r, &http.Request{Method: http.MethodPost})
	if err != nil {
		t.Fatalf("the agent got %q: %v", got, err)
	}
	for name := range response.Header {
		if !slices.Contains(mayCome, name) {
			t.Errorf("the header %s came through: %q", name, got)
		}
	}
	if len(response.Trailer) > 0 || response.StatusCode < 200 || response.StatusCode >= 300 && response.StatusCode < 400 {
		t.Errorf("the agent got %d, trailers %v", response.StatusCode, response.Trailer)
	}
	if _, err := io.Copy(io.Discard, response.Body); err == nil && r.Buffered() > 0 {
		t.Errorf("behind the response comes more: %q", got)
	}
}
