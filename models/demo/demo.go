// Package demo is a stand-in for a model server: a script, not a language model,
// and it says so in everything it answers. It speaks vLLM's Anthropic surface
// (/health, /v1/models, /v1/messages, /v1/messages/count_tokens) on any listener
// and keeps no state: what to do next it reads from the tool results in the
// request. It opens no connection; what it makes an agent try is run by the
// agent.
package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// Banner is what every answer begins with or names.
const Banner = "This is Sallyport's demo model: a scripted stand-in, not a language model."

const (
	maxBody       = 32 << 20
	readTimeout   = time.Minute
	shutdownGrace = 2 * time.Second
)

// Server is one stand-in model.
type Server struct {
	Model      string               // the name it answers to; empty: "demo"
	MaxContext int                  // tokens, as /v1/models tells; zero: 131072
	Script     Script               // what it makes the agent do
	Delay      time.Duration        // before each event of a stream; zero: none
	Prefill    time.Duration        // of silence after a stream's header; zero: none
	NoSystem   bool                 // refuse the role "system" in messages, as vLLM before 0.23.0
	Fault      func(n uint64) Fault // what goes wrong with the nth request for a message, from 1; nil: nothing
	Log        *slog.Logger         // required

	messages atomic.Uint64 // requests for a message
	counts   atomic.Uint64 // requests to count tokens
	refused  atomic.Uint64 // answers with a status of 400 and above
	running  atomic.Int64  // streams being written
	finished atomic.Uint64 // answers written to their end
	aborted  atomic.Uint64 // streams whose client went away, or that a Fault broke off
}

// Counts are a server's numbers so far.
type Counts struct {
	Running           int64  // streams being written
	Finished, Aborted uint64 // answers written to their end, and those that were not
}

// Counts returns the numbers so far.
func (s *Server) Counts() Counts {
	return Counts{Running: s.running.Load(), Finished: s.finished.Load(), Aborted: s.aborted.Load()}
}

// Handler returns the surface that Serve serves, for a server that has more.
func (s *Server) Handler() (http.Handler, error) {
	if s.Log == nil {
		return nil, errors.New("demo: Server.Log is nil")
	}
	return s.routes(), s.Script.check()
}

// Fault is one answer that goes wrong, for the tests of what stands in front of
// the server. The zero Fault does nothing.
type Fault struct {
	Status   int    // answer with this status and vLLM's error body
	Message  string // its text
	CutAfter int    // close the connection after so many events of a stream
	Stall    bool   // with CutAfter: say nothing more instead, until the client goes
}

// Serve answers on l until ctx ends, and returns when every request has ended.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	if s.Log == nil {
		return errors.Join(errors.New("demo: Server.Log is nil"), l.Close())
	}
	if err := s.Script.check(); err != nil {
		return errors.Join(err, l.Close())
	}
	srv := &http.Server{
		Handler:           s.routes(),
		ReadHeaderTimeout: readTimeout,
		IdleTimeout:       readTimeout,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ErrorLog:          slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug),
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	s.Log.Info("serving", "model", s.model(), "address", l.Addr().String(), "note", Banner)
	select {
	case err := <-done:
		return fmt.Errorf("demo: serve %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
	defer cancel()
	err := srv.Shutdown(grace)
	if err != nil { // a client that does not read
		err = srv.Close()
	}
	if served := <-done; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

func (s *Server) model() string {
	if s.Model == "" {
		return "demo"
	}
	return s.Model
}

func (s *Server) context() int {
	if s.MaxContext == 0 {
		return 131072
	}
	return s.MaxContext
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	mux.HandleFunc("GET /v1/models", s.listModels)
	mux.HandleFunc("POST /v1/messages", s.message)
	mux.HandleFunc("POST /v1/messages/count_tokens", s.countTokens)
	mux.HandleFunc("GET /metrics", s.metrics)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { // FastAPI's own shape
		s.refused.Add(1)
		writeJSON(w, http.StatusNotFound, map[string]string{"detail": "Not Found"})
	})
	return mux
}

func (s *Server) listModels(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]any{"object": "list", "data": []any{map[string]any{
		"id": s.model(), "object": "model", "created": 0, "owned_by": "sallyport-demo-stand-in",
		"root": s.model(), "parent": nil, "max_model_len": s.context(), "permission": []any{},
	}}})
}

