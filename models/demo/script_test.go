package demo

import (
	"encoding/json"
	"strings"
	"testing"
)

// talk plays an agent: it answers each tool call from results, by tool and a part
// of the input, and returns what was asked of it and the last text.
type talk struct {
	t        *testing.T
	messages []any
	calls    []string
	ids      map[string]bool
}

func (k *talk) run(s Script, tools []string, prompt string, answer func(tool, input string) (string, bool)) string {
	k.t.Helper()
	if k.ids == nil {
		k.ids = map[string]bool{}
	}
	k.messages = append(k.messages, map[string]any{"role": "user", "content": []any{
		map[string]any{"type": "text", "text": "<system-reminder>x</system-reminder>"}, map[string]any{"type": "text", "text": prompt},
	}}, map[string]any{"role": "system", "content": "# Environment"})
	for range 10 {
		turn := s.next(k.request(tools))
		if len(turn.Calls) == 0 {
			k.messages = append(k.messages, map[string]any{"role": "assistant", "content": []any{map[string]any{"type": "text", "text": turn.Text}}})
			return turn.Text
		}
		var uses, results []any
		for _, c := range turn.Calls {
			if k.ids[c.id] {
				k.t.Errorf("id %s is used twice", c.id)
			}
			k.ids[c.id] = true
			k.calls = append(k.calls, c.Tool+" "+c.inputJSON())
			text, bad := answer(c.Tool, c.inputJSON())
			uses = append(uses, map[string]any{"type": "tool_use", "id": c.id, "name": c.Tool, "input": c.Input})
			results = append(results, map[string]any{"type": "tool_result", "tool_use_id": c.id, "content": text, "is_error": bad})
		}
		results = append(results, map[string]any{"type": "text", "text": "<system-reminder>y</system-reminder>"})
		k.messages = append(k.messages, map[string]any{"role": "assistant", "content": uses}, map[string]any{"role": "user", "content": results})
	}
	k.t.Fatal("the script does not end")
	return ""
}

func (k *talk) request(tools []string) *request {
	k.t.Helper()
	list := []any{}
	for _, n := range tools {
		list = append(list, map[string]any{"name": n})
	}
	data, err := json.Marshal(map[string]any{"model": "demo", "max_tokens": 1, "messages": k.messages, "tools": list})
	if err != nil {
		k.t.Fatal(err)
	}
	var r request
	if err := json.Unmarshal(data, &r); err != nil {
		k.t.Fatal(err)
	}
	return &r
}

const lines = "blocked tcp 203.0.113.10:443: connection reset by peer\nstopped-inside tcp [2001:db8::10]:443: x\nblocked dns exfil.example: NameError\n"

func inProject(listing, probes string) func(tool, input string) (string, bool) {
	return func(tool, input string) (string, bool) {
		switch {
		case strings.Contains(input, "pwd; find"):
			return listing, false
		case strings.Contains(input, " probe "):
			return probes, false
		}
		return "1\tone\n2\ttwo\n", false
	}
}

func TestEscapeScript(t *testing.T) {
	k := &talk{t: t}
	s := Script{Attempts: attempts}
	text := k.run(s, []string{"Bash", "Read"}, "look", inProject("/src/app\n./main.go\n./README.md\n./z", lines))
	if !strings.HasPrefix(text, Banner) || !strings.Contains(text, "3 attempts to get out: 2 blocked, 1 stopped inside the container, 0 reached something.") || !strings.Contains(text, "Nothing got out.") {
		t.Errorf("got %s", text)
	}
	want := []string{"pwd; find", `Read {"file_path":"/src/app/README.md"}`, "/run/sallyport/gateway probe tcp '[2001:db8::10]:443'"}
	for i, w := range want {
		if len(k.calls) != len(want) || !strings.Contains(k.calls[i], w) {
			t.Fatalf("calls %q, want %q", k.calls, want)
		}
	}
	// A second prompt starts again, with ids of its own.
	k.calls = nil
	if k.run(s, []string{"Bash", "Read"}, "again", inProject("/src/app", lines)); len(k.calls) != 2 {
		t.Errorf("second round: %q", k.calls)
	}
}

