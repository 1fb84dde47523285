package demo

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// answer is a turn on its way out.
type answer struct {
	id, model string
	tokensIn  int
	turn      Turn
}

func (a answer) stopReason() string {
	if len(a.turn.Calls) > 0 {
		return "tool_use"
	}
	return "end_turn"
}

func (a answer) usage() map[string]int {
	n := len(a.turn.Text) + len(a.turn.Thinking)
	for _, c := range a.turn.Calls {
		n += len(c.inputJSON())
	}
	return map[string]int{"input_tokens": a.tokensIn, "output_tokens": n/4 + 1}
}

// whole is the answer without streaming.
func (a answer) whole() map[string]any {
	content := []any{}
	if a.turn.Thinking != "" {
		content = append(content, map[string]any{"type": "thinking", "thinking": a.turn.Thinking, "signature": a.id})
	}
	if a.turn.Text != "" {
		content = append(content, map[string]any{"type": "text", "text": a.turn.Text})
	}
	for _, c := range a.turn.Calls {
		content = append(content, map[string]any{"type": "tool_use", "id": c.id, "name": c.Tool, "input": json.RawMessage(c.inputJSON())})
	}
	return map[string]any{
		"id": a.id, "type": "message", "role": "assistant", "model": a.model, "content": content, "stop_reason": a.stopReason(), "usage": a.usage(),
	}
}

// event is one SSE event; its data holds the type again.
type event map[string]any

// events are those of vLLM's message_stream_converter (entrypoints/anthropic/
// serving.py): no pings, no type or role in message_start's message, the
// signature just before the end of a thinking block.
func (a answer) events() []event {
	list := []event{{"type": "message_start", "message": map[string]any{
		"id": a.id, "content": []any{}, "model": a.model, "stop_reason": nil, "stop_sequence": nil,
		"usage": map[string]int{"input_tokens": a.tokensIn, "output_tokens": 0},
	}}}
	index := 0
	add := func(start map[string]any, deltas ...map[string]any) {
		list = append(list, event{"type": "content_block_start", "index": index, "content_block": start})
		for _, d := range deltas {
			list = append(list, event{"type": "content_block_delta", "index": index, "delta": d})
		}
		list = append(list, event{"type": "content_block_stop", "index": index})
		index++
	}
	if a.turn.Thinking != "" {
		deltas := pieces("thinking_delta", "thinking", a.turn.Thinking)
		add(map[string]any{"type": "thinking", "thinking": ""}, append(deltas, map[string]any{"type": "signature_delta", "signature": a.id})...)
	}
	if a.turn.Text != "" {
		add(map[string]any{"type": "text", "text": ""}, pieces("text_delta", "text", a.turn.Text)...)
	}
	for _, c := range a.turn.Calls {
		add(map[string]any{"type": "tool_use", "id": c.id, "name": c.Tool, "input": map[string]any{}}, pieces("input_json_delta", "partial_json", c.inputJSON())...)
	}
	return append(list,
		event{"type": "message_delta", "delta": map[string]any{"stop_reason": a.stopReason()}, "usage": a.usage()},
		event{"type": "message_stop"})
}

// pieces cuts text behind spaces, about as a model's tokens come.
func pieces(kind, field, text string) []map[string]any {
	var list []map[string]any
	for _, part := range strings.SplitAfter(text, " ") {
		if part != "" {
			list = append(list, map[string]any{"type": kind, field: part})
		}
	}
	return list
}

// stream writes the answer as SSE, each event flushed by itself, and says whether
// the client had all of it.
func (s *Server) stream(w http.ResponseWriter, r *http.Request, a answer, fault Fault) bool {
	out := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	w.WriteHeader(http.StatusOK)
	if s.Prefill > 0 && (out.Flush() != nil || !wait(r, s.Prefill)) {
		return false
	}
	for i, e := range a.events() {
		if fault.CutAfter > 0 && i == fault.CutAfter {
			if fault.Stall {
				<-r.Context().Done()
			}
			panic(http.ErrAbortHandler) // net/http's way to break a connection off
		}
		if !wait(r, s.Delay) {
			return false
		}
		data, err := json.Marshal(e)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		if _, err := fmt.Fprintf(w, "event: %s\ndata: %s\n\n", e["type"], data); err != nil {
			return false
		}
		if err := out.Flush(); err != nil {
			return false
		}
	}
	return true
}

// wait says whether the client is still there after d.
func wait(r *http.Request, d time.Duration) bool {
	if d <= 0 {
		return r.Context().Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.Context().Done():
		return false
	}
}
