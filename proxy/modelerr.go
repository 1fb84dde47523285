package proxy

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
)

// errorBody is an error of ours.
func errorBody(typ, message string) []byte { return apiError(typ, "sallyport: "+message) }

// apiError is an error as the Anthropic API shapes it.
func apiError(typ, message string) []byte {
	type inner struct {
		Type    string `json:"type"`
		Message string `json:"message"`
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // "tokens > maximum" stays readable
	_ = e.Encode(struct {  // strings always encode
		Type  string `json:"type"`
		Error inner  `json:"error"`
	}{"error", inner{typ, message}})
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// writeError answers with no. It leaves the connection to net/http, which closes
// it where too much of a body is unread.
func writeError(w http.ResponseWriter, no *apiRefusal) {
	b := errorBody(no.typ, no.why)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	w.WriteHeader(no.status)
	_, _ = w.Write(b) // a client that is gone has its event
}

func forbidden(why string) *apiRefusal {
	return &apiRefusal{http.StatusForbidden, "permission_error", why}
}

func invalid(why string) *apiRefusal {
	return &apiRefusal{http.StatusBadRequest, "invalid_request_error", why}
}
