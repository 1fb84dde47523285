package vllm

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func TestLogInOrder(t *testing.T) {
	r := start(t, map[string]string{envProbe: "1"}, model(t), "--max-model-len", "4096")
	r.ready(t)
	rest := r.log()
	// Both streams of the log are read side by side, so each is checked by itself.
	for _, lines := range [][]string{{
		"stand-in: a stand-in for vLLM", "Automatically detected platform rocm", "vLLM API server version 0.26.0 (stand-in)", "non-default args: {'model_tag': '",
		"stand-in: interfaces: ", "stand-in: connect 203.0.113.10:80: network is unreachable",
		"Using model weights format ['*.safetensors']", "Loading weights took ", "Model loading took ", "Dynamo bytecode transform time: ", "torch.compile takes ",
		"Available KV cache memory: ", "GPU KV cache size: ", "Graph capturing finished in ", "Starting vLLM server on unix:", "Available routes are:", "Route: /collective_rpc, Methods: POST",
	}, {
		"Loading safetensors checkpoint shards:   0% Completed | 0/3", "Loading safetensors checkpoint shards:  66% Completed | 2/3", "100% Completed | 3/3", "Capturing CUDA graphs", "Application startup complete.",
	}} {
		text := rest
		for _, line := range lines {
			_, after, ok := strings.Cut(text, line)
			if !ok {
				t.Fatalf("no %q after what comes before it:\n%s", line, rest)
			}
			text = after
		}
	}
	r.stop()
	if code := r.ended(t); code != 0 {
		t.Errorf("ended with %d", code)
	}
}

// TestBoundButSilent has a connect refused while it loads, as by vLLM.
func TestBoundButSilent(t *testing.T) {
	r := start(t, map[string]string{envDelay: "1h"}, model(t))
	r.wait(t, "Initializing a V1 LLM engine")
	if conn, err := net.Dial("unix", r.socket); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("got %v, %v", conn, err)
	}
	r.stop()
	if code := r.ended(t); code != 0 {
		t.Errorf("ended with %d", code)
	}
	early := start(t, map[string]string{envDelay: "1h", envListen: "early"}, model(t))
	early.wait(t, "Initializing a V1 LLM engine")
	conn, err := net.Dial("unix", early.socket)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

func TestEndpoints(t *testing.T) {
	r := start(t, nil, model(t), "--max-model-len", "4096")
	r.ready(t)
	for _, c := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"GET", "/health", "", 200, ""},
		{"GET", "/ping", "", 200, ""},
		{"POST", "/ping", "", 200, ""},
		{"GET", "/version", "", 200, `{"version":"0.26.0"}`},
		{"GET", "/load", "", 200, `{"server_load":0}`},
		{"GET", "/v1/models", "", 200, `"id":"m"`},
		{"GET", "/v1/models", "", 200, `"max_model_len":4096`},
		{"GET", "/metrics", "", 200, `vllm:num_requests_running{engine="0",model_name="m"} 0.0`},
		{"POST", "/tokenize", `{"prompt":"x"}`, 200, `"count":`},
		{"POST", "/detokenize", `{"tokens":[1]}`, 200, `"prompt":`},
		{"POST", "/v1/messages", hello, 200, "stand-in"},
		{"POST", "/v1/messages", strings.Replace(hello, `"m"`, `"other"`, 1), 404, "The model `other` does not exist."},
		{"POST", "/v1/messages", strings.Replace(hello, "16", "5000", 1), 400, "This model's maximum context length is 4096 tokens. However, you requested"},
		{"POST", "/v1/messages", strings.Replace(hello, `"user"`, `"system"`, 1), 200, "stand-in"},
		{"POST", "/v1/messages/count_tokens", hello, 200, `"input_tokens":`},
		{"POST", "/v1/chat/completions", hello, 200, `"chat.completion"`},
		{"POST", "/v1/chat/completions", `{"model":"m","stream":true}`, 200, "data: [DONE]"},
		{"POST", "/v1/chat/completions", `{"model":"x"}`, 404, "does not exist"},
		{"POST", "/v1/chat/completions", `{`, 400, "invalid JSON"},
		{"DELETE", "/health", "", 405, `{"detail":"Method Not Allowed"}`},
		{"GET", "/nothing", "", 404, `{"detail":"Not Found"}`},
		{"GET", "//health", "", 404, `{"detail":"Not Found"}`},
		{"GET", "/health/", "", 307, ""},
		{"GET", "/", "", 404, `{"detail":"Not Found"}`},
	} {
		if status, body := r.ask(t, c.method, c.path, c.body); status != c.status || !strings.Contains(body, c.want) {
			t.Errorf("%s %s: got %d %s", c.method, c.path, status, body)
		}
	}
	if _, body := r.ask(t, "GET", "/metrics", ""); strings.Contains(body, "standin_dangerous_hits_total{") || strings.Contains(r.log(), "dangerous endpoint reached") {
		t.Errorf("a hit that was none: %s", body)
	}
}

