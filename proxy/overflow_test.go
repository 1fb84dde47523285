package proxy

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
)

// overflowCases are refusals as servers word them, and what the agent gets; "":
// what the server said, untouched.
var overflowCases = []struct{ name, body, want string }{
	// vLLM, as POST /v1/messages shapes it (vllm/entrypoints/anthropic/api_router.py@01540b7)
	{"vLLM 0.9, vllm#20409", anthropic("BadRequestError", "This model's maximum context length is 16384 tokens. However, you requested 122946 tokens (112946 in the messages, 10000 in the completion). Please reduce the length of the messages or completion."),
		"prompt is too long: 122946 tokens > 16384 maximum"},
	{"vLLM 0.9, the prompt fits", anthropic("BadRequestError", "This model's maximum context length is 131072 tokens. However, you requested 136384 tokens (120000 in the messages, 16384 in the completion). Please reduce the length of the messages or completion."),
		"input length and `max_tokens` exceed context limit: 120000 + 16384 > 131072, decrease input length or `max_tokens` and try again"},
	{"vLLM 0.10, no max_tokens", anthropic("BadRequestError", "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens in the messages, Please reduce the length of the messages."),
		"prompt is too long: 9000 tokens > 8192 maximum"},
	{"vLLM 0.11", anthropic("BadRequestError", "This model's maximum context length is 131072 tokens. However, your request has 140000 input tokens. Please reduce the length of the input messages. None"),
		"prompt is too long: 140000 tokens > 131072 maximum"},
	{"vLLM 0.11, renderer", anthropic("BadRequestError", "This maximum context length is 4096 tokens. However, your request has 5000 input tokens. Please reduce the length of the input messages."),
		"prompt is too long: 5000 tokens > 4096 maximum"},
	{"vLLM 0.12, the prompt fits", anthropic("BadRequestError", "'max_tokens' or 'max_completion_tokens' is too large: 8000. This model's maximum context length is 4096 tokens and your request has 2778 input tokens (8000 > 4096 - 2778). None"),
		"input length and `max_tokens` exceed context limit: 2778 + 8000 > 4096, decrease input length or `max_tokens` and try again"},
	{"vLLM 0.19", anthropic("BadRequestError", "This model's maximum context length is 131072 tokens. However, you requested 16384 output tokens and your prompt contains 150000 input tokens, for a total of 166384 tokens. Please reduce the length of the input prompt or the number of requested output tokens."),
		"prompt is too long: 166384 tokens > 131072 maximum"},
	{"vLLM 0.19, stopped counting", anthropic("BadRequestError", "This model's maximum context length is 131072 tokens. However, you requested 16384 output tokens and your prompt contains 114689 input tokens, for a total of 131073 tokens. Please reduce"),
		"prompt is too long: 131073 tokens > 131072 maximum"},
	{"vLLM 0.20", anthropic("BadRequestError", "This model's maximum context length is 202752 tokens. However, you requested 64000 output tokens and your prompt contains at least 138753 input tokens, for a total of at least 202753 tokens. Please reduce the length of the input prompt or the number of requested output tokens. (parameter=input_tokens, value=138753)"),
		"prompt is too long: 202753 tokens > 202752 maximum"},
	{"vLLM 0.24, characters", anthropic("BadRequestError", "This model's maximum context length is 131072 tokens. However, you requested 16384 output tokens and your prompt contains 9000000 characters (more than 8192000 characters, which is the upper bound for 114688 input tokens). Please reduce the length of the input prompt or the number of requested output tokens."),
		"prompt is too long: 131073 tokens > 131072 maximum"},
	{"vLLM 017638d", anthropic("BadRequestError", "You passed 114689 input tokens and requested 16384 output tokens. However, the model's context length is only 131072 tokens, resulting in a maximum input length of 114688 tokens. Please reduce the length of the input prompt. (parameter=input_tokens, value=114689)"),
		"prompt is too long: 131073 tokens > 131072 maximum"},
	{"vLLM 017638d, characters", anthropic("BadRequestError", "You passed 9000000 input characters and requested 16384 output tokens. However, the model's context length is only 131072 tokens, resulting in a maximum input length of 114688 tokens (at most 8192000 characters). Please reduce the length of the input prompt."),
		"prompt is too long: 131073 tokens > 131072 maximum"},
	{"vLLM's engine", anthropic("BadRequestError", "The decoder prompt (length 12324) is longer than the maximum model length of 8192. Make sure that `max_model_len` is no smaller than the number of text tokens."),
		"prompt is too long: 12324 tokens > 8192 maximum"},
	{"vLLM's engine, full", anthropic("BadRequestError", "The decoder prompt (length 2048) plus the number of requested output tokens (at least 1) is longer than the maximum model length of 2048. Make sure"),
		"prompt is too long: 2049 tokens > 2048 maximum"},
	{"vLLM 0.8, another shape", `{"object":"error","message":"This model's maximum context length is 8192 tokens. However, you requested 9224 tokens (8224 in the messages, 1000 in the completion). Please reduce the length of the messages or completion.","type":"BadRequestError","param":null,"code":400}`,
		"prompt is too long: 9224 tokens > 8192 maximum"},
	// llama.cpp
	{"llama.cpp", `{"error":{"code":400,"message":"request (24071 tokens) exceeds the available context size (8192 tokens), try increasing it","type":"exceed_context_size_error","n_prompt_tokens":24071,"n_ctx":8192}}`, // janhq/jan#8108
		"prompt is too long: 24071 tokens > 8192 maximum"},
	{"llama.cpp, numbers in fields only", `{"error":{"code":400,"message":"the request exceeds the available context size, try increasing it","type":"exceed_context_size_error","n_prompt_tokens":14429,"n_ctx":8192}}`,
		"prompt is too long: 14429 tokens > 8192 maximum"},
	{"llama.cpp, exactly full", `{"error":{"code":400,"message":"request (8192 tokens) exceeds the available context size (8192 tokens), try increasing it","type":"exceed_context_size_error","n_prompt_tokens":8192,"n_ctx":8192}}`,
		"prompt is too long: 8193 tokens > 8192 maximum"},
	{"llama.cpp, older", `{"error":{"code":400,"message":"the request exceeds the available context size. try increasing the context size or enable context shift","type":"invalid_request_error"}}`,
		"prompt is too long"},
	{"llama.cpp, embeddings", `{"error":{"code":400,"message":"input (5000 tokens) is larger than the max context size (4096 tokens). skipping","type":"exceed_context_size_error"}}`,
		"prompt is too long: 5000 tokens > 4096 maximum"},
	{"llama.cpp, a wording to come", `{"error":{"code":400,"message":"too much","type":"exceed_context_size_error","n_prompt_tokens":5,"n_ctx":4}}`,
		"prompt is too long: 5 tokens > 4 maximum"},

	{"another refusal", anthropic("BadRequestError", "1 validation error: Input should be 'user' or 'assistant'"), ""},
	{"a prompt that quotes one", anthropic("BadRequestError", "1 validation error: got \"This model's maximum context length is 8192 tokens. However, you requested 9000 tokens in the messages, \""), ""},
	{"no output tokens left", anthropic("BadRequestError", "max_output_tokens=32000cannot be greater than max_total_tokens=max_total_tokens=8192. Please request fewer output tokens."), ""},
	{"already the right words", anthropic("invalid_request_error", "prompt is too long: 213717 tokens > 200000 maximum"), ""},
	{"an error that is a string", `{"error":"This model's maximum context length is 1 tokens"}`, ""},
	{"not JSON", `This model's maximum context length is 8192 tokens. However, you requested 9000 tokens in the messages, `, ""},
	{"no object", `[]`, ""},
	{"empty", ``, ""},
	{"too much", anthropic("exceed_context_size_error", strings.Repeat("x", maxErrorBody)), ""},
	{"numbers without an end", anthropic("x", "This model's maximum context length is "+strings.Repeat("9", 400)+" tokens. However, you requested 9000 tokens in the messages, "),
		"prompt is too long"},
}

