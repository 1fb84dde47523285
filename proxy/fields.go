package proxy

// fields is all that a request body may hold: what Claude Code 2.1.331 sends and
// what the Messages API documents, less whatever would make a model server fetch,
// connect, run or load something. A key that is not here is refused by name.
//
// A value's type is one or more of these, with "|" between them:
//
//	string, number, bool, null   JSON of that kind
//	any                          any JSON (still no duplicate keys, and not too deep)
//	object                       an object holding any JSON
//	mime, base64                 a string of that alphabet
//	'word'                       that string
//	[T]                          a list of T
//	name                         an object with the fields of row "name"
//	@set                         an object with the fields of row "set/TYPE", by its "type"
var fields = map[string]map[string]string{
	"messages": { // POST /v1/messages
		"model": "string", "max_tokens": "number", "messages": "[message]", "system": "string|[@system]",
		"tools": "[tool]", "tool_choice": "tool_choice", "stream": "bool", "stop_sequences": "[string]|null",
		"temperature": "number|null", "top_p": "number|null", "top_k": "number|null",
		"thinking": "thinking", "output_config": "output_config", "context_management": "context_management|null",
		"metadata": "metadata", "diagnostics": "diagnostics", "cache_control": "cache_control", "service_tier": "string",
	},
	"count_tokens": { // POST /v1/messages/count_tokens
		"model": "string", "messages": "[message]", "system": "string|[@system]", "tools": "[tool]",
		"tool_choice": "tool_choice", "thinking": "thinking", "output_config": "output_config",
		"context_management": "context_management|null", "cache_control": "cache_control",
	},

	"message": {
		"role": "'user'|'assistant'|'system'", "content": "string|[@block]", "output_config": "output_config",
	},
	"system/text": {"text": "string", "cache_control": "cache_control|null", "citations": "null|[any]"},

	"block/text":              {"text": "string", "cache_control": "cache_control|null", "citations": "null|[any]"},
	"block/image":             {"source": "@image", "cache_control": "cache_control|null"},
	"block/document":          {"source": "@document", "title": "string|null", "context": "string|null", "citations": "switch|null", "cache_control": "cache_control|null"},
	"block/thinking":          {"thinking": "string", "signature": "string"},
	"block/redacted_thinking": {"data": "string"},
	"block/tool_use":          {"id": "string", "name": "string", "input": "object", "caller": "caller", "cache_control": "cache_control|null"},
	"block/tool_result":       {"tool_use_id": "string", "content": "string|[@result]", "is_error": "bool", "cache_control": "cache_control|null"},
	"block/search_result":     {"source": "string", "title": "string", "content": "[@system]", "citations": "switch|null", "cache_control": "cache_control|null"},
	"block/tool_addition":     {"tool": "@tool_change", "cache_control": "cache_control|null"},
	"block/tool_removal":      {"tool": "@tool_change", "cache_control": "cache_control|null"},

	"result/text":           {"text": "string", "cache_control": "cache_control|null", "citations": "null|[any]"},
	"result/image":          {"source": "@image", "cache_control": "cache_control|null"},
	"result/document":       {"source": "@document", "title": "string|null", "context": "string|null", "citations": "switch|null", "cache_control": "cache_control|null"},
	"result/search_result":  {"source": "string", "title": "string", "content": "[@system]", "citations": "switch|null", "cache_control": "cache_control|null"},
	"result/tool_reference": {"tool_name": "string", "cache_control": "cache_control|null"},

	"image/base64":    {"media_type": "mime", "data": "base64"},
	"document/base64": {"media_type": "mime", "data": "base64"},
	"document/text":   {"media_type": "mime", "data": "string"},

	"tool": {
		"type": "'custom'|null", "name": "string", "description": "string", "input_schema": "object",
		"cache_control": "cache_control|null", "eager_input_streaming": "bool|null", "defer_loading": "bool",
		"strict": "bool", "input_examples": "[object]", "allowed_callers": "[string]",
	},
	"tool_change/tool_reference":  {"name": "string"},
	"tool_change/tool_definition": {"definition": "tool"},
	"tool_choice":                 {"type": "'auto'|'any'|'tool'|'none'", "name": "string", "disable_parallel_tool_use": "bool"},
	"caller":                      {"type": "string", "tool_id": "string"},

	"cache_control":      {"type": "'ephemeral'", "ttl": "string", "scope": "string", "evict_on_complete": "bool"},
	"switch":             {"enabled": "bool"},
	"thinking":           {"type": "'enabled'|'adaptive'|'disabled'", "budget_tokens": "number", "display": "string|null"},
	"output_config":      {"effort": "string|null", "format": "format|null", "task_budget": "any", "timing": "any"},
	"format":             {"type": "'json_schema'", "schema": "object", "name": "string"},
	"context_management": {"edits": "[object]"},
	"metadata":           {"user_id": "string|null"},
	"diagnostics":        {"previous_message_id": "string|null"},
}

// bodies says which row a path's request body must follow. A path that is not
// here cannot be forwarded with a body.
var bodies = map[string]string{
	"/v1/messages":              "messages",
	"/v1/messages/count_tokens": "count_tokens",
}

// dangers says why some keys and types are not in fields.
var dangers = map[string]string{
	"mcp_servers":          "the model server would connect to other servers",
	"url":                  "the model server would fetch it",
	"file":                 "the model server would read it",
	"container":            "the model server would run code",
	"kv_transfer_params":   "a setting of the model server",
	"chat_template":        "a setting of the model server",
	"chat_template_kwargs": "a setting of the model server",
	"fallbacks":            "another model than the sandbox's own",
}
