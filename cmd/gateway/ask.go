package main

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
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/audit"
)

const (
	detailsTime = 2 * time.Second // for what is nice to know
	maxModels   = 1 << 20         // bytes of an answer
	maxVersion  = 64              // bytes of a server's version
)

// asker asks one model server, a connection each time.
type asker struct {
	client *http.Client
	token  string // bearer token; empty: none
}

func newAsker(token string, dial func(context.Context) (net.Conn, error)) asker {
	return asker{token: token, client: &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{Proxy: nil, DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }},
	}}
}

// statusError is an answer other than 200.
type statusError struct {
	code int
	path string
}

func (e *statusError) Error() string {
	return fmt.Sprintf("it answered %d %s to %s", e.code, http.StatusText(e.code), e.path)
}

func isStatus(err error, code int) bool {
	status, ok := errors.AsType[*statusError](err)
	return ok && status.code == code
}

func (a asker) get(ctx context.Context, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, "GET", "http://model"+path, nil)
	if err != nil {
		return nil, err
	}
	if a.token != "" {
		req.Header.Set("Authorization", "Bearer "+a.token)
	}
	res, err := a.client.Do(req)
	if err != nil {
		var inner interface{ Unwrap() error }
		if errors.As(err, &inner) { // without the made-up URL
			err = inner.Unwrap()
		}
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, &statusError{res.StatusCode, path}
	}
	return io.ReadAll(io.LimitReader(res.Body, maxModels))
}

// details asks for the server's version (empty: it does not say) and for the
// requests that it works on, waiting ones included (-1: it does not say).
func (a asker) details(ctx context.Context) (version string, running int) {
	ctx, cancel := context.WithTimeout(ctx, detailsTime)
	defer cancel()
	var v struct {
		Version string `json:"version"`
	}
	if body, err := a.get(ctx, "/version"); err == nil && json.Unmarshal(body, &v) == nil {
		version = audit.Printable(v.Version[:min(len(v.Version), maxVersion)])
	}
	if body, err := a.get(ctx, "/metrics"); err == nil {
		if n, ok := countRequests(body); ok {
			return version, n
		}
	}
	var slots []struct {
		Busy bool `json:"is_processing"`
	}
	body, err := a.get(ctx, "/slots")
	if err != nil || json.Unmarshal(body, &slots) != nil {
		return version, -1
	}
	for _, s := range slots {
		if s.Busy {
			running++
		}
	}
	return version, running
}

// requestGauges are the metrics that count requests: of vLLM
// (vllm/v1/metrics/loggers.py), and of llama.cpp with --metrics
// (tools/server/server-task.cpp). vLLM's GET /load counts only where the server
// was told to (--enable-server-load-tracking), and says 0 where not.
var requestGauges = []string{
	"vllm:num_requests_running", "vllm:num_requests_waiting", "llamacpp:requests_processing", "llamacpp:requests_deferred",
}

// countRequests adds up the request gauges of a Prometheus text.
func countRequests(text []byte) (int, bool) {
	total, found := 0.0, false
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		name, rest, ok := strings.Cut(lines.Text(), " ")
		if i := strings.IndexByte(lines.Text(), '{'); i >= 0 && (!ok || i < len(name)) { // labels may hold blanks
			end := strings.LastIndexByte(lines.Text(), '}')
			if end < i {
				continue
			}
			name, rest = lines.Text()[:i], strings.TrimSpace(lines.Text()[end+1:])
		}
		for _, gauge := range requestGauges {
			if value, _, _ := strings.Cut(rest, " "); name == gauge {
				if n, err := strconv.ParseFloat(value, 64); err == nil && n >= 0 && n < 1e6 {
					total, found = total+n, true
				}
			}
		}
	}
	return int(total), found
}