func anthropic(typ, message string) string {
	b, _ := json.Marshal(map[string]any{"type": "error", "error": map[string]any{"type": typ, "message": message}})
	return string(b)
}

func TestModelRewordsAnOverflow(t *testing.T) {
	for _, c := range overflowCases {
		t.Run(c.name, func(t *testing.T) {
			for _, status := range []int{400, 413, 500, 200} {
				addr := httpOrigin(t, func(w http.ResponseWriter, r *http.Request) {
					_, _ = io.Copy(io.Discard, r.Body)
					w.Header().Set("Content-Type", "application/json")
					w.WriteHeader(status)
					_, _ = io.WriteString(w, c.body)
				})
				l := newLedger()
				conn := connect(t, start(t, modelTo(l, addr)))
				conn.send(post("/v1/messages", small))
				resp, body := conn.response("POST")
				want := c.body
				if c.want != "" && status == 400 {
					want = fmt.Sprintf(`{"type":"error","error":{"type":"invalid_request_error","message":%q}}`, c.want)
				}
				if resp.StatusCode != status || body != want {
					t.Errorf("%d: %d %s\nwant %s", status, resp.StatusCode, body, want)
				}
				e := l.next(t)
				if said := strings.HasPrefix(e.Reason, "the request does not fit the model's context: "); said != (c.want != "" && status == 400) || e.Status != status {
					t.Errorf("event %+v", e)
				}
			}
		})
	}
}

