package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/policy"
)

// Model is the model endpoint of one sandbox: it forwards the method and path
// pairs of Endpoints to the sandbox's own model, with bodies and headers that
// were checked and written anew, and streams the answers back.
type Model struct {
	Subject   audit.Subject           // whose requests they are; zero: recorded as unknown
	Record    func(audit.Event) error // keeps an event; on an error nothing is let through
	Log       *slog.Logger
	Endpoints []policy.Endpoint // what is forwarded; none: nothing is
	// Dial connects to the model server. Its error is shown to the agent: it is
	// the one place that the agent may know.
	Dial func(ctx context.Context) (net.Conn, error)
	// DialEach has each request dial, so that Dial may choose another server for
	// it. Without it connections are kept for further requests.
	DialEach bool
	// Trouble is told when the model server did not answer a request whole, or with
	// a 5xx, after the event; the client's hanging up is none. It must not block.
	// Nil: nobody is told.
	Trouble       func(why string)
	ModelName     string        // the only model: required, and what a body's "model" must be
	Aliases       []string      // other names for it, replaced by ModelName
	Where         func() string // the model server in error texts, e.g. "strix (unix:///run/m.sock)"; nil: not named
	UpstreamToken string        // sent as Authorization: Bearer; empty: none
	PingAfter     time.Duration // silence of an event stream before a ping; zero: 15 s
	MaxBody       int64         // bytes of a request's body; zero: 32 MiB
	MaxConns      int           // connections at once, more are reset; zero: 256

	maxSilence time.Duration // of the model server, before it is given up; zero: 30 min
}

// model is a Model at work.
type model struct {
	Model
	rec    *recorder
	up     http.RoundTripper
	memory *semaphore.Weighted // bytes of request bodies at once
	bulk   sync.Pool           // of *[bulkRead]byte
}

// concurrentBodies times MaxBody is the most that request bodies take at once.
const concurrentBodies = 4

// Serve accepts on l until ctx ends, then closes every connection and returns
// nil once all of them have ended. It closes l.
func (m *Model) Serve(ctx context.Context, l net.Listener) error {
	if err := m.check(); err != nil {
		return fmt.Errorf("start model endpoint: %w", err)
	}
	s := &model{Model: *m}
	s.PingAfter = orDefault(m.PingAfter, 15*time.Second)
	s.MaxBody = orDefault(m.MaxBody, 32<<20)
	s.maxSilence = orDefault(m.maxSilence, 30*time.Minute)
	s.memory = semaphore.NewWeighted(concurrentBodies * s.MaxBody)
	s.rec = &recorder{put: m.Record, subject: m.Subject, layer: audit.LayerModel, log: m.Log}
	up := newUpstream(s.Dial, s.DialEach)
	defer up.CloseIdleConnections()
	s.up = up
	return serveHTTP(ctx, newListener(l, s.rec, m.MaxConns), s, 5*time.Minute, m.Log)
}

func (m *Model) check() error {
	errs := []error{nilErr(m.Record == nil, errNoRecord), nilErr(m.Log == nil, errNoLog)}
	if m.Dial == nil {
		errs = append(errs, errors.New("no Dial"))
	}
	if m.ModelName == "" {
		errs = append(errs, errors.New("no ModelName"))
	}
	for _, e := range m.Endpoints {
		if _, known := bodies[e.Path]; !known && !bodyless(e.Method) {
			errs = append(errs, fmt.Errorf("%s %s cannot be forwarded: its body has no field table", e.Method, e.Path))
		}
	}
	_, err := compiled()
	return errors.Join(append(errs, err)...)
}

func (m *Model) where() string {
	if m.Where == nil {
		return "an unnamed place"
	}
	return m.Where()
}

func bodyless(method string) bool { return method == http.MethodGet || method == http.MethodHead }

// request is one request at the model endpoint.
type request struct {
	event    audit.Event
	who      func() *audit.Process // made it; waits until that is found
	start    time.Time
	endpoint policy.Endpoint
	body     []byte // checked; nil where the method has none, and once an answer has begun
	failure  error  // why the model server's answer is not whole
	overflow string // the model server's words, where the request did not fit its context
}

// ServeHTTP answers one request.
func (m *model) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	conn := connOf(r)
	q := &request{event: anonymous(conn, policy.Deny), who: asking(conn), start: time.Now()}
	q.event.Method, q.event.Path, q.event.Host = r.Method, r.URL.Path, r.Host
	q.event.Session = r.Header.Get("X-Claude-Code-Session-Id")
	if bodyLength(r) < 0 {
		w.Header().Set("Connection", "close")
	}
	head := conn.begin(bodyLength(r))
	if no := m.admit(head, r, q); no != nil {
		limitRest(w, r)
		m.refuse(w, q, no)
		return
	}
	if m.answerLocally(w, r, q) {
		return
	}
	size := bodyBudget(r, m.MaxBody)
	if err := m.memory.Acquire(r.Context(), size); err != nil {
		m.refuse(w, q, &apiRefusal{503, "overloaded_error", "the request ended while others were served"})
		return
	}
	defer m.memory.Release(size)
	if no := m.readBody(w, r, q); no != nil {
		m.refuse(w, q, no)
		return
	}
	m.forward(w, r, q)
}

// apiRefusal is a refusal in the Anthropic API's shape.
type apiRefusal struct {
	status int
	typ    string // error.type
	why    string
}

// refuse records and then answers.
func (m *model) refuse(w http.ResponseWriter, q *request, no *apiRefusal) {
	q.event.Verdict = policy.Deny.String()
	q.event.Status, q.event.Reason, q.event.Duration = no.status, no.why, seconds(q.start)
	if !m.record(q, q.event) {
		no = &apiRefusal{http.StatusServiceUnavailable, "api_error", auditFailed}
	}
	writeError(w, no)
}

// record writes e, q's event, and reports whether it is kept. Who asked was looked for
// while the request was served.
func (m *model) record(q *request, e audit.Event) bool {
	e.Process = q.who()
	return m.rec.record(e)
}