func TestDangerousEndpointsCount(t *testing.T) {
	r := start(t, nil, model(t))
	r.ready(t)
	for _, path := range Dangerous() {
		for _, method := range []string{"GET", "POST", "DELETE"} {
			r.ask(t, method, path, "{}")
		}
	}
	_, metrics := r.ask(t, "GET", "/metrics", "")
	for _, path := range Dangerous() {
		for _, method := range []string{"GET", "POST", "DELETE"} {
			if !strings.Contains(metrics, fmt.Sprintf("standin_dangerous_hits_total{request=%q} 1\n", method+" "+path)) {
				t.Errorf("%s %s is not counted", method, path)
			}
			r.wait(t, fmt.Sprintf("stand-in: dangerous endpoint reached: %q", method+" "+path))
		}
	}
	for _, path := range []string{"/collective_rpc", "/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/pause", "/resume", "/sleep", "/wake_up", "/server_info", "/reset_prefix_cache",
		"/scale_elastic_ep", "/update_weights", "/invocations", "/pooling", "/classify", "/score", "/rerank", "/start_profile"} {
		if !slices.Contains(Dangerous(), path) {
			t.Errorf("%s is missing", path)
		}
	}
}

// TestCancellation hangs up in the middle of a stream: the abort counter shows it.
func TestCancellation(t *testing.T) {
	r := start(t, map[string]string{envPrefill: "1h"}, model(t))
	r.ready(t)
	ctx, hangUp := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, "POST", "http://m/v1/messages", strings.NewReader(strings.Replace(hello, "{", `{"stream":true,`, 1)))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := r.client.Do(req) // the header comes at once, then silence
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, body := r.ask(t, "GET", "/metrics", ""); !strings.Contains(body, `vllm:num_requests_running{engine="0",model_name="m"} 1.0`) {
		t.Errorf("not running: %s", body)
	}
	if _, body := r.ask(t, "GET", "/load", ""); !strings.Contains(body, `{"server_load":1}`) {
		t.Errorf("not loaded: %s", body)
	}
	hangUp()
	for { // the counter is the event
		_, body := r.ask(t, "GET", "/metrics", "")
		if strings.Contains(body, `finished_reason="abort"} 1.0`) && strings.Contains(body, `vllm:num_requests_running{engine="0",model_name="m"} 0.0`) {
			break
		}
		if t.Context().Err() != nil {
			t.Fatal(body)
		}
	}
}

func TestFailures(t *testing.T) {
	for fail, want := range map[string]string{
		failOOM: "torch.OutOfMemoryError: HIP out of memory. Tried to allocate", failBusy: "on startup is less than desired GPU memory utilization",
		failKVCache: "larger than the available KV cache memory", failNoDevice: "RuntimeError: Failed to infer device type",
		failNoGroup: "RuntimeError: No HIP GPUs are available", failWeights: "Cannot find any model weights with `",
	} {
		r := start(t, map[string]string{envFail: fail}, model(t))
		r.wait(t, want)
		r.wait(t, "RuntimeError: Engine core initialization failed. See root cause above.")
		if code := r.ended(t); code != 1 || strings.Contains(r.log(), "Application startup complete") {
			t.Errorf("%s: ended with %d", fail, code)
		}
	}
}

func TestDiesAfterReady(t *testing.T) {
	r := start(t, map[string]string{envFail: failDies}, model(t))
	r.ready(t)
	if status, _ := r.ask(t, "GET", "/health", ""); status != 200 {
		t.Errorf("not healthy: %d", status)
	}
	resp, err := r.client.Post("http://m/v1/messages", "application/json", strings.NewReader(hello))
	if err == nil {
		resp.Body.Close()
		t.Errorf("answered %d", resp.StatusCode)
	}
	r.wait(t, "EngineDeadError")
	if code := r.ended(t); code != 1 {
		t.Errorf("ended with %d", code)
	}
}

