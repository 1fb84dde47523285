package demo

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var attempts = [][]string{{"tcp", "203.0.113.10:443"}, {"tcp", "[2001:db8::10]:443"}, {"dns", "exfil.example"}}

// start serves s on a unix socket and returns a client for it.
func start(t *testing.T, s *Server) *http.Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "m.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s.Log = slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return &http.Client{Transport: transport}
}

func post(t *testing.T, c *http.Client, path, body string) (int, string) {
	t.Helper()
	resp, err := c.Post("http://model"+path, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(data)
}

func get(t *testing.T, c *http.Client, path string) (int, string) {
	t.Helper()
	resp, err := c.Get("http://model" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(data)
}

func TestSurface(t *testing.T) {
	c := start(t, &Server{Script: Script{Attempts: attempts}})
	if code, body := get(t, c, "/health"); code != 200 || body != "" {
		t.Errorf("health: %d %q", code, body)
	}
	if code, body := get(t, c, "/v1/models"); code != 200 || !strings.Contains(body, `"id":"demo"`) || !strings.Contains(body, `"max_model_len":131072`) || !strings.Contains(body, "stand-in") {
		t.Errorf("models: %d %s", code, body)
	}
	if code, body := get(t, c, "/docs"); code != 404 || body != `{"detail":"Not Found"}` {
		t.Errorf("unknown path: %d %s", code, body)
	}
	hello := `{"model":"demo","max_tokens":10,"messages":[{"role":"user","content":"hi"}]}`
	if code, body := post(t, c, "/v1/messages/count_tokens", hello); code != 200 || !strings.HasPrefix(body, `{"input_tokens":`) {
		t.Errorf("count: %d %s", code, body)
	}
	code, body := post(t, c, "/v1/messages?beta=true", hello)
	var m struct {
		Type, Role string
		Content    []struct{ Type, Text string }
		StopReason string `json:"stop_reason"`
		Usage      map[string]int
	}
	if err := json.Unmarshal([]byte(body), &m); err != nil || code != 200 || m.Type != "message" || m.Role != "assistant" || m.StopReason != "end_turn" || m.Usage["output_tokens"] == 0 {
		t.Errorf("message: %d %s", code, body)
	}
	if len(m.Content) != 1 || !strings.Contains(m.Content[0].Text, "stand-in") {
		t.Errorf("an answer does not say what it is: %s", body)
	}
	if _, body := get(t, c, "/metrics"); !strings.Contains(body, `{endpoint="messages"} 1`) || !strings.Contains(body, `{endpoint="count_tokens"} 1`) || !strings.Contains(body, "refused_total 1") {
		t.Errorf("metrics: %s", body)
	}
}

func TestRefusals(t *testing.T) {
	c := start(t, &Server{Model: "served", MaxContext: 100, Script: Script{Attempts: attempts}})
	for body, want := range map[string]string{
		`{"model":"other","max_tokens":1,"messages":[{"role":"user","content":"x"}]}`:                                 "404 NotFoundError The model `other` does not exist.",
		`{"model":"served","max_tokens":0,"messages":[{"role":"user","content":"x"}]}`:                                "400 invalid_request_error max_tokens must be positive",
		`{"model":"served","max_tokens":90,"messages":[{"role":"user","content":"` + strings.Repeat("x", 80) + `"}]}`: "400 BadRequestError This model's maximum context length is 100 tokens.",
		`{"model":"served","max_tokens":1,"messages":[{"role":"ctx","content":"x"}]}`:                                 "400 invalid_request_error Input should be",
		`{"model":"served","max_tokens":1,"messages":[]}`:                                                             "400 invalid_request_error body is not",
		`{"model":"served","max_tokens":1,"messages":[{"role":"user","content":7}]}`:                                  "400 invalid_request_error body is not",
		`nonsense`: "400 invalid_request_error body is not",
	} {
		code, got := post(t, c, "/v1/messages", body)
		var e struct {
			Type  string
			Error struct{ Type, Message string }
		}
		if err := json.Unmarshal([]byte(got), &e); err != nil || e.Type != "error" || !strings.HasPrefix(fmt.Sprint(code, " ", e.Error.Type, " ", e.Error.Message), want) {
			t.Errorf("%s\ngot  %d %s\nwant %s", body, code, got, want)
		}
	}
}

// The event names and shapes are those of vLLM's converter.
func TestStreamShape(t *testing.T) {
	turn := Turn{Thinking: "let me", Text: "two words", Calls: []Call{{Tool: "Bash", Input: map[string]any{"command": "ls -l"}}}}
	c := start(t, &Server{Script: Script{Turns: []Turn{turn}}})
	code, body := post(t, c, "/v1/messages", `{"model":"demo","max_tokens":10,"stream":true,"tools":[{"name":"Bash"}],"messages":[{"role":"user","content":"go"}]}`)
	if code != 200 {
		t.Fatal(code, body)
	}
	var shape []string
	for block := range strings.SplitSeq(strings.TrimSpace(body), "\n\n") {
		name, data, _ := strings.Cut(strings.TrimPrefix(block, "event: "), "\ndata: ")
		var e struct {
			Type         string
			ContentBlock struct{ Type string } `json:"content_block"`
			Delta        struct {
				Type       string
				StopReason string `json:"stop_reason"`
			}
		}
		if err := json.Unmarshal([]byte(data), &e); err != nil || e.Type != name {
			t.Fatalf("event %q: %v", block, err)
		}
		shape = append(shape, strings.TrimSuffix(name+" "+e.ContentBlock.Type+e.Delta.Type+e.Delta.StopReason, " "))
	}
	want := "message_start|content_block_start thinking|content_block_delta thinking_delta|content_block_delta thinking_delta|content_block_delta signature_delta|content_block_stop|" +
		"content_block_start text|content_block_delta text_delta|content_block_delta text_delta|content_block_stop|" +
		"content_block_start tool_use|content_block_delta input_json_delta|content_block_delta input_json_delta|content_block_stop|message_delta tool_use|message_stop"
	if got := strings.Join(shape, "|"); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestFaults(t *testing.T) {
	faults := map[uint64]Fault{1: {Status: 503, Message: "loading"}, 2: {CutAfter: 2}, 3: {CutAfter: 2, Stall: true}}
	c := start(t, &Server{Script: Script{Attempts: attempts}, Fault: func(n uint64) Fault { return faults[n] }})
	ask := `{"model":"demo","max_tokens":10,"stream":true,"messages":[{"role":"user","content":"hi"}]}`
	if code, body := post(t, c, "/v1/messages", ask); code != 503 || !strings.Contains(body, "loading") {
		t.Errorf("status: %d %s", code, body)
	}
	resp, err := c.Post("http://model/v1/messages", "application/json", strings.NewReader(ask))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if data, err := io.ReadAll(resp.Body); err == nil || strings.Count(string(data), "event: ") != 2 {
		t.Errorf("cut: %q, %v", data, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://model/v1/messages", strings.NewReader(ask))
	if err != nil {
		t.Fatal(err)
	}
	resp, err = c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for n := 0; n < 6; n++ { // two events: name, data, empty line
		lines.Scan()
	}
	cancel() // a server that stalls ends with its client: start's cleanup checks it
	if lines.Scan() {
		t.Errorf("after the stall: %q", lines.Text())
	}
}

func TestSlowStreamEndsWithServer(t *testing.T) {
	s := &Server{Script: Script{Attempts: attempts}, Delay: time.Hour}
	c := start(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://model/v1/messages", strings.NewReader(`{"model":"demo","max_tokens":10,"stream":true,"messages":[{"role":"user","content":"hi"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	go cancel()
	if resp, err := c.Do(req); err == nil {
		_, err = io.ReadAll(resp.Body)
		resp.Body.Close()
		if err == nil {
			t.Error("a stream of an hour ended")
		}
	}
}

func TestServeNeedsAScriptAndALog(t *testing.T) {
	for _, s := range []*Server{{Log: slog.New(slog.DiscardHandler)}, {Script: Script{Attempts: attempts}}} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Serve(t.Context(), l); err == nil {
			t.Error("no error")
		}
		if _, err := l.Accept(); err == nil {
			t.Error("the listener is still open")
		}
	}
}

// Requests that Claude Code 2.1.331 sent, shortened; see testdata.
func TestRealRequests(t *testing.T) {
	data, err := os.ReadFile("testdata/claude-2.1.331-messages.json")
	if err != nil {
		t.Fatal(err)
	}
	var samples []struct {
		What string
		Body json.RawMessage
	}
	if err := json.Unmarshal(data, &samples); err != nil || len(samples) < 5 {
		t.Fatal(len(samples), err)
	}
	c := start(t, &Server{Script: Script{Attempts: attempts}})
	for _, s := range samples {
		if code, body := post(t, c, "/v1/messages?beta=true", string(s.Body)); code != 200 || !strings.Contains(body, "message_stop") {
			t.Errorf("%s: %d %s", s.What, code, body)
		}
	}
}
