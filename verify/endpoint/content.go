package endpoint

import (
	"context"
	"fmt"
	"strings"

	"github.com/sallyport/sallyport/verify/probe"
)

// bodyCase is a body of POST /v1/messages that must not be sent on.
type bodyCase struct{ what, body string }

// message is a request whose one message has this content, which is JSON.
func with(content string) string {
	return `{"model":"MODEL","max_tokens":9,"messages":[{"role":"user","content":` + content + `}]}`
}

// beside is a request with more in its object.
func beside(more string) string { return strings.Replace(messageBody, "{", "{"+more+",", 1) }

// naive is the server that takes any body, behind a front that knows paths only.
var naive = behind(front{}, reading{})

// contentProbes send bodies that make a model server fetch, read, run or load, or
// that its parser reads differently.
func contentProbes() []probe.Probe {
	return []probe.Probe{
		sends("model-fetch", "the model server fetches what an image's URL names: a way out for the prompt, and a way into its network",
			"CVE-2026-24779 and CVE-2026-25960 (vLLM: server-side request forgery by media URLs)", fetches()),
		sends("model-file", "the model server reads a file of its own: by file: URL, by path, by the id of an upload",
			"vLLM docs/features/multimodal_inputs.md: --allowed-local-media-path", files()),
		sends("model-fields", "a field is a setting of the server: a template that runs, a processor that is imported, a grammar that never ends",
			"CVE-2026-115911 (vLLM: chat_template), CVE-2025-62426 (chat_template_kwargs), CVE-2026-105760 (media_io_kwargs)", settings()),
		sends("model-tools", "the server runs a tool, or connects to servers that the request names",
			"Anthropic Messages API: server tools, mcp_servers", serverTools()),
		sends("model-name", "the model's name is taken from the body: another model, a path, an adapter",
			"vLLM docs/features/lora.md: adapters are served as models", otherNames()),
		sends("model-json-keys", "two parsers take different ones of two like keys: the checked one is not the one that counts",
			"RFC 8259 §4; CVE-2017-12635", likeKeys()),
		sends("model-json-text", "one parser takes for JSON what the other takes for something else",
			"RFC 8259 §§6-8", oddTexts()),
		sizeProbe(),
	}
}

// sends is a probe of bodies.
func sends(name, why, source string, list []bodyCase) probe.Probe {
	var requests []attempt
	for _, c := range list {
		requests = append(requests, request(c.what, "POST", "/v1/messages", "", c.body))
	}
	return attempts(name, why, source, "", naive, requests)
}

func fetches() []bodyCase {
	const url = "http://PUBLIC/FORBIDDEN.png"
	var list []bodyCase
	add := func(what, block string) { list = append(list, bodyCase{what, with("[" + block + "]")}) }
	for _, scheme := range []string{"http", "https", "ftp", "HTTP", "gopher", "s3"} {
		add("image source url, "+scheme, `{"type":"image","source":{"type":"url","url":"`+scheme+`://PUBLIC/FORBIDDEN.png"}}`)
	}
	for _, kind := range []string{"image_url", "video_url", "audio_url"} {
		add(kind, `{"type":"`+kind+`","`+kind+`":{"url":"`+url+`"}}`)
	}
	add("image_url as a string", `{"type":"image_url","image_url":"`+url+`"}`)
	add("input_audio", `{"type":"input_audio","input_audio":{"data":"`+url+`","format":"wav"}}`)
	add("document by URL", `{"type":"document","source":{"type":"url","url":"`+url+`"}}`)
	add("document of content", `{"type":"document","source":{"type":"content","content":[{"type":"image","source":{"type":"url","url":"`+url+`"}}]}}`)
	add("base64 beside url", `{"type":"image","source":{"type":"base64","media_type":"image/png","data":"AAAA","url":"`+url+`"}}`)
	add("URL in place of base64", `{"type":"image","source":{"type":"base64","media_type":"image/png","data":"`+url+`"}}`)
	add("URL as media type", `{"type":"image","source":{"type":"base64","media_type":"`+url+`","data":"AAAA"}}`)
	add("text beside image_url", `{"type":"text","text":"x","image_url":{"url":"`+url+`"}}`)
	add("an escaped type", `{"type":"image\u005furl","image_url":{"url":"`+url+`"}}`)
	add("within a tool's result", `{"type":"tool_result","tool_use_id":"t","content":[{"type":"image","source":{"type":"url","url":"`+url+`"}}]}`)
	return append(list,
		bodyCase{"in the system prompt", beside(`"system":[{"type":"image","source":{"type":"url","url":"` + url + `"}}]`)},
		bodyCase{"in a second message", strings.Replace(messageBody, `"messages":[`, `"messages":[{"role":"assistant","content":[{"type":"image_url","image_url":{"url":"`+url+`"}}]},`, 1)})
}

