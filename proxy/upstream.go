package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/http/httputil"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/policy"
)

// requestHeaders go to the model server; responseHeaders come back. All others
// stay behind, credentials and hop-by-hop ones among them.
var (
	requestHeaders = []string{
		"Accept", "Anthropic-Beta", "Anthropic-Version", "User-Agent", "X-App",
		"X-Claude-Code-Session-Id", "X-Claude-Code-Agent-Id", "X-Claude-Code-Parent-Agent-Id",
	}
	responseHeaders = []string{
		"Content-Type", "Content-Length", "Cache-Control", "Date", "Retry-After", "Retry-After-Ms",
		"Request-Id", "X-Request-Id", "X-Should-Retry",
	}
)

var (
	errSwitched   = errors.New("it switched protocols unasked")
	errCompressed = errors.New("it compressed its answer unasked")
)

// newUpstream is the way to the model server. With each, every request dials.
// How long its header takes is bounded by Model.maxSilence alone: llama.cpp sends
// none before the first token (tools/server/server-context.cpp).
func newUpstream(dial func(ctx context.Context) (net.Conn, error), each bool) *http.Transport {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	return &http.Transport{
		DialContext:            func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
		DialTLSContext:         closedTransport().DialTLSContext,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHead,
		DisableKeepAlives:      each,
		MaxIdleConnsPerHost:    8,
		IdleConnTimeout:        time.Minute,
		Protocols:              &protocols,
	}
}

type requestKey struct{}

func requestOf(r *http.Request) *request {
	q, _ := r.Context().Value(requestKey{}).(*request)
	return q
}

func (m *model) newProxy(up *http.Transport) *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Rewrite:       m.rewrite,
		Transport:     upstream{up},
		FlushInterval: -1,
		ErrorLog:      slog.NewLogLogger(m.Log.Handler(), slog.LevelDebug),
		ErrorHandler:  m.failed,
	}
}

// rewrite builds the request to the model server from what was checked alone.
func (m *model) rewrite(p *httputil.ProxyRequest) {
	q, out := requestOf(p.In), p.Out
	out.Method = q.endpoint.Method
	out.URL.Scheme, out.URL.Host, out.Host = "http", "localhost", "localhost"
	out.URL.Path, out.URL.RawPath, out.URL.RawQuery, out.URL.Fragment = q.endpoint.Path, "", "", ""
	if p.In.URL.Query().Get("beta") == "true" {
		out.URL.RawQuery = "beta=true"
	}
	out.Header = make(http.Header, len(requestHeaders)+2)
	for _, name := range requestHeaders {
		if v := p.In.Header[name]; len(v) > 0 {
			out.Header[name] = v[:1]
		}
	}
	if out.Header["User-Agent"] == nil {
		out.Header["User-Agent"] = nil // or net/http adds its own
	}
	if m.UpstreamToken != "" {
		out.Header.Set("Authorization", "Bearer "+m.UpstreamToken)
	}
	out.Trailer, out.TransferEncoding, out.Body, out.GetBody, out.ContentLength = nil, nil, http.NoBody, nil, 0
	if q.body == nil {
		return
	}
	out.Header.Set("Content-Type", "application/json")
	// GetBody lets the Transport try again on a kept connection that has died.
	out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(q.body)), nil }
	out.Body, _ = out.GetBody()
	out.ContentLength = int64(len(q.body))
}

// upstream is the Transport with what a hostile model server could do taken out.
type upstream struct{ http.RoundTripper }

