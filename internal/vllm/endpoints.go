package vllm

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
)

// maxBody bounds what is read of a request.
const maxBody = 32 << 20

// dangerous are vLLM's endpoints that nobody outside may reach: docs/usage/
// security.md @ 00b005c. The stand-in does nothing there but count.
var dangerous = map[string][]string{
	"/invocations": {"POST"}, "/generative_scoring": {"POST"}, "/pooling": {"POST"}, "/classify": {"POST"}, "/score": {"POST"}, "/rerank": {"POST"},
	"/v1/score": {"POST"}, "/v1/rerank": {"POST"}, "/v2/rerank": {"POST"}, "/v1/embeddings": {"POST"},
	"/pause": {"POST"}, "/resume": {"POST"}, "/is_paused": {"GET"}, "/scale_elastic_ep": {"POST"}, "/is_scaling_elastic_ep": {"POST"},
	"/init_weight_transfer_engine": {"POST"}, "/update_weights": {"POST"}, "/get_world_size": {"GET"}, "/abort_requests": {"POST"},
	"/inference/v1/generate": {"POST"}, "/tokenizer_info": {"GET"}, "/start_profile": {"POST"}, "/stop_profile": {"POST"},
	"/server_info": {"GET"}, "/reset_prefix_cache": {"POST"}, "/reset_mm_cache": {"POST"}, "/reset_encoder_cache": {"POST"},
	"/sleep": {"POST"}, "/wake_up": {"POST"}, "/is_sleeping": {"GET"}, "/collective_rpc": {"POST"},
	"/v1/load_lora_adapter": {"POST"}, "/v1/unload_lora_adapter": {"POST"},
	"/v1/chat/completions/render": {"POST"}, "/v1/completions/render": {"POST"},
	"/docs": {"GET"}, "/redoc": {"GET"}, "/openapi.json": {"GET"},
}

// Dangerous returns the paths that only count, sorted.
func Dangerous() []string {
	var paths []string
	for path := range dangerous {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	return paths
}

// route is what answers a path.
type route struct {
	methods []string
	serve   http.HandlerFunc
}

func (p *process) routes(demo http.Handler) map[string]route {
	get, post := []string{"GET"}, []string{"POST"}
	ok := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }
	routes := map[string]route{
		"/health": {get, ok},
		"/ping":   {[]string{"GET", "POST"}, ok},
		"/version": {get, func(w http.ResponseWriter, _ *http.Request) {
			answer(w, 200, map[string]any{"version": p.settings.version})
		}},
		"/load": {get, func(w http.ResponseWriter, _ *http.Request) {
			answer(w, 200, map[string]any{"server_load": p.demo.Counts().Running})
		}},
		"/metrics":                  {get, p.metrics},
		"/v1/models":                {get, p.models},
		"/tokenize":                 {post, p.tokenize},
		"/detokenize":               {post, func(w http.ResponseWriter, _ *http.Request) { answer(w, 200, map[string]any{"prompt": ""}) }},
		"/v1/messages":              {post, p.message(demo)},
		"/v1/messages/count_tokens": {post, demo.ServeHTTP},
		"/v1/chat/completions":      {post, p.chat},
	}
	for path, methods := range dangerous {
		routes[path] = route{methods, func(w http.ResponseWriter, _ *http.Request) { answer(w, 200, map[string]any{"stand-in": "counted"}) }}
	}
	return routes
}

// handler routes as FastAPI does: exact paths, a redirect for a slash too many,
// JSON for what is not there.
func (p *process) handler(routes map[string]route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.Path
		if _, bad := dangerous[path]; bad {
			p.hit(r.Method, path)
		}
		at, ok := routes[path]
		switch {
		case ok && slices.Contains(at.methods, r.Method):
			at.serve(w, r)
		case ok:
			w.Header().Set("Allow", strings.Join(at.methods, ", "))
			answer(w, http.StatusMethodNotAllowed, map[string]any{"detail": "Method Not Allowed"})
		default:
			if _, other := routes[strings.TrimSuffix(path, "/")]; other && path != "/" {
				w.Header().Set("Location", strings.TrimSuffix(path, "/"))
				w.WriteHeader(http.StatusTemporaryRedirect)
				return
			}
			answer(w, http.StatusNotFound, map[string]any{"detail": "Not Found"})
		}
	})
}

// hit counts a request that should not have come, and tells.
func (p *process) hit(method, path string) {
	p.mu.Lock()
	p.hits[method+" "+path]++
	p.mu.Unlock()
	p.journal.said("dangerous endpoint reached: %q", method+" "+path)
}