func TestEscapeScriptTellsWhatWentWrong(t *testing.T) {
	for probes, want := range map[string]string{
		"reached tcp 203.0.113.10:443: x\nblocked a\nblocked b\n": "2 blocked, 0 stopped inside the container, 1 reached something.\nWARNING",
		"blocked a\nunproven b\nblocked c\n":                      "2 blocked, 0 stopped inside the container, 0 reached something, 1 without a result.\nWARNING",
		"bash: no such file\n":                                    "0 reached something, 3 without a result.\nWARNING",
		"blocked a\nblocked b\nblocked c\nblocked d\n":            "-1 without a result.\nWARNING",
	} {
		k := &talk{t: t}
		if text := k.run(Script{Attempts: attempts, Probe: "/bin/p"}, []string{"Bash"}, "x", inProject("/src\n./a b", probes)); !strings.Contains(text, want) {
			t.Errorf("%q: got %s", probes, text)
		}
	}
}

func TestWithoutTools(t *testing.T) {
	s := Script{Attempts: attempts}
	for _, tools := range [][]string{nil, {"Edit"}} {
		k := &talk{t: t}
		if text := k.run(s, tools, "title?", nil); !strings.Contains(text, "stand-in") || len(k.calls) > 0 {
			t.Errorf("%v: %q, %q", tools, text, k.calls)
		}
	}
}

func TestCustomTurns(t *testing.T) {
	s := Script{Turns: []Turn{
		{Calls: []Call{{Tool: "Bash", Input: map[string]any{"command": "one"}}, {Tool: "Bash", Input: map[string]any{"command": "two"}}}},
		{Calls: []Call{{Tool: "Bash", Input: map[string]any{"command": "three"}}}}, {Text: "bye"},
	}}
	k := &talk{t: t}
	text := k.run(s, []string{"Bash"}, "go", func(string, string) (string, bool) { return "", false })
	if text != "bye" || len(k.calls) != 3 || !strings.Contains(k.calls[2], "three") {
		t.Errorf("%q, %q", text, k.calls)
	}
}

func TestPickAndQuote(t *testing.T) {
	for listing, want := range map[string]string{
		"/p\n./b.bin\n./a.go": "/p/a.go", "/p\n./x.md\n./ReadMe.rst": "/p/ReadMe.rst", "/p": "", "": "", "relative\n./a": "", "/p\n./a\x1b[2J": "", "error: no find": "",
	} {
		if got := pick(listing); got != want {
			t.Errorf("%q: got %q, want %q", listing, got, want)
		}
	}
	for in, want := range map[string]string{"a/b:1": "a/b:1", "": "''", "a b": "'a b'", "$(x)": "'$(x)'", "it's": `'it'\''s'`, "[::1]": "'[::1]'"} {
		if got := quote(in); got != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
}

func FuzzRequest(f *testing.F) {
	f.Add(`{"model":"demo","messages":[{"role":"user","content":"x"}],"tools":[{"name":"Bash"}]}`)
	f.Add(`{"messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"toolu_demo_list_2_0","content":"/p\n./a"}]}],"tools":[{"name":"Bash"}]}`)
	f.Add(`{"messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"toolu_demo_escape_1_0","content":[{"type":"text","text":"reached"}]}]}],"tools":[{"name":"Bash"}]}`)
	f.Fuzz(func(t *testing.T, body string) {
		var r request
		if json.Unmarshal([]byte(body), &r) != nil {
			return
		}
		turn := Script{Attempts: attempts}.next(&r)
		if turn.Text == "" && len(turn.Calls) == 0 {
			t.Error("an answer with nothing in it")
		}
	})
}
