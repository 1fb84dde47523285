package endpoint

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
)

// reply is what the server says where it behaves.
const reply = "This is the model server of gateway verify, not a language model."

// reachedWord begins the answer to a request that must not have arrived.
const reachedWord = "the model server did as it was asked: "

// prepend returns a reader of b and then of r.
func prepend(b []byte, r io.Reader) io.Reader { return io.MultiReader(bytes.NewReader(b), r) }

func (s *Server) refuseExpectation(c net.Conn, m *message) bool {
	s.note(m)
	return send(c, 417, "text/plain", "no expectations here\n")
}

// answer answers one request and says whether the connection goes on.
func (s *Server) answer(c net.Conn, m *message) bool {
	if s.note(m) {
		return send(c, 200, "text/plain", fmt.Sprintf("%s%.40q %.200q\n", reachedWord, m.method, m.target))
	}
	var asked struct {
		Model  string `json:"model"`
		Stream bool   `json:"stream"`
	}
	_ = json.Unmarshal(m.body, &asked) // what is no JSON is answered like an empty request
	switch path, _ := m.path(); path {
	case "/health":
		return send(c, 200, "text/plain", "")
	case "/v1/models":
		return send(c, 200, "application/json", `{"object":"list","data":[{"id":"demo","object":"model","created":0,"owned_by":"sallyport-verify","max_model_len":131072}]}`)
	case "/v1/messages/count_tokens":
		return send(c, 200, "application/json", fmt.Sprintf(`{"input_tokens":%d}`, len(m.body)/4+1))
	case "/v1/chat/completions":
		return sendJSONOrStream(c, asked.Stream, chat(asked.Model), chatStream(asked.Model))
	}
	if name := hostileName(m.body); name != "" {
		return s.misbehave(c, name)
	}
	return sendJSONOrStream(c, asked.Stream, whole(asked.Model), stream(asked.Model))
}

// send writes an answer and says whether it went out.
func send(c net.Conn, status int, kind, body string) bool {
	return write(c, fmt.Sprintf("HTTP/1.1 %d Verify\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s", status, kind, len(body), body))
}

func sendJSONOrStream(c net.Conn, streamed bool, whole any, events []string) bool {
	if !streamed {
		data, err := json.Marshal(whole)
		return err == nil && send(c, 200, "application/json", string(data))
	}
	var b strings.Builder
	b.WriteString(streamHead)
	for _, e := range events {
		b.WriteString(chunk(e))
	}
	return write(c, b.String()+"0\r\n\r\n")
}

func write(c net.Conn, text string) bool {
	_, err := io.WriteString(c, text)
	return err == nil
}

const streamHead = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"

func chunk(text string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(text), text) }

// whole is an answer to POST /v1/messages, as models/demo makes it.
func whole(model string) any {
	return map[string]any{
		"id": "chatcmpl-verify", "type": "message", "role": "assistant", "model": model, "stop_reason": "end_turn",
		"content": []any{map[string]any{"type": "text", "text": reply}}, "usage": map[string]int{"input_tokens": 1, "output_tokens": 1},
	}
}

// stream is the same as events.
func stream(model string) []string {
	text, name := quote(reply), quote(model)
	return []string{
		event("message_start", `"message":{"id":"chatcmpl-verify","content":[],"model":`+name+`,"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":1,"output_tokens":0}}`),
		event("content_block_start", `"index":0,"content_block":{"type":"text","text":""}`),
		event("content_block_delta", `"index":0,"delta":{"type":"text_delta","text":`+text+`}`),
		event("content_block_stop", `"index":0`),
		event("message_delta", `"delta":{"stop_reason":"end_turn"},"usage":{"input_tokens":1,"output_tokens":1}`),
		event("message_stop", `"done":true`),
	}
}

func event(kind, rest string) string {
	return fmt.Sprintf("event: %s\ndata: {\"type\":%q,%s}\n\n", kind, kind, rest)
}

// chat is an answer to POST /v1/chat/completions.
func chat(model string) any {
	return map[string]any{
		"id": "chatcmpl-verify", "object": "chat.completion", "created": 0, "model": model,
		"choices": []any{map[string]any{"index": 0, "finish_reason": "stop", "message": map[string]any{"role": "assistant", "content": reply}}},
		"usage":   map[string]int{"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
	}
}

func chatStream(model string) []string {
	piece := `data: {"id":"chatcmpl-verify","object":"chat.completion.chunk","created":0,"model":` + quote(model) + `,"choices":[{"index":0,"delta":{"role":"assistant","content":` + quote(reply) + `},"finish_reason":"stop"}]}` + "\n\n"
	return []string{piece, "data: [DONE]\n\n"}
}

// quote writes s as JSON.
func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		return `""`
	}
	return string(b)
}