func files() []bodyCase {
	var list []bodyCase
	for _, url := range []string{"file:///etc/passwd?FORBIDDEN", "file://localhost/etc/FORBIDDEN", "/etc/FORBIDDEN", "data:image/png;base64,AAAA#FORBIDDEN"} {
		list = append(list,
			bodyCase{"image source " + url, with(`[{"type":"image","source":{"type":"url","url":"` + url + `"}}]`)},
			bodyCase{"image_url " + url, with(`[{"type":"image_url","image_url":{"url":"` + url + `"}}]`)})
	}
	return append(list,
		bodyCase{"image source file", with(`[{"type":"image","source":{"type":"file","file_id":"FORBIDDEN"}}]`)},
		bodyCase{"document source file", with(`[{"type":"document","source":{"type":"file","file_id":"FORBIDDEN"}}]`)},
		bodyCase{"container_upload", with(`[{"type":"container_upload","file_id":"FORBIDDEN"}]`)},
		bodyCase{"image_embeds", with(`[{"type":"image_embeds","image_embeds":"FORBIDDEN"}]`)})
}

func settings() []bodyCase {
	var list []bodyCase
	for _, f := range []string{
		"chat_template", "mm_processor_kwargs", "media_io_kwargs", "guided_json", "guided_regex", "guided_grammar", "guided_choice", "guided_decoding_backend",
		"structured_outputs", "response_format", "logits_processors", "logit_bias", "kv_transfer_params", "vllm_xargs", "lora_request", "cache_salt", "priority",
		"prompt_embeds", "documents", "add_generation_prompt", "chat_template_kwargs", "bad_words", "allowed_token_ids", "extra_body", "extra_args", "prompt",
		"grammar", "json_schema", "id_slot", "cache_prompt", "n_predict", "lora", "keep_alive", "options", "template", "raw", "truncate_prompt_tokens", "fallbacks",
	} {
		list = append(list, bodyCase{f, beside(fmt.Sprintf(`%q:"FORBIDDEN"`, f))})
	}
	return append(list, bodyCase{"chat_template of an object", beside(`"chat_template_kwargs":{"chat_template":"{{ FORBIDDEN }}"}`)},
		bodyCase{"a field within metadata", beside(`"metadata":{"user_id":"x","chat_template":"FORBIDDEN"}`)})
}

func serverTools() []bodyCase {
	var list []bodyCase
	for _, kind := range []string{"web_search_20250305", "web_fetch_20250910", "code_execution_20250522", "computer_20250124", "mcp_toolset", "bash_20250124", "memory_20250818"} {
		list = append(list, bodyCase{kind, beside(`"tools":[{"type":"` + kind + `","name":"FORBIDDEN"}]`)})
	}
	return append(list,
		bodyCase{"mcp_servers", beside(`"mcp_servers":[{"type":"url","url":"http://PUBLIC/FORBIDDEN","name":"x"}]`)},
		bodyCase{"container", beside(`"container":"FORBIDDEN"`)},
		bodyCase{"server_tool_use", with(`[{"type":"server_tool_use","id":"x","name":"web_fetch","input":{"url":"http://PUBLIC/FORBIDDEN"}}]`)},
		bodyCase{"a tool with a URL", beside(`"tools":[{"name":"x","input_schema":{},"url":"http://PUBLIC/FORBIDDEN"}]`)})
}

func otherNames() []bodyCase {
	var list []bodyCase
	for _, name := range []string{`"FORBIDDEN"`, `"../FORBIDDEN"`, `"MODEL/FORBIDDEN"`, `"http://PUBLIC/FORBIDDEN"`, `"/models/FORBIDDEN"`, `"MODEL "`, `"MODEL\u0000"`, `" MODEL"`, `""`,
		`["MODEL"]`, `{"id":"MODEL"}`, `null`, `true`, `0`} {
		list = append(list, bodyCase{"model " + name, strings.Replace(messageBody, `"MODEL"`, name, 1)})
	}
	return append(list, bodyCase{"no model", strings.Replace(messageBody, `"model":"MODEL",`, "", 1)})
}