// A refusal without an end is not waited for: what came passes on.
func TestOverflowReadingIsBounded(t *testing.T) {
	got := make(chan struct{})
	addr := origin(t, func(c *net.TCPConn) {
		r, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"+
			chunk(strings.Repeat(" ", maxErrorBody+1)))
		<-got
	})
	l := newLedger()
	c := connect(t, start(t, modelTo(l, addr)))
	defer close(got)
	c.send(post("/v1/messages", small))
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.CopyN(io.Discard, resp.Body, maxErrorBody+1); err != nil || resp.StatusCode != 400 {
		t.Errorf("%s, %d bytes, %v", resp.Status, n, err)
	}
}

// An event stream that began may still tell of it: as an error event.
func TestErrorEvents(t *testing.T) {
	const long = "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens in the messages, Please"
	const words = "prompt is too long: 9000 tokens > 8192 maximum"
	reworded := "data: " + string(apiError("invalid_request_error", words))
	error400 := anthropic("BadRequestError", long)
	for name, c := range map[string]struct{ in, want string }{
		"vLLM":                   {"event: error\ndata: " + error400 + "\n\n", "event: error\n" + reworded + "\n\n"},
		"CRLF":                   {"event: error\r\ndata: " + error400 + "\r\n\r\n", "event: error\r\n" + reworded + "\r\n\r\n"},
		"CR":                     {"event:error\rdata:" + error400 + "\r\r", "event:error\r" + reworded + "\r\r"},
		"without a name":         {`data: {"error":{"type":"exceed_context_size_error","message":"x","n_prompt_tokens":9000,"n_ctx":8192}}` + "\n\n", reworded + "\n\n"},
		"after others":           {eventStart + eventDelta + "event: error\ndata: " + error400 + "\n\n", eventStart + eventDelta + "event: error\n" + reworded + "\n\n"},
		"another error":          {"event: error\ndata: " + anthropic("internal_error", "no") + "\n\n", ""},
		"a text that quotes one": {fmt.Sprintf("event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":%q}}\n\n", error400), ""},
		"a name of another":      {"event: errors\ndata: {\"message\":\"" + long + "\"}\n\n", ""},
		"the event before":       {"event: error\n\ndata: {\"message\":\"" + long + "\"}\n\n", ""},
		"no end":                 {"event: error\ndata: " + error400, ""},
		"too long":               {"event: error\ndata: " + anthropic("exceed_context_size_error", strings.Repeat("y", maxEventLine)) + "\n\n", ""},
		"whole answer":           {eventStart + eventDelta + eventEnd, ""},
		"nothing":                {"", ""},
	} {
		if c.want == "" {
			c.want = c.in
		}
		for way, r := range map[string]io.Reader{"whole": strings.NewReader(c.in), "by bytes": iotest.OneByteReader(strings.NewReader(c.in)),
			"with the end": iotest.DataErrReader(strings.NewReader(c.in))} {
			told := 0
			got, err := io.ReadAll(&errorEvents{ReadCloser: io.NopCloser(r), found: func(overflow) { told++ }})
			if err != nil || string(got) != c.want {
				t.Errorf("%s, %s: %q, %v\nwant %q", name, way, got, err, c.want)
			}
			if changed := c.want != c.in; changed != (told == 1) {
				t.Errorf("%s, %s: told %d times", name, way, told)
			}
		}
	}
}

