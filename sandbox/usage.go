package sandbox

import (
	"fmt"
	"net/http"
	"sync"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/policy"
)

// Usage is what a sandbox had of its model since this gateway began to serve it.
// The record has each request; this is the sum.
type Usage struct {
	Requests        int64   `json:"requests"` // that were forwarded
	TokensIn        int64   `json:"tokens_in"`
	TokensOut       int64   `json:"tokens_out"`
	TokensPerSecond float64 `json:"tokens_per_second"` // of the last answer that tells; zero: none did
	FirstToken      float64 `json:"first_token"`       // seconds; of the last streamed answer; zero: none
}

// String is the usage in one line, for people.
func (u Usage) String() string {
	if u.Requests == 0 {
		return "no requests yet"
	}
	line := fmt.Sprintf("%d requests, %d tokens in, %d out", u.Requests, u.TokensIn, u.TokensOut)
	if u.TokensPerSecond > 0 {
		line += fmt.Sprintf("; last answer: %.1f tokens/s, first token after %.1f s", u.TokensPerSecond, u.FirstToken)
	}
	return line
}

// Meter adds up a sandbox's usage. Its zero value is ready; it is safe for
// concurrent use.
type Meter struct {
	mu    sync.Mutex
	usage Usage
}

// Add counts an event of the model endpoint. Others, what was refused, and what
// the gateway answered itself are left out.
func (m *Meter) Add(e audit.Event) {
	if e.Layer != audit.LayerModel || e.Method != http.MethodPost || e.Verdict != policy.Allow.String() {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	u := &m.usage
	u.Requests++
	u.TokensIn += e.TokensIn
	u.TokensOut += e.TokensOut
	if e.FirstToken > 0 {
		u.FirstToken = e.FirstToken
	}
	if e.TokensPerSecond > 0 {
		u.TokensPerSecond = e.TokensPerSecond
	}
}

// Usage is the sum so far.
func (m *Meter) Usage() Usage {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.usage
}
