package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/elazarl/goproxy"
)

type exchangeKey struct{}

// exchange is one plain HTTP request that was granted. It is goproxy's
// RoundTripper for it: the connection it dials serves this request alone, since
// a pooled one would know a host and port but not a decision.
type exchange struct {
	g     *grant
	start time.Time
	in    atomic.Int64 // body bytes from the container
	last  atomic.Int64 // when a byte passed last, as a time since start
	timer *time.Timer
	mu    sync.Mutex
	conn  net.Conn // to the origin
	told  bool     // the event is recorded
	cut   error    // why the response's body is not whole
}

// exchange hands a granted request to goproxy.
func (s *forward) exchange(w http.ResponseWriter, r *http.Request, g *grant) {
	x := &exchange{g: g, start: time.Now()}
	if r.ContentLength != 0 {
		// Or an origin that answers early would end the client's body (net/http).
		_ = http.NewResponseController(w).EnableFullDuplex()
	}
	x.timer = time.AfterFunc(s.IdleTimeout, x.tick)
	defer x.timer.Stop()
	dropHop(r.Header) // before goproxy, which deletes Connection and keeps what it names
	r.Body = &countedBody{r.Body, x}
	out := &flushing{ResponseWriter: w, x: x}
	if r.TransferEncoding != nil || r.ContentLength < 0 {
		w.Header().Set("Connection", "close")
		out.last = true
	}
	s.engine.ServeHTTP(out, r.WithContext(context.WithValue(r.Context(), exchangeKey{}, x)))
	x.finish(out)
}

// finish records the exchange. A response that is not whole must not look whole:
// goproxy ends it as if it were.
func (x *exchange) finish(out *flushing) {
	x.mu.Lock()
	told, cut := x.told, x.cut
	if x.conn != nil {
		_ = x.conn.Close()
	}
	x.mu.Unlock()
	if told {
		return
	}
	e := x.g.event
	e.Status, e.BytesIn, e.BytesOut, e.Duration = out.status, x.in.Load(), out.n, seconds(x.start)
	if cut != nil {
		e.Reason = "the response was cut short: " + cut.Error()
	}
	if !x.g.s.rec.record(e) || cut != nil {
		panic(http.ErrAbortHandler)
	}
}

// RoundTrip sends req to the granted host.
func (x *exchange) RoundTrip(req *http.Request, _ *goproxy.ProxyCtx) (*http.Response, error) {
	req.Trailer = nil
	if _, ok := req.Header["User-Agent"]; !ok {
		req.Header["User-Agent"] = nil // or net/http adds its own
	}
	tr := &http.Transport{
		DisableKeepAlives: true, DisableCompression: true,
		MaxResponseHeaderBytes: maxHead,
		DialContext:            x.dial,
		DialTLSContext:         closedTransport().DialTLSContext,
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return x.failed(req, err), nil
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		_ = resp.Body.Close()
		return x.failed(req, errors.New("the origin switched protocols unasked")), nil
	}
	dropHop(resp.Header)
	out := *resp // a copy: trailers that come later do not reach goproxy
	out.Trailer = nil
	out.Body = &originBody{resp.Body, x}
	return &out, nil
}

// failed records and answers an exchange that got no response.
func (x *exchange) failed(req *http.Request, err error) *http.Response {
	no := x.g.unreachable(err)
	x.mu.Lock()
	x.told = true
	x.mu.Unlock()
	if !x.g.deny(no, x.start) {
		no = &refusal{status: http.StatusServiceUnavailable, reason: auditFailed}
	}
	return answer(req, no)
}

func (x *exchange) dial(context.Context, string, string) (net.Conn, error) {
	conn, err := x.g.dial()
	if err != nil {
		return nil, err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.conn = conn
	x.touch()
	return conn, nil
}

func (x *exchange) touch() { x.last.Store(int64(time.Since(x.start))) }

// tick ends an exchange in which nothing passed for IdleTimeout: both
// connections, since either peer may be the one that does not read.
func (x *exchange) tick() {
	idle := x.g.s.IdleTimeout
	left := idle - (time.Since(x.start) - time.Duration(x.last.Load()))
	if left > 0 {
		x.timer.Reset(left)
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.cut = fmt.Errorf("idle for %v", idle)
	if x.conn != nil {
		_ = x.conn.Close()
	}
	reset(x.g.conn)
}

// countedBody is the container's request body.
type countedBody struct {
	io.ReadCloser
	x *exchange
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.x.in.Add(int64(n))
	b.x.touch()
	return n, err
}

// originBody is the origin's response body; it remembers how it ended.
type originBody struct {
	io.ReadCloser
	x *exchange
}

func (b *originBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.x.touch()
	if err != nil && err != io.EOF {
		b.x.mu.Lock()
		if b.x.cut == nil {
			b.x.cut = err
		}
		b.x.mu.Unlock()
	}
	return n, err
}

// flushing sends every piece on as it comes: goproxy flushes nothing but
// text/event-stream.
type flushing struct {
	http.ResponseWriter
	x      *exchange
	status int
	n      int64
	last   bool // the connection ends with this response
}

func (w *flushing) WriteHeader(code int) {
	w.status = code
	if w.last {
		w.Header().Set("Connection", "close") // goproxy replaced all headers
	}
	w.ResponseWriter.WriteHeader(code)
}

func (w *flushing) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.n += int64(n)
	if err != nil {
		return n, err
	}
	w.x.touch()
	return n, http.NewResponseController(w.ResponseWriter).Flush()
}
