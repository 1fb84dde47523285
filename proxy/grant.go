package proxy

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/policy"
)

type grantKey struct{}

// grant is what one request asked for and, once decided, was allowed. goproxy's
// handlers let nothing through without one in the request's context.
type grant struct {
	s     *forward
	conn  *clientConn
	host  string
	port  uint16
	event audit.Event
}

func grantOf(r *http.Request) *grant {
	g, _ := r.Context().Value(grantKey{}).(*grant)
	return g
}

// aim reads the target out of r, or says why it is none. hostHeader is the Host
// header as it was sent: net/http shows the URL's host in its place.
func (g *grant) aim(r *http.Request, hostHeader string) *refusal {
	var err error
	switch {
	case r.Method == http.MethodConnect:
		g.event.Host = r.RequestURI
		g.host, g.port, err = parseTarget(r.RequestURI)
	case !r.URL.IsAbs() || r.URL.Host == "":
		g.event.Host, g.event.Path = hostHeader, r.URL.Path
		return &refusal{status: 400, reason: "not a proxy request",
			hint: "sallyport: this is a forward proxy. Point HTTP_PROXY and HTTPS_PROXY here instead of asking it for " + quoted(r.RequestURI)}
	default:
		g.event.Host, g.event.Path = r.URL.Host, r.URL.Path
		g.host, g.port, err = urlTarget(r.URL)
	}
	if err != nil {
		no := &refusal{status: 403, reason: fmt.Sprintf("%s is %v", quoted(g.event.Host), err)}
		if host, port, ok := splitClaim(g.event.Host); ok {
			g.event.Host, g.event.Port = host, port
		}
		return no
	}
	g.event.Host, g.event.Port = g.host, g.port
	if r.Method == http.MethodConnect {
		if bodyLength(r) != 0 {
			return &refusal{status: 400, reason: "a CONNECT request with a body"}
		}
		return nil
	}
	return g.plainHTTP(r, hostHeader)
}

// plainHTTP refuses what an absolute-form request must not ask.
func (g *grant) plainHTTP(r *http.Request, hostHeader string) *refusal {
	if r.URL.Scheme != "http" {
		return &refusal{status: 400, reason: fmt.Sprintf("scheme %s in a request line; TLS goes through CONNECT", quoted(r.URL.Scheme))}
	}
	if wantsUpgrade(r.Header) {
		return &refusal{status: 403, reason: "an upgrade over plain HTTP; use CONNECT"}
	}
	if hostHeader == "" {
		return nil // HTTP/1.0; the origin gets the URL's host
	}
	host, port, err := parseTarget(withPort(hostHeader, ":80"))
	if err != nil || host != g.host || port != g.port {
		return &refusal{status: 403, reason: fmt.Sprintf("the Host header %s differs from the request line's host", quoted(hostHeader))}
	}
	return nil
}

// dial connects to what was granted and to nothing else. It does not end with
// the client's half-close, only with Serve or DialTimeout.
func (g *grant) dial() (net.Conn, error) {
	ctx, cancel := context.WithTimeout(g.s.lis.ctx, g.s.DialTimeout)
	defer cancel()
	return g.s.Dial(ctx, g.host, g.port)
}

// unreachable is the refusal that a failed dial becomes: the container learns
// that it failed and not why, or the error would map the network behind us.
func (g *grant) unreachable(err error) *refusal {
	return &refusal{status: 502, reason: "not connected: " + err.Error(),
		hint: fmt.Sprintf("sallyport: %s:%d is allowed but could not be reached; `gateway audit` says why", g.host, g.port)}
}

// deny turns g's event into a refusal's and records it.
func (g *grant) deny(no *refusal, start time.Time) bool {
	g.event.Verdict = policy.Deny.String()
	g.event.Status, g.event.Reason = no.status, no.reason
	g.event.Duration = seconds(start)
	return g.s.rec.record(g.event)
}

// quoted makes a container's string fit to be shown: quoted and short.
func quoted(s string) string {
	const most = 100
	if len(s) > most {
		return fmt.Sprintf("%q…", bound(s, most))
	}
	return fmt.Sprintf("%q", s)
}

// answer is a response of our own, for goproxy to send.
func answer(r *http.Request, no *refusal) *http.Response {
	body := orDefault(no.hint, "sallyport: "+no.reason) + "\n"
	return &http.Response{
		StatusCode: no.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header:        http.Header{"Content-Type": {"text/plain; charset=utf-8"}},
		Body:          nopCloser{strings.NewReader(body)},
		ContentLength: int64(len(body)),
	}
}

type nopCloser struct{ *strings.Reader }

func (nopCloser) Close() error { return nil }