func (u upstream) RoundTrip(r *http.Request) (*http.Response, error) {
	if trace := httptrace.ContextClientTrace(r.Context()); trace != nil {
		// ReverseProxy wants to see the answers of 1xx, which the client does not get.
		// The Transport would read any number of them for it.
		trace.Got1xxResponse = nil
	}
	resp, err := u.RoundTripper.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	switch code := resp.StatusCode; {
	case code < 200:
		err = errSwitched
	case code >= 300 && code < 400:
		err = fmt.Errorf("it answered with a redirect (%d), which is not followed", code)
	case resp.Header.Get("Content-Encoding") != "" && resp.Header.Get("Content-Encoding") != "identity":
		err = errCompressed
	}
	if err != nil {
		_ = resp.Body.Close()
		return nil, err
	}
	out := *resp // a copy: trailers that come later do not reach the client
	out.Trailer = nil
	out.Header = make(http.Header, len(responseHeaders))
	for _, name := range responseHeaders {
		if v := resp.Header[name]; len(v) > 0 {
			out.Header[name] = v[:1]
		}
	}
	if q := requestOf(r); q != nil {
		out.Body = &modelBody{resp.Body, q}
		reword(&out, q)
	}
	return &out, nil
}

// modelBody is the model server's response; it remembers how it ended.
type modelBody struct {
	io.ReadCloser
	q *request
}

func (b *modelBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		b.q.failure = err
	}
	return n, err
}

// failed answers for a model server that did not.
func (m *model) failed(w http.ResponseWriter, r *http.Request, err error) {
	q := requestOf(r)
	q.failure = err
	if r.Context().Err() != nil {
		return // the client is gone, or the server was silent for too long: finish tells
	}
	writeError(w, &apiRefusal{http.StatusBadGateway, "api_error", m.unreachable(err)})
}

func (m *model) unreachable(err error) string {
	return fmt.Sprintf("cannot get an answer from the model server at %s: %s. Is it running? `launcher status` shows it",
		m.where(), shown(err))
}

// forward sends a checked request on and records it when its answer has passed.
func (m *model) forward(w http.ResponseWriter, r *http.Request, q *request) {
	q.event.Verdict = policy.Allow.String()
	ctx, cancel := context.WithCancel(context.WithValue(r.Context(), requestKey{}, q))
	defer cancel()
	out := newStream(w, m, cancel)
	defer func() { m.finish(out, r, q, recover()) }()
	m.proxy.ServeHTTP(out, r.WithContext(ctx))
}

// finish records a forwarded request. Where the answer is not whole, or the
// record not kept, the connection is cut so that the answer does not look whole.
func (m *model) finish(out *stream, r *http.Request, q *request, panicked any) {
	gone := r.Context().Err() != nil
	if panicked != nil && !gone {
		out.interrupted(m.interruption(q.failure))
	}
	status, n, u, silent := out.end()
	e := q.event
	e.Status, e.BytesOut, e.TokensIn, e.TokensOut, e.Duration = status, n, u.in, u.out, seconds(q.start)
	e.FirstToken, e.TokensPerSecond = u.firstToken(q.start), u.perSecond()
	switch {
	case silent:
		e.Reason = fmt.Sprintf("the model server was silent for %v", m.maxSilence)
	case gone:
		e.Reason = "the client hung up"
	case q.failure != nil:
		e.Reason = "the model server's answer failed: " + q.failure.Error()
	case q.overflow != "":
		e.Reason = "the request does not fit the model's context: " + q.overflow
	}
	unanswered := status == 0
	if unanswered && silent && !gone {
		e.Status = http.StatusGatewayTimeout
	}
	kept := m.rec.record(e)
	if m.Trouble != nil && !gone && (silent || q.failure != nil || status >= http.StatusInternalServerError) {
		m.Trouble(orDefault(e.Reason, fmt.Sprintf("it answered %d", status)))
	}
	switch {
	case panicked != nil && panicked != http.ErrAbortHandler:
		panic(panicked)
	case panicked != nil || !kept || unanswered && e.Status == 0:
		panic(http.ErrAbortHandler)
	case unanswered:
		writeError(out.ResponseWriter, &apiRefusal{e.Status, "timeout_error", m.unreachable(errors.New(e.Reason))})
	}
}

func (m *model) interruption(err error) string {
	if err == nil {
		err = errors.New("it ended early")
	}
	return fmt.Sprintf("the answer of the model server at %s broke off: %s", m.where(), shown(err))
}

// shown is an error for the agent's eyes. It may hold what the server said, which
// must not move anything on the terminal.
func shown(err error) string { return bound(audit.Printable(err.Error()), maxReason) }