// No byte but those of an error event waits for another.
func TestErrorEventsHoldNothingElse(t *testing.T) {
	r, w := io.Pipe()
	s := &errorEvents{ReadCloser: r, found: func(overflow) { t.Error("found") }}
	buf := make([]byte, 100)
	for _, piece := range []string{"event: content_block_delta\n", "data: {\"type\":\"content", "_block_delta\"", "}\n", "\n", ": ping\n", "\n", "id: 7"} {
		go func() { _, _ = io.WriteString(w, piece) }()
		if n, err := io.ReadFull(s, buf[:len(piece)]); err != nil || string(buf[:n]) != piece {
			t.Fatalf("%q, %v; want %q", buf[:n], err, piece)
		}
	}
}

func TestModelRewordsAnErrorEvent(t *testing.T) {
	next := make(chan string, 2)
	next <- "event: error\ndata: " + anthropic("BadRequestError", "The decoder prompt (length 9) is longer than the maximum model length of 8.") + "\n\n"
	close(next)
	l := newLedger()
	c := connect(t, start(t, modelTo(l, serveSSE(t, next))))
	c.send(post("/v1/messages", small))
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, _ := io.ReadAll(resp.Body) // the stream breaks off
	if resp.StatusCode != 200 || !strings.Contains(string(got), `"type":"invalid_request_error","message":"prompt is too long: 9 tokens > 8 maximum"`) {
		t.Errorf("%s %q", resp.Status, got)
	}
	if e := l.next(t); e.Status != 200 {
		t.Errorf("event %+v", e)
	}
}

func FuzzOverflow(f *testing.F) {
	for _, c := range overflowCases {
		f.Add([]byte(c.body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		o, ok := findOverflow(body)
		if !ok {
			return
		}
		var e struct {
			Type  string
			Error struct{ Type, Message string }
		}
		if err := json.Unmarshal(o.body(), &e); err != nil || e.Type != "error" || e.Error.Type != "invalid_request_error" {
			t.Errorf("%q, %v", o.body(), err)
		}
		if m := e.Error.Message; len(m) > 200 || !strings.HasPrefix(m, "prompt is too long") && !strings.HasPrefix(m, "input length and `max_tokens` exceed context limit: ") {
			t.Errorf("%q from %q", m, body)
		}
		if again, ok := findOverflow(o.body()); ok {
			t.Errorf("found again in our own words: %v", again)
		}
	})
}

// However a stream is cut into pieces, the same comes out; and where no error
// event is in it, what went in.
func FuzzErrorEvents(f *testing.F) {
	f.Add([]byte("event: error\r\ndata: "+overflowCases[0].body+"\r\n\r\n"), 3)
	f.Add([]byte(eventStart+eventDelta+eventEnd), 7)
	f.Add([]byte("data: {\"error\":1}\n\ndata\n\rdata:"), 1)
	f.Fuzz(func(t *testing.T, in []byte, n int) {
		read := func(r io.Reader) (string, bool) {
			changed := false
			out, err := io.ReadAll(&errorEvents{ReadCloser: io.NopCloser(r), found: func(overflow) { changed = true }})
			if err != nil {
				t.Fatal(err)
			}
			return string(out), changed
		}
		whole, changed := read(strings.NewReader(string(in)))
		cut, _ := read(&pieces{in, max(n%64, 1)})
		if whole != cut {
			t.Errorf("%q in pieces: %q, whole: %q", in, cut, whole)
		}
		if !changed && whole != string(in) {
			t.Errorf("%q became %q", in, whole)
		}
	})
}

// pieces reads n bytes at a time.
type pieces struct {
	b []byte
	n int
}

func (p *pieces) Read(to []byte) (int, error) {
	if len(p.b) == 0 {
		return 0, io.EOF
	}
	n := copy(to[:min(p.n, len(to))], p.b)
	p.b = p.b[n:]
	return n, nil
}
