package proxy

import (
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/sallyport/sallyport/policy"
)

// local says whether the gateway answers r itself: warm-up and health probes,
// and the list of models, which is this sandbox's one.
func local(r *http.Request) bool {
	if r.URL.Path != r.URL.EscapedPath() {
		return false
	}
	switch r.URL.Path {
	case "/", "/health":
		return bodyless(r.Method)
	case "/api/hello":
		return r.Method == http.MethodHead
	case "/v1/models":
		return r.Method == http.MethodGet
	}
	return false
}

// answerLocally answers and records r if it is local.
func (m *model) answerLocally(w http.ResponseWriter, r *http.Request, q *request) bool {
	if !local(r) {
		return false
	}
	var body []byte
	kind := "text/plain; charset=utf-8"
	switch r.URL.Path {
	case "/":
		body = []byte("sallyport's model endpoint for " + m.ModelName + "\n")
	case "/v1/models":
		kind, body = "application/json", m.list()
	}
	q.event.Verdict, q.event.Status = policy.Allow.String(), http.StatusOK
	q.event.Reason = "answered by the gateway"
	if r.Method != http.MethodHead {
		q.event.BytesOut = int64(len(body))
	}
	q.event.Duration = seconds(q.start)
	if !m.record(q, q.event) {
		writeError(w, &apiRefusal{http.StatusServiceUnavailable, "api_error", auditFailed})
		return true
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body) // a client that is gone has its event
	return true
}

// list is the answer to GET /v1/models, as both Anthropic's and OpenAI's clients
// read it.
func (m *model) list() []byte {
	entry := map[string]any{
		"id": m.ModelName, "type": "model", "display_name": m.ModelName, "created_at": "1970-01-01T00:00:00Z",
		"object": "model", "created": 0, "owned_by": "sallyport",
	}
	b, _ := json.Marshal(map[string]any{ // strings and numbers always marshal
		"object": "list", "data": []any{entry}, "has_more": false, "first_id": m.ModelName, "last_id": m.ModelName,
	})
	return b
}