func likeKeys() []bodyCase {
	const image = `[{"role":"user","content":[{"type":"image_url","image_url":{"url":"http://PUBLIC/FORBIDDEN"}}]}]`
	return []bodyCase{
		{"model twice", beside(`"model":"FORBIDDEN"`)},
		{"model twice, the other one last", strings.TrimSuffix(messageBody, "}") + `,"model":"FORBIDDEN"}`},
		{"model twice, once escaped", beside(`"mode\u006c":"FORBIDDEN"`)},
		{"messages twice", beside(`"messages":` + image)},
		{"messages twice, once escaped", beside(`"m\u0065ssages":` + image)},
		{"Model", beside(`"Model":"FORBIDDEN"`)},
		{"MESSAGES", beside(`"MESSAGES":` + image)},
		{"a Kelvin sign for k", beside(`"top_\u212a":"FORBIDDEN"`)},
		{"a long s for s", beside(`"me\u017fsages":` + image)},
		{"a NUL behind", beside(`"model\u0000":"FORBIDDEN"`)},
		{"a blank behind", beside(`"model ":"FORBIDDEN"`)},
		{"an empty key", beside(`"":"FORBIDDEN"`)},
		{"__proto__", beside(`"__proto__":{"chat_template":"FORBIDDEN"}`)},
		{"type twice", with(`[{"type":"text","type":"image_url","text":"x","image_url":{"url":"http://PUBLIC/FORBIDDEN"}}]`)},
		{"Type", with(`[{"type":"text","text":"x","Type":"image_url","Image_url":{"url":"http://PUBLIC/FORBIDDEN"}}]`)},
		{"twice within a tool's schema", beside(`"tools":[{"name":"x","input_schema":{"a":1,"a":"FORBIDDEN"}}]`)},
		{"twice, far apart", beside(`"tools":[{"name":"x","input_schema":{` + manyKeys(40) + `"k7":"FORBIDDEN"}}]`)},
	}
}

func manyKeys(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `"k%d":%d,`, i, i)
	}
	return b.String()
}

func oddTexts() []bodyCase {
	deep := func(open, end string, n int) string {
		return strings.Repeat(open, n) + `"FORBIDDEN"` + strings.Repeat(end, n)
	}
	schema := func(value string) string {
		return beside(`"tools":[{"name":"FORBIDDEN","input_schema":{"x":` + value + `}}]`)
	}
	return []bodyCase{
		{"nested 100 deep", schema(deep("[", "]", 100))},
		{"nested 100,000 deep", schema(deep(`{"a":`, "}", 100_000))},
		{"brackets only", strings.Repeat("[", 100_000) + "FORBIDDEN"},
		{"10,000 keys", schema("{" + manyKeys(10_000) + `"z":0}`)},
		{"a number of 100,000 digits", schema(strings.Repeat("9", 100_000))},
		{"an exponent of 200 digits", schema("1e" + strings.Repeat("9", 200))},
		{"NaN", schema("NaN")}, {"Infinity", schema("-Infinity")}, {"a hexadecimal number", schema("0x10")}, {"a leading zero", schema("010")}, {"a plus", schema("+1")},
		{"a comment", "/* FORBIDDEN */" + messageBody},
		{"single quotes", strings.ReplaceAll(messageBody, `"`, `'`)},
		{"a comma too many", strings.TrimSuffix(messageBody, "}") + ",}"},
		{"two values", messageBody + messageBody},
		{"a byte order mark", "\xef\xbb\xbf" + messageBody},
		{"UTF-16", utf16Text(messageBody)},
		{"broken UTF-8", strings.Replace(messageBody, "FORBIDDEN", "FORBIDDEN\xff", 1)},
		{"an overlong quote", strings.Replace(messageBody, "FORBIDDEN", "FORBIDDEN\xc0\xa2", 1)},
		{"a raw line feed in a string", strings.Replace(messageBody, "FORBIDDEN", "FORBIDDEN\n", 1)},
		{"a NUL behind", messageBody + "\x00"},
		{"a list", "[" + messageBody + "]"},
		{"a string", `"FORBIDDEN"`},
		{"a form", "model=MODEL&messages=FORBIDDEN"},
		{"nothing", " "},
	}
}

func utf16Text(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		b.WriteByte(c)
		b.WriteByte(0)
	}
	return b.String()
}

// sizeProbe sends more than a body may hold.
func sizeProbe() probe.Probe {
	const head = "POST /v1/messages HTTP/1.1\r\nHost: HOST\r\nUser-Agent: MARK\r\nContent-Type: application/json\r\n"
	more := strings.Repeat("x", 1<<20)
	p := attempts("model-body-size", "a body without an end fills the memory of the gateway or the server", "RFC 9110 §15.5.14; CWE-770", "", open, nil)
	list := []attempt{
		{what: "48 MiB by Content-Length", raw: head + "Content-Length: 50331648\r\n\r\n", more: more, times: 48},
		{what: "33 MiB in chunks", raw: head + "Transfer-Encoding: chunked\r\n\r\n", more: chunk(more), times: 33},
		{what: "8 exabytes, promised", raw: head + "Content-Length: 9223372036854775807\r\n\r\n{"},
	}
	p.Try = func(ctx context.Context, t probe.Target) probe.Finding {
		return set{t: t, name: p.Name, to: t.Model, list: list, patience: 2 * patience}.try(ctx) // 33 MiB take a while
	}
	return p
}
