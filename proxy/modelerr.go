package proxy

import (
	"encoding/json"
	"net/http"
	"strconv"
)

// errorBody is an error as the Anthropic API shapes it.
func errorBody(typ, message string) []byte {
	type inner struct {
		Type    string `json:"type"`
		Message string `json:"message"`
	}
	b, _ := json.Marshal(struct { // strings always marshal
		Type  string `json:"type"`
		Error inner  `json:"error"`
	}{"error", inner{typ, "sallyport: " + message}})
	return b
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