func TestModelsThatAreNotThere(t *testing.T) {
	empty, broken := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(broken, "config.json"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, dir, want string }{
		{"a path", "/nonexistent/model", "HFValidationError: Repo id must be in the form"},
		{"a name", "org/model", "LocalEntryNotFoundError"},
		{"an empty folder", empty, "Invalid repository ID or local directory specified"},
		{"no weights", broken, "Cannot find any model weights"},
	} {
		r := start(t, nil, c.dir)
		r.wait(t, c.want)
		if code := r.ended(t); code != 1 {
			t.Errorf("%s: ended with %d", c.name, code)
		}
	}
}

// TestStaleSocket: vLLM does not remove the file of an earlier run.
func TestStaleSocket(t *testing.T) {
	dir := model(t)
	r := start(t, nil, dir)
	r.ready(t)
	r.stop()
	r.ended(t)
	if _, err := os.Stat(r.socket); err != nil {
		t.Errorf("the socket's file is gone: %v", err)
	}
	again := start(t, nil, dir, "--uds", r.socket)
	again.wait(t, "OSError: [Errno 98] Address already in use")
	if code := again.ended(t); code != 1 {
		t.Errorf("ended with %d", code)
	}
}

func TestOlderVersionsRefuseSystem(t *testing.T) {
	r := start(t, map[string]string{envVersion: "0.20.1"}, model(t))
	r.ready(t)
	status, body := r.ask(t, "POST", "/v1/messages", strings.Replace(hello, `"user"`, `"system"`, 1))
	if status != 400 || !strings.Contains(body, "Input should be 'user' or 'assistant'") || !json.Valid([]byte(body)) {
		t.Errorf("got %d %s", status, body)
	}
}

func TestCommandLine(t *testing.T) {
	for _, c := range []struct {
		args []string
		env  map[string]string
		code int
		want string
	}{
		{[]string{"--version"}, nil, 0, "0.26.0"},
		{[]string{"bench"}, nil, 2, "serve only"},
		{nil, nil, 2, "usage: vllm"},
		{[]string{"serve", "m", "--bogus"}, nil, 2, "vllm: error: unrecognized arguments: --bogus"},
		{[]string{"serve", "m", "--enable-auto-tool-choice"}, nil, 1, "TypeError: Error: --enable-auto-tool-choice requires --tool-call-parser"},
		{[]string{"serve", "m", "--tool-call-parser", "nope"}, nil, 1, "invalid tool call parser: nope"},
		{[]string{"serve", "m", "--reasoning-parser", "nope"}, nil, 1, "invalid reasoning parser: nope"},
		{[]string{"serve", "m", "--host", "::1"}, nil, 1, "IPv4"},
		{[]string{"serve", "m"}, map[string]string{envFail: "everything"}, 70, "one of"},
		{[]string{"serve", "m"}, map[string]string{envDelay: "soon"}, 70, envDelay},
		{[]string{"serve", "m"}, map[string]string{envTurns: "{"}, 70, envTurns},
	} {
		var out bytes.Buffer
		code := Run(t.Context(), Command{Args: c.args, Getenv: func(k string) string { return c.env[k] }, Stdout: &out, Stderr: &out})
		if code != c.code || !strings.Contains(out.String(), c.want) {
			t.Errorf("%q: got %d %s", c.args, code, out.String())
		}
	}
}

func TestTCP(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	in, out := io.Pipe()
	code := make(chan int, 1)
	go func() {
		code <- Run(ctx, Command{Args: []string{"serve", model(t), "--host", "127.0.0.1", "--port", "0"}, Getenv: func(string) string { return "" }, Stdout: out, Stderr: out})
		out.Close()
	}()
	var address string
	for s := bufio.NewScanner(in); s.Scan() && !strings.Contains(s.Text(), "Application startup complete."); {
		if _, after, ok := strings.Cut(s.Text(), "Starting vLLM server on "); ok {
			address = after
		}
	}
	resp, err := http.Get(address + "/health")
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("got %v, %v", resp, err)
	}
	resp.Body.Close()
	stop()
	if _, err := io.Copy(io.Discard, in); err != nil {
		t.Error(err)
	}
	if c := <-code; c != 0 {
		t.Errorf("ended with %d", c)
	}
}
