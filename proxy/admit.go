package proxy

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/sallyport/sallyport/policy"
)

// bodyStall bounds the wait for the next bytes of a request's body.
const bodyStall = 30 * time.Second

// admit says why r is not even looked into, or nil.
func (m *model) admit(head []byte, r *http.Request, q *request) *apiRefusal {
	_, err := checkHead(head)
	switch {
	case head == nil:
		return invalid("the request's head could not be followed")
	case err != nil:
		return invalid("ambiguous HTTP request: " + err.Error())
	case r.Method == http.MethodConnect || r.URL.IsAbs() || r.URL.Host != "":
		return forbidden("this is the model endpoint, not a proxy")
	case wantsUpgrade(r.Header):
		return invalid("connection upgrades are refused")
	}
	if m.rec.broken() {
		return &apiRefusal{http.StatusServiceUnavailable, "api_error", auditFailed}
	}
	if local(r) {
		if bodyLength(r) != 0 {
			return invalid("a body where none belongs")
		}
		return nil
	}
	e, ok := policy.MatchEndpoint(m.Endpoints, r.Method, r.URL)
	if !ok {
		return forbidden(fmt.Sprintf("%s %s is refused: only what the agent needs of its model is forwarded", quoted(r.Method), quoted(r.URL.EscapedPath())))
	}
	q.endpoint = e
	if r.ContentLength > m.MaxBody {
		return m.tooLarge()
	}
	if bodyless(r.Method) && bodyLength(r) != 0 {
		return invalid("a body where none belongs")
	}
	return nil
}

// bodyBudget is how many bytes r's body may take up.
func bodyBudget(r *http.Request, most int64) int64 {
	if n := bodyLength(r); n >= 0 && n < most {
		return n
	}
	return most
}

// readBody reads and checks r's body whole: with a body still to read,
// net/http would close it under the Transport when the model server answers
// early, and lose the stream.
func (m *model) readBody(w http.ResponseWriter, r *http.Request, q *request) *apiRefusal {
	if bodyless(r.Method) {
		return nil
	}
	raw, err := m.readAll(w, r)
	q.event.BytesIn = int64(len(raw))
	if err != nil {
		limitRest(w, r) // or net/http would wait for it without an end
	}
	switch {
	case errors.Is(err, errTooLarge):
		return m.tooLarge()
	case err != nil:
		return invalid("the body did not arrive whole")
	}
	body, err := checkBody(raw, bodies[q.endpoint.Path])
	if err == nil {
		body, err = setModel(body, m.ModelName, m.Aliases)
	}
	if err != nil {
		return invalid(err.Error())
	}
	q.body = body
	return nil
}

var errTooLarge = errors.New("request body too large")

func (m *model) tooLarge() *apiRefusal {
	return &apiRefusal{http.StatusRequestEntityTooLarge, "request_too_large",
		fmt.Sprintf("the request body is longer than %d bytes", m.MaxBody)}
}

// readAll reads the body, at most MaxBody bytes, with a deadline that each piece
// puts off.
func (m *model) readAll(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	rc := http.NewResponseController(w)
	defer func() { _ = rc.SetReadDeadline(time.Time{}) }()
	buf := make([]byte, 0, min(max(r.ContentLength, 0), 1<<20)+512)
	for {
		if err := rc.SetReadDeadline(time.Now().Add(bodyStall)); err != nil {
			return buf, err
		}
		if len(buf) == cap(buf) {
			buf = slices.Grow(buf, len(buf))
		}
		n, err := r.Body.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case int64(len(buf)) > m.MaxBody:
			return buf, errTooLarge
		case err == io.EOF:
			return buf, nil
		case err != nil:
			return buf, err
		}
	}
}
