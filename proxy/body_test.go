package proxy

import (
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"
)

// claude has every field that Claude Code 2.1.331 was seen to send, and those
// that its code can send to a server that is not Anthropic's.
func claude(t testing.TB) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/claude-2.1.331.json")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBodyTakesWhatClaudeCodeSends(t *testing.T) {
	in := claude(t)
	out, err := checkBody(in, "messages")
	if err != nil {
		t.Fatal(err)
	}
	var a, b any
	if json.Unmarshal(in, &a) != nil || json.Unmarshal(out, &b) != nil || !reflect.DeepEqual(a, b) {
		t.Errorf("changed: %s", out)
	}
	first := strings.Index(string(out), `"messages"`)
	if model := strings.Index(string(out), `"model"`); model > first || first > strings.Index(string(out), `"system"`) {
		t.Error("the order of keys changed: prompt caches would miss")
	}
}

func TestBodyRefuses(t *testing.T) {
	block := func(b string) string { return `{"messages":[{"role":"user","content":[` + b + `]}]}` }
	tool := func(b string) string { return `{"tools":[` + b + `]}` }
	for in, want := range map[string]string{
		``:                               "ends too early",
		`[]`:                             "not an object",
		`{"model":"a"} {}`:               "something follows",
		`{"model":"a","model":"b"}`:      `the key "model" twice`,
		`{"model":"a","mode\u006c":"b"}`: `the key "model" twice`,
		`{"model":"a","Model":"b"}`:      `Model: unknown field; it is spelled "model"`,
		`{"model":"a","MODEL":"b"}`:      `it is spelled "model"`,
		`{"mcp_servers":[]}`:             "mcp_servers: unknown field (the model server would connect to other servers)",
		`{"container":"x"}`:              "container: unknown field",
		`{"kv_transfer_params":{}}`:      "kv_transfer_params: unknown field",
		`{"chat_template_kwargs":{}}`:    "chat_template_kwargs: unknown field",
		`{"fallbacks":[]}`:               "fallbacks: unknown field",
		`{"stream":"yes"}`:               "stream: not of type bool",
		`{"system":{"type":"text"}}`:     "system: not of type",
		`{"messages":[{"role":"tool"}]}`: `messages[0].role: "tool" is not allowed here`,
		`{"messages":[{"role":"user","content":"a"},{"name":"x"}]}`:                                                      "messages[1].name: unknown field",
		block(`{"type":"image","source":{"type":"url","url":"http://203.0.113.1"}}`):                                     `messages[0].content[0].source.type: "url" is not allowed here (the model server would fetch it)`,
		block(`{"type":"image","source":{"url":"http://203.0.113.1","type":"base64"}}`):                                  "source.url: unknown field",
		block(`{"type":"image","source":{"type":"base64","data":"http://203.0.113.1/"}}`):                                "source.data: not of type base64",
		block(`{"type":"image","source":{"type":"base64","media_type":"a,b;c"}}`):                                        "media_type: not of type mime",
		block(`{"type":"image","source":{"type":"file","file_id":"f"}}`):                                                 `"file" is not allowed here`,
		block(`{"type":"document","source":{"type":"url","url":"x"}}`):                                                   `"url" is not allowed here`,
		block(`{"type":"document","source":{"type":"content","content":[]}}`):                                            `"content" is not allowed here`,
		block(`{"type":"image_url","image_url":{"url":"x"}}`):                                                            `"image_url" is not allowed here`,
		block(`{"type":"server_tool_use","id":"x"}`):                                                                     `"server_tool_use" is not allowed here`,
		block(`{"type":"container_upload","file_id":"x"}`):                                                               `"container_upload" is not allowed here`,
		block(`{"text":"no type"}`):                                                                                      `an object without a "type"`,
		block(`{"type":["text"],"text":"a"}`):                                                                            `an object without a "type"`,
		block(`{"type":"text","text":"a","Type":"image"}`):                                                               "Type: unknown field",
		block(`{"type":"tool_result","tool_use_id":"a","content":[{"type":"image","source":{"type":"url","url":"x"}}]}`): "messages[0].content[0].content[0].source.type",
		block(`{"type":"tool_use","id":"a","name":"b","input":{"a":1,"a":2}}`):                                           `the key "a" twice`,
		tool(`{"type":"web_search_20250305","name":"web_search"}`):                                                       `tools[0].type: "web_search_20250305" is not allowed here`,
		tool(`{"type":"bash_20250124","name":"bash"}`):                                                                   "tools[0].type",
		tool(`{"name":"a","input_schema":{},"url":"x"}`):                                                                 "tools[0].url: unknown field",
		tool(`{"name":"a","input_schema":{"a":` + strings.Repeat("[", 80) + strings.Repeat("]", 80) + `}}`):              "nested deeper",
		"{\"system\":\"a\x01\"}":                                                                                         "control character",
		"{\"system\":\"a\xff\"}":                                                                                         "broken UTF-8",
		`{"system":"\x"}`:                                                                                                "malformed escape",
		`{"system":"\u12g4"}`:                                                                                            "malformed escape",
		`{"top_p":01}`:                                                                                                   "malformed number",
		`{"top_p":.5}`:                                                                                                   "where a JSON value should be",
		`{"top_p":NaN}`:                                                                                                  "where a JSON value should be",
		`{"top_p":1e}`:                                                                                                   "malformed number",
		`{"top_p":1` + strings.Repeat("0", 100) + `}`:                                                                    "malformed number",
		`{"top_p":1,}`:    "where a key should be",
		`{"top_p" 1}`:     "where a colon should be",
		"\ufeff{}":        "where a JSON value should be",
		`{"stream":true`:  "ends too early",
		`{'stream':true}`: "where a key should be",
	} {
		out, err := checkBody([]byte(in), "messages")
		if err == nil {
			t.Errorf("%s was taken as %s", in, out)
			continue
		}
		mustContain(t, err.Error(), want)
		if len(err.Error()) > 400 {
			t.Errorf("error of %d bytes", len(err.Error()))
		}
	}
}

