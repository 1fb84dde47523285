package demo

import (
	"encoding/json"
	"strings"
)

// request is the part of a Messages request that the script looks at.
type request struct {
	Model     string    `json:"model"`
	MaxTokens int       `json:"max_tokens"`
	Stream    bool      `json:"stream"`
	Messages  []message `json:"messages"`
	Tools     []struct {
		Name string `json:"name"`
	} `json:"tools"`

	tokens int // a guess: four bytes each
}

type message struct {
	Role    string `json:"role"`
	Content blocks `json:"content"`
}

// block is one content block; what a kind does not have is empty.
type block struct {
	Type      string `json:"type"`
	Text      string `json:"text"`
	ToolUseID string `json:"tool_use_id"`
	Content   blocks `json:"content"`
	IsError   bool   `json:"is_error"`
}

// blocks reads content that is a string or a list of blocks.
type blocks []block

func (b *blocks) UnmarshalJSON(data []byte) error {
	if strings.HasPrefix(string(data), `"`) {
		var text string
		if err := json.Unmarshal(data, &text); err != nil {
			return err
		}
		*b = blocks{{Type: "text", Text: text}}
		return nil
	}
	var list []block
	if err := json.Unmarshal(data, &list); err != nil {
		return err
	}
	*b = list
	return nil
}

func (b blocks) text() string {
	var parts []string
	for _, x := range b {
		if x.Type == "text" {
			parts = append(parts, x.Text)
		}
	}
	return strings.Join(parts, "\n")
}

func (r *request) offers(tool string) bool {
	for _, t := range r.Tools {
		if t.Name == tool {
			return true
		}
	}
	return false
}

// results returns the tool results of the exchange that is going on, by step of
// the script: those after the last answer that called no tool of ours. They come
// from an agent, and so may be anything.
func (r *request) results() map[string]block {
	found := map[string]block{}
	for _, m := range r.Messages {
		if m.Role == "assistant" {
			continue
		}
		typed := false
		for _, b := range m.Content {
			if b.Type == "tool_result" {
				if step, ok := stepOf(b.ToolUseID); ok {
					found[step] = b
				}
				continue
			}
			// What Claude Code adds to a turn by itself begins with a tag.
			typed = typed || (m.Role == "user" && b.Type == "text" && !strings.HasPrefix(strings.TrimSpace(b.Text), "<"))
		}
		if typed {
			clear(found)
		}
	}
	return found
}