func (s *Server) metrics(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
	fmt.Fprintf(w, "# HELP sallyport_demo_requests_total Requests to the stand-in model.\n# TYPE sallyport_demo_requests_total counter\n")
	fmt.Fprintf(w, "sallyport_demo_requests_total{endpoint=\"messages\"} %d\n", s.messages.Load())
	fmt.Fprintf(w, "sallyport_demo_requests_total{endpoint=\"count_tokens\"} %d\n", s.counts.Load())
	fmt.Fprintf(w, "# TYPE sallyport_demo_refused_total counter\nsallyport_demo_refused_total %d\n", s.refused.Load())
	fmt.Fprintf(w, "# TYPE sallyport_demo_requests_running gauge\nsallyport_demo_requests_running %d\n", s.running.Load())
}

func (s *Server) countTokens(w http.ResponseWriter, r *http.Request) {
	s.counts.Add(1)
	req, ok := s.read(w, r)
	if ok {
		writeJSON(w, http.StatusOK, map[string]int{"input_tokens": req.tokens})
	}
}

func (s *Server) message(w http.ResponseWriter, r *http.Request) {
	n := s.messages.Add(1)
	var fault Fault
	if s.Fault != nil {
		fault = s.Fault(n)
	}
	if fault.Status != 0 {
		s.refuse(w, fault.Status, "InternalServerError", fault.Message)
		return
	}
	req, ok := s.read(w, r)
	if !ok {
		return
	}
	if req.MaxTokens <= 0 {
		s.refuse(w, http.StatusBadRequest, "invalid_request_error", "max_tokens must be positive")
		return
	}
	if req.tokens+req.MaxTokens > s.context() {
		s.refuse(w, http.StatusBadRequest, "BadRequestError", fmt.Sprintf("This model's maximum context length is %d tokens. However, you requested %d tokens (%d in the messages, %d in the completion). Please reduce the length of the messages or completion.",
			s.context(), req.tokens+req.MaxTokens, req.tokens, req.MaxTokens))
		return
	}
	a := answer{id: fmt.Sprintf("chatcmpl-demo-%d", n), model: s.model(), tokensIn: req.tokens, turn: s.Script.next(req)}
	if !req.Stream {
		writeJSON(w, http.StatusOK, a.whole())
		s.finished.Add(1)
		return
	}
	s.running.Add(1)
	whole := false
	defer func() {
		s.running.Add(-1)
		if whole {
			s.finished.Add(1)
		} else {
			s.aborted.Add(1)
		}
	}()
	whole = s.stream(w, r, a, fault)
}

// read takes the request apart, or answers with the error that vLLM would give.
func (s *Server) read(w http.ResponseWriter, r *http.Request) (*request, bool) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		s.refuse(w, http.StatusRequestEntityTooLarge, "invalid_request_error", "request body could not be read")
		return nil, false
	}
	req := &request{tokens: len(body)/4 + 1}
	if err := json.Unmarshal(body, req); err != nil || len(req.Messages) == 0 {
		s.refuse(w, http.StatusBadRequest, "invalid_request_error", "body is not a Messages request")
		return nil, false
	}
	for _, m := range req.Messages {
		if s.NoSystem && m.Role == "system" { // vllm#44000
			s.refuse(w, http.StatusBadRequest, "Bad Request", "1 validation error:\n  {'type': 'literal_error', 'loc': ('body', 'messages', 1, 'role'), 'msg': \"Input should be 'user' or 'assistant'\", 'input': 'system', 'ctx': {'expected': \"'user' or 'assistant'\"}}")
			return nil, false
		}
		if m.Role != "user" && m.Role != "assistant" && m.Role != "system" {
			s.refuse(w, http.StatusBadRequest, "invalid_request_error", "Input should be 'user', 'assistant' or 'system'")
			return nil, false
		}
	}
	if req.Model != s.model() {
		s.refuse(w, http.StatusNotFound, "NotFoundError", fmt.Sprintf("The model `%.100s` does not exist.", req.Model))
		return nil, false
	}
	return req, true
}

func (s *Server) refuse(w http.ResponseWriter, status int, kind, message string) {
	s.refused.Add(1)
	writeJSON(w, status, map[string]any{"type": "error", "error": map[string]string{"type": kind, "message": message}})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(data) // a client that went away needs no answer
}