func TestBodyLimitsKeys(t *testing.T) {
	var b strings.Builder
	b.WriteString(`{"tools":[{"name":"a","input_schema":{`)
	for i := range maxKeys + 1 {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(`"k` + strings.Repeat("x", i%50) + string(rune('a'+i%26)) + strings.Repeat("y", i/50) + `":1`)
	}
	b.WriteString(`}}]}`)
	_, err := checkBody([]byte(b.String()), "messages")
	if err == nil || !strings.Contains(err.Error(), "more than 4096 keys") {
		t.Error(err)
	}
	_, err = checkBody([]byte(`{"metadata":{`+strings.Repeat(`"user_id":"a",`, 1)+manyKeys(20)+`"k3":1}}`), "messages")
	if err == nil || !strings.Contains(err.Error(), `the key "k3" twice`) {
		t.Error(err)
	}
}

func manyKeys(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(`"k` + string(rune('0'+i)) + `":1,`)
	}
	return b.String()
}

func TestBodyNormalizes(t *testing.T) {
	for in, want := range map[string]string{
		` { "a" : [ 1 , -0.5e+3 , null ] } `: `{"a":[1,-0.5e+3,null]}`,
		`"\u00e9\u0022\u005c\u000a\u0001\/"`: `"é\"\\\n\u0001/"`,
		`"\ud83d\ude00"`:                     `"😀"`,
		`"\ud83d x"`:                         "\"\ufffd x\"",
		`"\ude00\ud83d"`:                     "\"\ufffd\ufffd\"",
		`{"\u0061":{"b":{}},"c":[[]]}`:       `{"a":{"b":{}},"c":[[]]}`,
	} {
		if out, err := normalize([]byte(in)); err != nil || string(out) != want {
			t.Errorf("%s: %s %v, want %s", in, out, err, want)
		}
	}
}

func TestFieldTableCompiles(t *testing.T) {
	if _, err := compiled(); err != nil {
		t.Error(err)
	}
	if _, err := compile(map[string]map[string]string{"a": {"b": "strin"}}); err == nil {
		t.Error("a misspelt type compiles")
	}
	for _, row := range bodies {
		if fields[row] == nil {
			t.Errorf("no row %q", row)
		}
	}
}
