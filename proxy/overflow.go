package proxy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"regexp"
	"strconv"
)

// maxErrorBody bounds what is read of a refusal to look for an overflow in, in
// bytes; a longer one passes unread.
const maxErrorBody = 16 << 10

// overflow is a model server's refusal of a request that does not fit into the
// model's context. Numbers are tokens; zero: not known.
type overflow struct {
	limit, prompt, output, total int64
	said                         string // the server's own words
}

// overflowTexts are how servers say it. Each is anchored at the message's start:
// an error that only quotes such a text from a prompt is none. "min" are counts
// that may be too low, since the server stopped counting.
var overflowTexts = []*regexp.Regexp{
	// vLLM ≤ 0.10, vllm/entrypoints/openai/serving_engine.py: _validate_input (vllm#20409)
	regexp.MustCompile(`^This model's maximum context length is (?P<limit>\d+) tokens\. However, you requested (?P<total>\d+) tokens \((?P<prompt>\d+) in the messages, (?P<output>\d+) in the completion\)`),
	regexp.MustCompile(`^This model's maximum context length is (?P<limit>\d+) tokens\. However, you requested (?P<prompt>\d+) tokens in the messages,`),
	// vLLM 0.11 to 0.19, the same place; renderer.py says "This maximum context length"
	regexp.MustCompile(`^This (?:model's )?maximum context length is (?P<limit>\d+) tokens\. However, your (?:request has|messages resulted in) (?P<prompt>\d+) (?:input )?tokens\.`),
	regexp.MustCompile(`^'max_tokens' or 'max_completion_tokens' is too large: (?P<output>\d+)\. This model's maximum context length is (?P<limit>\d+) tokens and your request has (?P<prompt>\d+) input tokens`),
	regexp.MustCompile(`^This model's maximum context length is (?P<limit>\d+) tokens\. However, you requested (?P<output>\d+) output tokens and your prompt contains (?P<prompt>\d+) input tokens`),
	// vLLM ≥ 0.20, vllm/renderers/params.py: _token_len_check; it stops counting at the limit
	regexp.MustCompile(`^This model's maximum context length is (?P<limit>\d+) tokens\. However, you requested \d+ output tokens and your prompt contains at least \d+ input tokens, for a total of at least (?P<total>\d+) tokens`),
	regexp.MustCompile(`^This model's maximum context length is (?P<limit>\d+) tokens\. However, you requested \d+ output tokens and your prompt contains \d+ characters `),
	// vllm/renderers/params.py@017638d; it stops counting, too
	regexp.MustCompile(`^You passed \d+ input (?:tokens|characters) and requested \d+ output tokens\. However, the model's context length is only (?P<limit>\d+) tokens,`),
	// the engine's own check, vllm/v1/engine/processor.py: _validate_model_input
	regexp.MustCompile(`^The decoder prompt \(length (?P<prompt>\d+)\) (?:plus the number of requested output tokens \(at least 1\) )?is longer than the maximum model length of (?P<limit>\d+)\.`),
	// llama.cpp tools/server/server-context.cpp; the numbers have been in fields, too
	regexp.MustCompile(`^request \((?P<prompt>\d+) tokens\) exceeds (?:the available )?context size \((?P<limit>\d+) tokens\)`),
	regexp.MustCompile(`^input \((?P<prompt>\d+) tokens\) is larger than the max context size \((?P<limit>\d+) tokens\)`),
	regexp.MustCompile(`^the request exceeds the available context size[.,]`),
}

// serverError is a refusal as vLLM, llama.cpp and the API that they imitate
// shape it.
type serverError struct {
	Message string       `json:"message"` // vLLM ≤ 0.10 has no "error" around it
	Error   *errorFields `json:"error"`
}

type errorFields struct {
	Type    string `json:"type"`
	Message string `json:"message"`
	Prompt  int64  `json:"n_prompt_tokens"` // llama.cpp
	Limit   int64  `json:"n_ctx"`           // llama.cpp
}

// findOverflow looks for an overflow in a refusal's JSON.
func findOverflow(body []byte) (overflow, bool) {
	var e serverError
	if json.Unmarshal(body, &e) != nil {
		return overflow{}, false
	}
	if e.Error == nil {
		return readOverflow(e.Message)
	}
	o, ok := readOverflow(e.Error.Message)
	if e.Error.Type == "exceed_context_size_error" {
		ok, o.said = true, e.Error.Message
		if e.Error.Limit > 0 && e.Error.Prompt > 0 {
			o.limit, o.prompt = e.Error.Limit, e.Error.Prompt
		}
	}
	return o, ok
}

func readOverflow(message string) (overflow, bool) {
	for _, text := range overflowTexts {
		found := text.FindStringSubmatch(message)
		if found == nil {
			continue
		}
		number := func(name string) int64 {
			i := text.SubexpIndex(name)
			if i < 0 {
				return 0
			}
			n, err := strconv.ParseInt(found[i], 10, 64)
			if err != nil || n > 1<<40 {
				return 0
			}
			return n
		}
		return overflow{number("limit"), number("prompt"), number("output"), number("total"), message}, true
	}
	return overflow{}, false
}

// String is the overflow in the words that Claude Code acts on. On the first, it
// asks again for a shorter answer, and compacts where that cannot help; on the
// second it compacts (Claude Code's documentation, errors: "Automatic retries",
// "Prompt is too long"). The first is for a prompt that fits by itself, if it was
// counted to its end: a server that stopped counting says one more than fits.
func (o overflow) String() string {
	if o.limit > 0 && o.prompt > 0 && o.prompt < o.limit && o.output > 0 && o.prompt+o.output > o.limit+1 {
		return fmt.Sprintf("input length and `max_tokens` exceed context limit: %d + %d > %d, decrease input length or `max_tokens` and try again", o.prompt, o.output, o.limit)
	}
	if o.limit == 0 {
		return "prompt is too long"
	}
	n := max(o.total, o.prompt+o.output, o.limit+1)
	return fmt.Sprintf("prompt is too long: %d tokens > %d maximum", n, o.limit)
}

// body is the refusal in the API's own shape.
func (o overflow) body() []byte { return apiError("invalid_request_error", o.String()) }

// reword puts words that the agent understands into the place of a refusal of a
// request that is too long. Every other answer stays what it is. The status stays.
func reword(resp *http.Response, q *request) {
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	switch {
	case resp.StatusCode == http.StatusOK && kind == "text/event-stream":
		resp.Body = &errorEvents{ReadCloser: resp.Body, found: func(o overflow) { q.overflow = o.said }}
	case resp.StatusCode == http.StatusBadRequest && kind == "application/json":
		rewordRefusal(resp, q)
	}
}

func rewordRefusal(resp *http.Response, q *request) {
	head, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody+1))
	rest := io.Reader(resp.Body)
	if err != nil {
		rest = brokenBody{err}
	} else if len(head) <= maxErrorBody {
		if o, ok := findOverflow(head); ok {
			q.overflow = o.said
			head = o.body()
			resp.ContentLength = int64(len(head))
			resp.Header.Set("Content-Type", "application/json")
			resp.Header.Set("Content-Length", strconv.Itoa(len(head)))
		}
	}
	resp.Body = &prefixed{io.MultiReader(bytes.NewReader(head), rest), resp.Body}
}

// prefixed is a body of which a part was read already.
type prefixed struct {
	io.Reader
	io.Closer
}

// brokenBody is the rest of a body that could not be read.
type brokenBody struct{ err error }

// Read fails.
func (b brokenBody) Read([]byte) (int, error) { return 0, b.err }
