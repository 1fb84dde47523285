package proxy

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func FuzzBody(f *testing.F) {
	f.Add(claude(f))
	f.Add([]byte(small))
	f.Add([]byte(`{"model":"a","mode\u006c":"b"}`))
	f.Add([]byte(`{"model":"gpt-oss","tools":[{"name":"a","input_schema":{"a":{"a":1,"A":2}}}]}`))
	f.Add([]byte(`{"system":"\ud83d\ude00 \ud83d","top_p":1e-9,"max_tokens":-0}`))
	f.Add([]byte(`{"messages":[{"role":"user","content":[{"type":"image","source":{"type":"url"}}]}]}`))
	f.Add([]byte(`{"messages":[{"role":"user","content":[{"type":"tool_result","content":[{"type":"document","source":{"type":"base64","data":"AA=="}}]}]}]}`))
	for _, field := range dangerous {
		f.Add([]byte(`{"model":"gpt-oss","` + field + `":{}}`))
	}
	f.Add([]byte(`{"model":"gpt-oss","messages":[{"role":"user","content":[{"type":"text","text":"a","url":"x"},{"type":"image","source":{"type":"base64","data":"AA==","url":"x"}}]}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		out, err := normalize(b)
		if err == nil {
			if !json.Valid(b) || !json.Valid(out) {
				t.Fatalf("%q became %q", b, out)
			}
			if again, err := normalize(out); err != nil || !bytes.Equal(again, out) {
				t.Fatalf("%q is not stable: %q %v", out, again, err)
			}
			if extent(out) != len(out) {
				t.Fatalf("extent of %q is %d", out, extent(out))
			}
			same(t, b, out)
			checkMeaning(t, out)
		}
		checked, err := checkBody(b, "messages")
		if err != nil {
			return
		}
		if !bytes.Equal(checked, out) {
			t.Errorf("%q, %q", checked, out)
		}
		checkHarmless(t, checked)
		if sent, err := setModel(checked, "gpt-oss", []string{"haiku"}); err == nil {
			checkSent(t, sent, "messages")
		}
	})
}

// same says whether two texts mean the same to encoding/json, which takes the
// last of several keys.
func same(t *testing.T, a, b []byte) {
	t.Helper()
	if x, y := decoded(t, a), decoded(t, b); !reflect.DeepEqual(x, y) {
		t.Fatalf("%q means something else than %q", b, a)
	}
}

func decoded(t *testing.T, b []byte) (v any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%q: %v", b, err)
	}
	return v
}

// checkMeaning fails where b means something else to a parser that takes the
// first of several keys, or the last, than to encoding/json.
func checkMeaning(t *testing.T, b []byte) {
	t.Helper()
	want := decoded(t, b)
	for _, last := range []bool{false, true} {
		p := plainParser{in: string(b), last: last}
		if got := p.value(); p.in != "" || !reflect.DeepEqual(got, want) {
			t.Fatalf("last key %v: %q is read as %#v, not %#v; rest %q", last, b, got, want, p.in)
		}
	}
}

// plainParser reads JSON without space as the smallest of parsers would. What is
// no such JSON is left over.
type plainParser struct {
	in   string
	last bool // of several keys
}

func (p *plainParser) next(c byte) bool {
	if p.in == "" || p.in[0] != c {
		return false
	}
	p.in = p.in[1:]
	return true
}

func (p *plainParser) value() any {
	switch {
	case p.next('{'):
		return p.object()
	case p.next('['):
		list := []any{}
		for !p.next(']') && p.in != "" {
			list = append(list, p.value())
			p.next(',')
		}
		return list
	case p.next('"'):
		return p.text()
	}
	end := strings.IndexAny(p.in+",", ",]}")
	word := p.in[:end]
	p.in = p.in[end:]
	switch word {
	case "true", "false":
		return word == "true"
	case "null":
		return nil
	}
	return json.Number(word)
}

func (p *plainParser) object() map[string]any {
	object := map[string]any{}
	for !p.next('}') && p.next('"') {
		key := p.text()
		p.next(':')
		value := p.value()
		if _, have := object[key]; !have || p.last {
			object[key] = value
		}
		p.next(',')
	}
	return object
}

// text reads up to the closing quote.
func (p *plainParser) text() string {
	var b strings.Builder
	for p.in != "" {
		c := p.in[0]
		p.in = p.in[1:]
		switch {
		case c == '"':
			return b.String()
		case c != '\\' || p.in == "":
			b.WriteByte(c)
			continue
		}
		c = p.in[0]
		p.in = p.in[1:]
		if at := strings.IndexByte(`bfnrt`, c); at >= 0 {
			c = "\b\f\n\r\t"[at]
		} else if c == 'u' {
			r, _ := hex4([]byte(`\u` + p.in[:min(4, len(p.in))]))
			p.in = p.in[min(4, len(p.in)):]
			b.Write(utf8.AppendRune(nil, r))
			continue
		}
		b.WriteByte(c)
	}
	return b.String()
}

// dangerous are fields with which a model server fetches, runs or loads something.
var dangerous = []string{"mcp_servers", "container", "kv_transfer_params", "chat_template", "chat_template_kwargs", "fallbacks", "extra_body", "lora_request"}

// checkHarmless walks through a checked body by the places that can make a model
// server fetch, run or load something, whatever the table says.
func checkHarmless(t *testing.T, b []byte) {
	t.Helper()
	body, _ := decoded(t, b).(map[string]any)
	for key, value := range body {
		if slices.Contains(dangerous, strings.ToLower(key)) {
			t.Errorf("the field %s passes: %q", key, b)
		}
		if key != "model" && strings.EqualFold(key, "model") {
			t.Errorf("two models: %q", b)
		}
		if key == "messages" || key == "system" {
			harmlessBlocks(t, value)
		}
	}
}

// harmlessBlocks looks at content, however deep.
func harmlessBlocks(t *testing.T, v any) {
	t.Helper()
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			harmlessBlocks(t, item)
		}
	case map[string]any:
		if source, ok := v["source"].(map[string]any); ok {
			if kind := source["type"]; kind != "base64" && kind != "text" || source["url"] != nil || source["file_id"] != nil || source["content"] != nil {
				t.Errorf("the source %v passes", source)
			}
		}
		for key, inner := range v {
			if key == "content" {
				harmlessBlocks(t, inner)
			}
			if slices.Contains([]string{"image_url", "url", "file", "file_id", "video_url", "audio_url", "input_audio"}, key) {
				t.Errorf("the block %v passes", v)
			}
		}
	}
}
