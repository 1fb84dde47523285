package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"
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
		ReadBufferSize:         2 << 10, // an event is shorter; more is read past it. An idle stream keeps it
		WriteBufferSize:        oneWrite,
		Protocols:              &protocols,
	}
}

// rewrite builds the request to the model server from what was checked alone.
func (m *model) rewrite(ctx context.Context, in *http.Request, q *request) *http.Request {
	to := &url.URL{Scheme: "http", Host: "localhost", Path: q.endpoint.Path}
	if in.URL.Query().Get("beta") == "true" {
		to.RawQuery = "beta=true"
	}
	out := &http.Request{Method: q.endpoint.Method, URL: to, Host: "localhost", Header: make(http.Header, len(requestHeaders)+2),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Body: http.NoBody}
	for _, name := range requestHeaders {
		if v := in.Header[name]; len(v) > 0 {
			out.Header[name] = v[:1]
		}
	}
	if out.Header["User-Agent"] == nil {
		out.Header["User-Agent"] = nil // or net/http adds its own
	}
	if m.UpstreamToken != "" {
		out.Header.Set("Authorization", "Bearer "+m.UpstreamToken)
	}
	if q.body != nil {
		out.Header.Set("Content-Type", "application/json")
		// GetBody lets the Transport try again on a kept connection that has died.
		out.GetBody = func() (io.ReadCloser, error) { return bodyOf(q.body), nil }
		out.Body = bodyOf(q.body)
		out.ContentLength = int64(len(q.body))
	}
	return out.WithContext(ctx)
}

// oneWrite is what is sent to the model server in one write at most, in bytes: a
// head, and a short request whole.
const oneWrite = 1 << 10

// bodyOf is a request's body for the Transport, which sends the head ahead of any body
// that it does not know to be in memory: over SSH one packet more, and one more to wake
// up for.
func bodyOf(b []byte) io.ReadCloser {
	if len(b) <= oneWrite {
		return io.NopCloser(bytes.NewReader(b))
	}
	return newSentBody(b)
}

// sentBody is a long body on its way to the model server. Once closed it holds it no
// more: an answer may take much longer than its request.
type sentBody struct {
	mu   sync.Mutex // the Transport may close it while it reads
	left bytes.Reader
}

func newSentBody(b []byte) *sentBody {
	s := &sentBody{}
	s.left.Reset(b)
	return s
}

// Read reads what is left; nothing once it is closed.
func (s *sentBody) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.left.Read(p)
}

// Close lets the body go.
func (s *sentBody) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left.Reset(nil)
	return nil
}

// ask sends a checked request and returns the model server's answer, with what a
// hostile one could do taken out. No answer of 1xx is among them: the Transport
// passes over them.
func (m *model) ask(ctx context.Context, r *http.Request, q *request) (*http.Response, error) {
	resp, err := m.up.RoundTrip(m.rewrite(ctx, r, q))
	if err != nil {
		return nil, err
	}
	q.body = nil
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
	out := &http.Response{StatusCode: resp.StatusCode, ContentLength: resp.ContentLength, Body: &modelBody{resp.Body, q}}
	out.Header = make(http.Header, len(responseHeaders))
	for _, name := range responseHeaders {
		if v := resp.Header[name]; len(v) > 0 {
			out.Header[name] = v[:1]
		}
	}
	reword(out, q)
	return out, nil
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
