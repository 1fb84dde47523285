package load

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// ScriptHeader is the header that tells the origin which stream to answer with. It
// is one that the model endpoint passes on, and it comes before the body: the origin
// need not read that to answer.
const ScriptHeader = "X-App"

// Script is one stream of the origin's: a message in as many deltas as it says.
type Script struct {
	Deltas int           `json:"deltas"`
	Every  time.Duration `json:"every"` // between two deltas; zero: at once
	First  int64         `json:"first"` // when the first delta is due, as Monotonic tells it; zero: Every after the request
	Fill   int           `json:"fill"`  // bytes in each delta beside its number and time
	Early  bool          `json:"early"` // it answers before it has read the request's body
	Hold   bool          `json:"hold"`  // after the deltas it is silent until the client goes
}

// Set writes s into a request's headers.
func (s Script) Set(h http.Header) error {
	text, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("write a stream's script: %w", err)
	}
	h.Set(ScriptHeader, string(text))
	return nil
}

// ReadScript is what Set wrote.
func ReadScript(h http.Header) (s Script, err error) {
	if err := strict([]byte(h.Get(ScriptHeader)), &s); err != nil {
		return Script{}, fmt.Errorf("read a stream's script: %w", err)
	}
	return s, nil
}
