package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// serverPaths are what model servers answer besides the agent's own endpoints,
// most of them without asking for a key.
var serverPaths = strings.Fields(`
	/invocations /generative_scoring /pooling /classify /score /rerank /v1/score /v1/rerank /v2/rerank
	/pause /resume /is_paused /scale_elastic_ep /is_scaling_elastic_ep /init_weight_transfer_engine /update_weights
	/get_world_size /abort_requests /tokenize /detokenize /health /ping /version /load
	/tokenizer_info /start_profile /stop_profile
	/server_info /reset_prefix_cache /reset_mm_cache /reset_encoder_cache /sleep /wake_up /is_sleeping /collective_rpc
	/v1/load_lora_adapter /v1/unload_lora_adapter
	/docs /redoc /openapi.json /metrics /v1/models /v1/responses /v1/responses/resp_1 /v1/responses/resp_1/cancel
	/v1/chat/completions /v1/completions /v1/embeddings /v1/audio/transcriptions /v1/realtime /inference/v1/generate
	/props /slots /slots/0 /completion /infill /apply-template /lora-adapters /models/load /v1/messages/batches
`) // vLLM docs/usage/security.md@00b005c and vllm/entrypoints; llama.cpp tools/server/README.md

// ownPaths are forwarded when spelled right, and only then.
var ownPaths = []string{"/v1/messages", "/v1/messages/count_tokens"}

var anyMethod = strings.Fields("GET HEAD POST PUT PATCH DELETE OPTIONS TRACE CONNECT post")

