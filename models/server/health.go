package server

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The bounds of one question to a server: its time and the answer's bytes.
const (
	askTime   = 5 * time.Second
	maxAnswer = 1 << 20
	maxModels = 64
)

// health is what /health says.
type health int

// The zero health is no answer: the socket is not there yet, or nobody listens.
const (
	silent  health = iota
	loading        // it answers, with anything but 200
	healthy
)

// client asks the server's socket and nothing else: no proxy, no redirect, each
// question on a connection of its own.
func (s *Server) client() *http.Client {
	return &http.Client{
		Timeout: askTime,
		Transport: &http.Transport{
			Proxy:                  nil,
			DialContext:            func(ctx context.Context, _, _ string) (net.Conn, error) { return s.dial(ctx) },
			DisableKeepAlives:      true,
			DisableCompression:     true,
			MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// ask sends GET path. The caller closes the answer's body, which is bounded.
func (s *Server) ask(ctx context.Context, path string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://model"+path, nil)
	if err != nil {
		return nil, err
	}
	res, err := s.client().Do(r)
	if err != nil {
		return nil, err
	}
	res.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(res.Body, maxAnswer), res.Body}
	return res, nil
}

// health asks /health. vLLM binds its socket long before it serves, so that only
// a status says that it is ready; llama.cpp answers 503 while it loads.
func (s *Server) health(ctx context.Context) health {
	res, err := s.ask(ctx, "/health")
	if err != nil {
		return silent
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusOK {
		return healthy
	}
	return loading
}

// askJSON reads the answer to GET path into v. Fields that v lacks are passed over.
func (s *Server) askJSON(ctx context.Context, path string, v any) error {
	res, err := s.ask(ctx, path)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: status %d", path, res.StatusCode)
	}
	return json.NewDecoder(res.Body).Decode(v)
}

// version asks vLLM's /version, then llama.cpp's /props; empty: it does not say.
func (s *Server) version(ctx context.Context) string {
	var vllm struct {
		Version string `json:"version"`
	}
	if err := s.askJSON(ctx, "/version", &vllm); err == nil && vllm.Version != "" {
		return printable("vLLM "+vllm.Version, maxName)
	}
	var llama struct {
		BuildInfo string `json:"build_info"`
	}
	if err := s.askJSON(ctx, "/props", &llama); err == nil && llama.BuildInfo != "" {
		return printable("llama.cpp "+llama.BuildInfo, maxName)
	}
	return ""
}

// models asks /v1/models for the names that it answers to and its context, in
// tokens; zero: it does not say.
func (s *Server) models(ctx context.Context) (names []string, context int) {
	var list struct {
		Data []struct {
			ID          string `json:"id"`
			MaxModelLen int    `json:"max_model_len"` // vLLM
			Meta        struct {
				Context int `json:"n_ctx"` // llama.cpp
			} `json:"meta"`
		} `json:"data"`
	}
	if s.askJSON(ctx, "/v1/models", &list) != nil {
		return nil, 0
	}
	for _, m := range list.Data[:min(len(list.Data), maxModels)] {
		if m.ID == "" {
			continue
		}
		names = append(names, printable(m.ID, maxName))
		context = max(context, m.MaxModelLen, m.Meta.Context)
	}
	return names, context
}

// running asks how many requests it works on: its metrics first, then vLLM's
// /load (which needs --enable-server-load-tracking); below zero: it does not say.
func (s *Server) running(ctx context.Context) int {
	if res, err := s.ask(ctx, "/metrics"); err == nil {
		defer res.Body.Close()
		if res.StatusCode == http.StatusOK {
			if n := countRunning(res.Body); n >= 0 {
				return n
			}
		}
	}
	var load struct {
		Load *int `json:"server_load"`
	}
	if s.askJSON(ctx, "/load", &load) == nil && load.Load != nil && *load.Load >= 0 {
		return *load.Load
	}
	return -1
}

// gauges are those that tell of requests: under way, and waiting.
var gauges = []string{
	"vllm:num_requests_running", "vllm:num_requests_waiting",
	"llamacpp:requests_processing", "llamacpp:requests_deferred", // needs llama-server --metrics
}

// countRunning adds up the gauges of a Prometheus text; -1: it has none of them.
func countRunning(r io.Reader) int {
	found, sum := false, 0.0
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 64<<10)
	for lines.Scan() {
		for _, g := range gauges {
			if v, ok := gauge(lines.Text(), g); ok {
				found, sum = true, sum+v
			}
		}
	}
	if !found || sum > math.MaxInt32 {
		return -1
	}
	return int(sum)
}

// gauge reads `name{label="…"} 2.0` or `name 2`.
func gauge(line, name string) (float64, bool) {
	rest, ok := strings.CutPrefix(line, name)
	if !ok || rest == "" || rest[0] != '{' && rest[0] != ' ' {
		return 0, false
	}
	if rest[0] == '{' {
		rest = rest[strings.LastIndexByte(rest, '}')+1:]
	}
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0, false
	}
	v, err := strconv.ParseFloat(fields[0], 64)
	return v, err == nil && v >= 0 && !errors.Is(err, strconv.ErrRange) && !math.IsNaN(v) && !math.IsInf(v, 0)
}
