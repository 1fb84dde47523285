package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/elazarl/goproxy"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/policy"
)

// Forward is the forward proxy of one sandbox: CONNECT and plain HTTP in
// absolute form, to hosts and ports that the policy allows. What is allowed
// passes goproxy; what is refused is answered before goproxy sees it.
type Forward struct {
	Subject audit.Subject         // whose attempts they are; zero: recorded as unknown
	Policy  func() *policy.Policy // the policy in force; nil as its result denies all
	// Dial resolves host, checks what it resolved to and connects. The text of
	// its error goes into the record, never to the container.
	Dial        func(ctx context.Context, host string, port uint16) (net.Conn, error)
	Record      func(audit.Event) error // keeps an event; on an error nothing is let through
	IdleTimeout time.Duration           // without a byte in either direction; zero: 5 min
	DialTimeout time.Duration           // for Dial; zero: 20 s
	MaxConns    int                     // connections at once, more are reset; zero: 256
	Log         *slog.Logger

	headWait time.Duration // for a request's head; zero: 10 s
	slow     bool          // net/http reads all requests, and io.Copy copies
}

// forward is a Forward at work.
type forward struct {
	Forward
	rec     *recorder
	lis     *listener
	engine  *goproxy.ProxyHttpServer
	buffers sync.Pool // of tunnels: *[pumpBuffer]byte
}

// Serve accepts on l until ctx ends, then closes every connection and returns
// nil once all of them have ended. It closes l.
func (f *Forward) Serve(ctx context.Context, l net.Listener) error {
	if err := f.check(); err != nil {
		return fmt.Errorf("start forward proxy: %w", err)
	}
	s := &forward{Forward: *f}
	s.buffers.New = func() any { return new([pumpBuffer]byte) }
	s.IdleTimeout = orDefault(f.IdleTimeout, 5*time.Minute)
	s.DialTimeout = orDefault(f.DialTimeout, 20*time.Second)
	s.rec = &recorder{put: f.Record, subject: f.Subject, layer: audit.LayerProxy, log: f.Log}
	s.lis = newListener(l, s.rec, f.MaxConns)
	s.lis.headWait = f.headWait
	if !f.slow {
		s.lis.quick = s
	}
	s.engine = newEngine(f.Log)
	return serveHTTP(ctx, s.lis, s, s.IdleTimeout, f.Log)
}

func (f *Forward) check() error {
	var errs []error
	if f.Policy == nil {
		errs = append(errs, errors.New("no Policy"))
	}
	if f.Dial == nil {
		errs = append(errs, errors.New("no Dial"))
	}
	if f.Record == nil {
		errs = append(errs, errNoRecord)
	}
	if f.Log == nil {
		errs = append(errs, errNoLog)
	}
	return errors.Join(errs...)
}

// refusal is why a request is not let through, and how the answer says so.
type refusal struct {
	status int
	reason string // for the record
	hint   string // one line for the client; empty: reason
	last   bool   // nothing that comes after it on the connection is read
}

// ServeHTTP decides about one request.
func (s *forward) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	conn := connOf(r)
	g, no := s.decide(conn, r)
	if no != nil {
		s.refuse(w, r, g, no)
		return
	}
	r = r.WithContext(context.WithValue(r.Context(), grantKey{}, g))
	if r.Method == http.MethodConnect {
		s.tunnel(w, r, g)
		return
	}
	s.exchange(w, r, g)
}

// decide fills in what r asks for and returns why it may not have it, or nil.
func (s *forward) decide(conn *clientConn, r *http.Request) (*grant, *refusal) {
	g := &grant{s: s, conn: conn, event: event(conn, policy.Deny)}
	g.event.Method = r.Method
	head := conn.begin(bodyLength(r))
	host, err := checkHead(head)
	switch {
	case head == nil:
		return g, &refusal{status: 400, reason: "the request's head could not be followed"}
	case err != nil: // what follows it may be another request, or part of this one (RFC 9112, 11.2)
		g.event.Host, g.event.Path = r.Host, r.URL.Path
		return g, &refusal{status: 400, reason: "ambiguous HTTP request: " + err.Error(), last: true}
	}
	if no := g.aim(r, host); no != nil {
		return g, no
	}
	d := s.policyNow().Decide(g.host, g.port)
	g.event.Rule = d.Rule
	if d.Verdict != policy.Allow {
		return g, &refusal{status: 403, reason: d.Reason, hint: allowHint(g.host, g.port, d.Explain(g.host, g.port))}
	}
	if s.rec.broken() {
		return g, &refusal{status: 503, reason: auditFailed}
	}
	g.event.Verdict, g.event.Reason = policy.Allow.String(), d.Reason
	return g, nil
}

func (s *forward) policyNow() *policy.Policy {
	if p := s.Policy(); p != nil {
		return p
	}
	return &policy.Policy{}
}

// refuse records and then answers.
func (s *forward) refuse(w http.ResponseWriter, r *http.Request, g *grant, no *refusal) {
	g.event.Verdict = policy.Deny.String()
	g.event.Status, g.event.Reason = no.status, no.reason
	line := orDefault(no.hint, "sallyport: "+no.reason)
	if !s.rec.record(g.event) {
		line = "sallyport: " + auditFailed
	}
	limitRest(w, r)
	if no.last {
		w.Header().Set("Connection", "close")
	}
	w.Header().Set("X-Sallyport-Reason", headerSafe(no.reason))
	http.Error(w, line, no.status)
}

// allowHint follows what was refused by what the user would have to write.
func allowHint(host string, port uint16, refused string) string {
	b := make([]byte, 0, 512) // more than a name's refusal needs
	b = append(append(b, "sallyport: "...), refused...)
	b = append(b, ". To allow it, add to policy.allow in your config: {host: "...)
	b = strconv.AppendQuote(b, host)
	b = append(b, ", ports: ["...)
	b = strconv.AppendUint(b, uint64(port), 10)
	return string(append(b, "]}"...))
}

// headerSafe keeps printable ASCII, for a header's value.
func headerSafe(s string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' {
			return '?'
		}
		return c
	}, bound(s, maxReason))
}

// bodyLength returns a request's body length; -1 where the sender did not say.
func bodyLength(r *http.Request) int64 {
	if len(r.TransferEncoding) > 0 {
		return -1
	}
	return r.ContentLength
}