// oddities spell a path in ways that some server takes for the path itself.
var oddities = map[string]func(p string) string{
	"double slash":              func(p string) string { return "/" + p },
	"double slash within":       func(p string) string { return strings.Replace(p, p[1:], "/"+p[1:], 1) + "//" },
	"trailing slash":            func(p string) string { return p + "/" },
	"dot segment":               func(p string) string { return "/." + p },
	"dot-dot segment":           func(p string) string { return "/v1/.." + p },
	"from an allowed path":      func(p string) string { return "/v1/messages/../.." + p },
	"escaped dot segment":       func(p string) string { return "/%2e" + p },
	"escaped dot-dot":           func(p string) string { return "/v1/messages/%2e%2e/%2E%2E" + p },
	"escaped twice":             func(p string) string { return "/v1/messages/%252e%252e/%252e%252e" + p },
	"an escaped letter":         func(p string) string { return fmt.Sprintf("/%%%02x%s", p[1], p[2:]) },
	"a letter escaped twice":    func(p string) string { return fmt.Sprintf("/%%25%02x%s", p[1], p[2:]) },
	"escaped slash before":      func(p string) string { return "/%2f" + p[1:] },
	"escaped slash behind":      func(p string) string { return p + "%2f" },
	"upper case":                strings.ToUpper,
	"one letter in upper case":  func(p string) string { return p[:len(p)-1] + strings.ToUpper(p[len(p)-1:]) + "A" },
	"path parameter":            func(p string) string { return p + ";x=1" },
	"parameter of an allowed":   func(p string) string { return "/v1/messages;" + p },
	"backslash":                 func(p string) string { return `\` + p[1:] },
	"backslash segments":        func(p string) string { return `/v1\messages\..\..` + p },
	"escaped backslash":         func(p string) string { return "/%5c" + p[1:] },
	"trailing dot":              func(p string) string { return p + "." },
	"trailing space":            func(p string) string { return p + " " },
	"escaped space":             func(p string) string { return p + "%20" },
	"tab":                       func(p string) string { return p + "\t" },
	"NUL":                       func(p string) string { return p + "\x00" },
	"escaped NUL":               func(p string) string { return p + "%00" },
	"escaped CRLF":              func(p string) string { return p + "%0d%0aX:1" },
	"fragment":                  func(p string) string { return p + "#/v1/messages" },
	"half an escape":            func(p string) string { return p + "%2" },
	"no slash":                  func(p string) string { return p[1:] },
	"absolute form":             func(p string) string { return "http://m" + p },
	"absolute form, a port":     func(p string) string { return "http://m:8000" + p },
	"absolute form, a user":     func(p string) string { return "http://u:p@m" + p },
	"absolute form, TLS":        func(p string) string { return "https://m" + p },
	"absolute form, local":      func(p string) string { return "http://localhost" + p },
	"absolute form, upper case": func(p string) string { return "HTTP://M" + p },
	"scheme without authority":  func(p string) string { return "http:" + p },
	"network path":              func(p string) string { return "//m" + p },
	"fullwidth letter":          func(p string) string { return "/" + string(rune(p[1])+0xfee0) + p[2:] },
	"overlong UTF-8":            func(p string) string { return "/v1/messages/%c0%ae%c0%ae" + p },
}

// spellings are the ways in which path is asked for.
func spellings(path string) map[string]string {
	all := map[string]string{}
	if !slices.Contains(ownPaths, path) {
		all["as it is"], all["a query"], all["an allowed query"] = path, path+"?x=1", path+"?beta=true"
	}
	for name, spell := range oddities {
		all[name] = spell(path)
	}
	return all
}

// answeredHere says that the gateway answers a request by itself.
func answeredHere(method, target string) bool {
	path, _, _ := strings.Cut(target, "?")
	return path == "/health" && (method == "GET" || method == "HEAD") || path == "/v1/models" && method == "GET"
}

// Nothing but the agent's own endpoints reaches the model server, by no method
// and in no spelling; each attempt is one event.
func TestModelRefusesEveryOtherPath(t *testing.T) {
	l := newLedger()
	m := modelTo(l, "")
	m.Dial = func(context.Context) (net.Conn, error) {
		t.Error("the model server was dialled")
		return nil, errors.New("no")
	}
	addr, stop := startStop(t, m)
	var c *client
	cases := 0
	for _, path := range slices.Concat(serverPaths, ownPaths) {
		for name, target := range spellings(path) {
			for _, method := range anyMethod {
				cases++
				if c == nil {
					c = connect(t, addr)
				}
				c.send(fmt.Sprintf("%s %s HTTP/1.1\r\nHost: m\r\nContent-Length: 0\r\n\r\n", method, target))
				resp, body := c.response(method)
				e := l.next(t)
				if here := answeredHere(method, target); here && (resp.StatusCode != 200 || e.Verdict != "allowed") ||
					!here && (resp.StatusCode != http.StatusForbidden && resp.StatusCode != http.StatusBadRequest || e.Verdict != "denied") ||
					e.Status != resp.StatusCode || e.Layer != "model" || e.Reason == "" {
					t.Errorf("%s (%s): %s %q: %s %q, event %+v", path, name, method, target, resp.Status, body, e)
				}
				if resp.Close {
					_ = c.Close()
					c = nil
				}
			}
		}
	}
	stop()
	if len(l.events) != cases {
		t.Errorf("%d events for %d attempts", len(l.events), cases)
	}
	if want := len(anyMethod) * (len(serverPaths)*(len(oddities)+3) + len(ownPaths)*len(oddities)); cases != want {
		t.Errorf("%d cases, want %d", cases, want)
	}
}

// With a body it is no different, and the body is not waited for.
func TestModelRefusesBodiesToOtherPaths(t *testing.T) {
	l := newLedger()
	m := modelTo(l, "")
	m.Dial = func(context.Context) (net.Conn, error) {
		t.Error("the model server was dialled")
		return nil, errors.New("no")
	}
	addr, stop := startStop(t, m)
	for _, path := range serverPaths {
		for _, head := range []string{"Content-Length: 1000000", "Transfer-Encoding: chunked"} {
			c := connect(t, addr)
			c.send(fmt.Sprintf("POST %s HTTP/1.1\r\nHost: m\r\nContent-Type: application/json\r\n%s\r\n\r\n", path, head))
			if resp, body := c.response("POST"); resp.StatusCode != http.StatusForbidden || !resp.Close {
				t.Errorf("%s: %s %q", path, resp.Status, body)
			}
			if e := l.next(t); e.Verdict != "denied" || e.Path != path {
				t.Errorf("%s: event %+v", path, e)
			}
			_ = c.Close()
		}
	}
	stop()
	if want := 2 * len(serverPaths); len(l.events) != want {
		t.Errorf("%d events for %d attempts", len(l.events), want)
	}
}
