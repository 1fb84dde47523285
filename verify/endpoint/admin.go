package endpoint

import "github.com/sallyport/sallyport/verify/probe"

// paths are what model servers offer besides the agent's own requests, by probe.
var paths = []struct {
	name, why, source string
	list              []string
}{
	{"model-lora", "a LoRA adapter is loaded from a path or a repository of the attacker's choice, and the server fetches it",
		"vLLM docs/features/lora.md: VLLM_ALLOW_RUNTIME_LORA_UPDATING",
		[]string{"/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/lora-adapters"}},
	{"model-rpc", "collective_rpc runs any method of the server's workers; the others stop it or wipe its caches",
		"vLLM docs/usage/security.md: endpoints of VLLM_SERVER_DEV_MODE",
		[]string{"/collective_rpc", "/sleep", "/wake_up", "/is_sleeping", "/reset_prefix_cache", "/reset_mm_cache", "/reset_encoder_cache", "/server_info"}},
	{"model-weights", "new weights, another scale or a pause change what every other user of the server gets",
		"vLLM docs/usage/security.md: RLHF and elastic expert parallel endpoints",
		[]string{"/pause", "/resume", "/is_paused", "/scale_elastic_ep", "/is_scaling_elastic_ep", "/init_weight_transfer_engine", "/update_weights", "/get_world_size", "/abort_requests"}},
	{"model-profile", "a profile is written to the server's disk, as often as one likes",
		"vLLM docs/contributing/profiling.md: /start_profile and /stop_profile",
		[]string{"/start_profile", "/stop_profile"}},
	{"model-inference", "the same model by a way on which the body is not checked: images by URL, templates, tools of the server",
		"vLLM docs/usage/security.md: endpoints that --api-key does not protect",
		[]string{"/invocations", "/inference/v1/generate", "/generative_scoring", "/pooling", "/classify", "/score", "/rerank", "/v1/score", "/v1/rerank", "/v2/rerank",
			"/v1/embeddings", "/v1/completions", "/v1/completions/render", "/v1/chat/completions", "/v1/chat/completions/render", "/v1/responses", "/v1/messages/batches",
			"/v1/audio/transcriptions", "/v1/audio/translations", "/v1/realtime", "/v1/files"}},
	{"model-read", "what the server tells about itself and about the prompts of others",
		"vLLM docs/usage/security.md: /metrics, /tokenizer_info, /docs",
		[]string{"/metrics", "/load", "/version", "/ping", "/tokenize", "/detokenize", "/tokenizer_info", "/docs", "/redoc", "/openapi.json"}},
	{"model-llama-cpp", "slots are saved to disk and read back; props change the template",
		"llama.cpp tools/server/README.md: /slots, /props, /apply-template",
		[]string{"/slots", "/slots/0?action=save", "/props", "/apply-template", "/infill", "/completion", "/embedding", "/models/load"}},
	{"model-ollama", "a model is pulled from, or pushed to, the internet by the server",
		"Ollama docs/api.md: /api/pull, /api/push, /api/create",
		[]string{"/api/pull", "/api/push", "/api/create", "/api/delete", "/api/copy", "/api/generate", "/api/chat", "/api/tags"}},
}

// bodies of requests, for which every path would do something.
const (
	rpcBody     = `{"method":"FORBIDDEN","lora_name":"x","lora_path":"http://PUBLIC/FORBIDDEN","model":"MODEL"}`
	messageBody = `{"model":"MODEL","max_tokens":9,"messages":[{"role":"user","content":"FORBIDDEN"}]}`
)

// adminProbes ask for every path by every method that a server might take.
func adminProbes() []probe.Probe {
	var probes []probe.Probe
	for _, p := range paths {
		var list []attempt
		for _, path := range p.list {
			list = append(list, request("GET "+path, "GET", path, "", ""), request("POST "+path, "POST", path, "", rpcBody))
		}
		probes = append(probes, attempts(p.name, p.why, p.source, "", open, list))
	}
	return append(probes, methodProbe())
}

// methodProbe asks for what is allowed by methods that are not.
func methodProbe() probe.Probe {
	var list []attempt
	for _, method := range []string{"GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "post", "POST2", "PURGE", "PROPFIND", "CONNECT"} {
		list = append(list, request(method+" /v1/messages", method, "/v1/messages", "", ""))
	}
	list = append(list,
		request("DELETE /health", "DELETE", "/health", "", ""),
		request("POST /v1/models", "POST", "/v1/models", "", rpcBody),
		request("OPTIONS *", "OPTIONS", "*", "", ""))
	return attempts("model-methods", "a method that a server maps to something else, or that shows the request's headers (TRACE)",
		"RFC 9110 §9; CERT VU#867593 (TRACE)", "", open, list)
}