// message answers a Messages request, or dies of it.
func (p *process) message(demo http.Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if p.settings.fail == failDies {
			p.journal.failed("core.py:1180", "EngineCore encountered a fatal error.")
			p.journal.failed("core.py:1180", "torch.AcceleratorError: HIP error: an illegal memory access was encountered")
			p.journal.line("APIServer", "ERROR", "async_llm.py:704", "AsyncLLM output_handler failed.")
			p.journal.raw("(APIServer pid=%d) vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue. See stack trace (above) for the root cause.\n", p.journal.pid)
			p.die()
			panic(http.ErrAbortHandler)
		}
		demo.ServeHTTP(w, r)
	}
}

func (p *process) models(w http.ResponseWriter, _ *http.Request) {
	var list []any
	for _, name := range p.options.set["--served-model-name"] {
		list = append(list, p.model(name))
	}
	if list == nil {
		list = []any{p.model(p.served())}
	}
	answer(w, http.StatusOK, map[string]any{"object": "list", "data": list})
}

func (p *process) model(name string) map[string]any {
	return map[string]any{
		"id": name, "object": "model", "created": p.started.Unix(), "owned_by": "vllm", "root": p.options.model,
		"parent": nil, "max_model_len": p.maxContext(), "permission": []any{},
	}
}

// metrics has the lines of vllm/v1/metrics/loggers.py that others read, and the
// stand-in's own count of hits.
func (p *process) metrics(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	c, label := p.demo.Counts(), fmt.Sprintf(`engine="0",model_name=%q`, p.served())
	fmt.Fprintf(w, "# HELP vllm:num_requests_running Number of requests in model execution batches.\n# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running{%s} %.1f\n", label, float64(c.Running))
	fmt.Fprintf(w, "# HELP vllm:num_requests_waiting Number of requests waiting to be processed.\n# TYPE vllm:num_requests_waiting gauge\nvllm:num_requests_waiting{%s} 0.0\n", label)
	fmt.Fprintf(w, "# HELP vllm:request_success_total Count of successfully processed requests.\n# TYPE vllm:request_success_total counter\n")
	for _, reason := range []struct {
		name string
		n    uint64
	}{{"stop", c.Finished}, {"length", 0}, {"abort", c.Aborted}, {"error", 0}} {
		fmt.Fprintf(w, "vllm:request_success_total{%s,finished_reason=%q} %.1f\n", label, reason.name, float64(reason.n))
	}
	fmt.Fprintf(w, "# TYPE standin_dangerous_hits_total counter\n")
	for _, h := range p.hitList() {
		fmt.Fprintf(w, "standin_dangerous_hits_total{request=%q} %d\n", h.request, h.n)
	}
}

type hit struct {
	request string
	n       int
}

func (p *process) hitList() []hit {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []hit
	for request, n := range p.hits {
		list = append(list, hit{request, n})
	}
	slices.SortFunc(list, func(a, b hit) int { return strings.Compare(a.request, b.request) })
	return list
}

func (p *process) tokenize(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		answer(w, http.StatusRequestEntityTooLarge, map[string]any{"detail": "body too large"})
		return
	}
	answer(w, http.StatusOK, map[string]any{"count": len(body)/4 + 1, "max_model_len": p.maxContext(), "tokens": []int{}, "token_strs": nil})
}

// chat answers the least that a client of OpenAI's API accepts.
func (p *process) chat(w http.ResponseWriter, r *http.Request) {
	var req struct {
		Model  string `json:"model"`
		Stream bool   `json:"stream"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&req); err != nil {
		answer(w, http.StatusBadRequest, map[string]any{"error": map[string]any{"message": "invalid JSON", "type": "BadRequestError", "param": nil, "code": 400}})
		return
	}
	if !slices.Contains(append(slices.Clone(p.options.set["--served-model-name"]), p.served()), req.Model) {
		answer(w, http.StatusNotFound, map[string]any{"error": map[string]any{"message": fmt.Sprintf("The model `%.100s` does not exist.", req.Model), "type": "NotFoundError", "param": "model", "code": 404}})
		return
	}
	text := p.settings.turns[0].Text
	base := map[string]any{"id": "chatcmpl-standin", "created": p.started.Unix(), "model": req.Model}
	if !req.Stream {
		base["object"], base["usage"] = "chat.completion", map[string]int{"prompt_tokens": 1, "completion_tokens": len(text)/4 + 1, "total_tokens": len(text)/4 + 2}
		base["choices"] = []any{map[string]any{"index": 0, "finish_reason": "stop", "message": map[string]any{"role": "assistant", "content": text}}}
		answer(w, http.StatusOK, base)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	base["object"] = "chat.completion.chunk"
	for _, choice := range []map[string]any{
		{"index": 0, "delta": map[string]any{"role": "assistant", "content": text}, "finish_reason": nil},
		{"index": 0, "delta": map[string]any{}, "finish_reason": "stop"},
	} {
		base["choices"] = []any{choice}
		data, err := json.Marshal(base)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		fmt.Fprintf(w, "data: %s\n\n", data)
	}
	io.WriteString(w, "data: [DONE]\n\n")
}

func answer(w http.ResponseWriter, status int, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(data) // a client that went away needs no answer
}
