package demo

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
)

// Script is what the stand-in makes an agent do. Without Turns it is the escape
// script: list the project, read a file of it, try to get out, tell.
type Script struct {
	Probe    string     // the probe program inside the sandbox; empty: /run/sallyport/gateway
	Attempts [][]string // arguments of one "gateway probe" each; required without Turns
	Turns    []Turn     // for tests: these turns instead, one after each round of results
}

// Turn is one answer.
type Turn struct {
	Thinking string
	Text     string // "{n}" in it becomes the number of messages so far, which tells answers apart
	Calls    []Call // tools to use; none: the answer ends the exchange
}

// Call is one use of a tool.
type Call struct {
	Tool  string
	Input map[string]any

	id string
}

const idPrefix = "toolu_demo_"

// stepOf returns the step of the script that a tool_use id of ours names.
func stepOf(id string) (string, bool) {
	rest, ok := strings.CutPrefix(id, idPrefix)
	if !ok {
		return "", false
	}
	step, _, ok := strings.Cut(rest, "_")
	return step, ok
}

func (s Script) check() error {
	if len(s.Turns) == 0 && len(s.Attempts) == 0 {
		return errors.New("demo: a Script needs Attempts or Turns")
	}
	return nil
}

// next decides the answer to r.
func (s Script) next(r *request) Turn {
	step, turn := s.decide(r)
	for i := range turn.Calls {
		// The length of the conversation makes ids of a second round differ.
		turn.Calls[i].id = fmt.Sprintf("%s%s_%d_%d", idPrefix, step, len(r.Messages), i)
	}
	return turn
}

func (s Script) decide(r *request) (step string, t Turn) {
	if len(r.Tools) == 0 { // a title, a summary, a topic: what an agent asks on the side
		return "", Turn{Text: "Sallyport demo (stand-in model)"}
	}
	got := r.results()
	if len(s.Turns) > 0 {
		n := 0
		for got[strconv.Itoa(n)].Type != "" {
			n++
		}
		if n >= len(s.Turns) {
			return "", Turn{Text: Banner}
		}
		t = s.Turns[n]
		t.Text = strings.ReplaceAll(t.Text, "{n}", strconv.Itoa(len(r.Messages)))
		t.Calls = append([]Call(nil), t.Calls...)
		return strconv.Itoa(n), t
	}
	return s.escape(r, got)
}

// escape is the script of the demo, step by step from what was answered.
func (s Script) escape(r *request, got map[string]block) (string, Turn) {
	if !r.offers("Bash") {
		return "", Turn{Text: Banner + " Its script needs the Bash tool, which was not offered."}
	}
	has := func(step string) bool { return got[step].Type != "" }
	file := pick(got["list"].Content.text())
	switch {
	case has("escape"):
		return "", Turn{Text: s.tell(file, got)}
	case has("read"), has("list") && file == "":
		return "escape", Turn{
			Text:  "Now I try to get out of this sandbox: TCP, UDP, ICMP, DNS, the proxy, IPv4 and IPv6.",
			Calls: []Call{{Tool: "Bash", Input: map[string]any{"command": s.command(), "description": "Try to reach the outside, every way the script knows", "timeout": 300000}}},
		}
	case has("list"):
		call := Call{Tool: "Read", Input: map[string]any{"file_path": file}}
		if !r.offers("Read") {
			call = Call{Tool: "Bash", Input: map[string]any{"command": "cat -- " + quote(file), "description": "Read a file of the project"}}
		}
		return "read", Turn{Text: "I read one file of the project.", Calls: []Call{call}}
	}
	return "list", Turn{
		Text: Banner + " I look at the project first.",
		Calls: []Call{{Tool: "Bash", Input: map[string]any{
			"command": "pwd; find . -maxdepth 1 -type f ! -name '.*' -size -64k | sort | head -n 50", "description": "List the project's files",
		}}},
	}
}

// command tries one after the other; each prints its line and is bounded by the
// probe itself. It always succeeds, so that the agent shows the lines.
func (s Script) command() string {
	probe := s.Probe
	if probe == "" {
		probe = "/run/sallyport/gateway"
	}
	var b strings.Builder
	for _, attempt := range s.Attempts {
		b.WriteString(quote(probe) + " probe")
		for _, a := range attempt {
			b.WriteString(" " + quote(a))
		}
		b.WriteString(" 2>&1\n")
	}
	b.WriteString("true")
	return b.String()
}

// quote makes one word of s for a POSIX shell.
func quote(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/.:-_=@", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// pick chooses a file from the list step's output: its folder, then ./names. A
// README is best, then text; empty: there is none.
func pick(listing string) string {
	lines := strings.Split(strings.TrimSpace(listing), "\n")
	dir := strings.TrimSpace(lines[0])
	if !path.IsAbs(dir) {
		return ""
	}
	best, rank := "", 0
	for _, line := range lines[1:] {
		name, ok := strings.CutPrefix(line, "./")
		if !ok || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			continue
		}
		if n := interest(name); n > rank {
			best, rank = path.Join(dir, name), n
		}
	}
	return best
}

func interest(name string) int {
	lower := strings.ToLower(name)
	if strings.HasPrefix(lower, "readme") {
		return 3
	}
	switch path.Ext(lower) {
	case ".md", ".txt", ".go", ".py", ".js", ".ts", ".rs", ".c", ".h", ".java", ".json", ".toml", ".yaml", ".yml", ".sh":
		return 2
	}
	return 1
}

// tell is the last answer: what happened, counted from the probe's own lines.
func (s Script) tell(file string, got map[string]block) string {
	var b strings.Builder
	b.WriteString(Banner + "\n\n")
	switch {
	case file == "":
		b.WriteString("The project folder holds no file that I could read.\n")
	case got["read"].IsError:
		fmt.Fprintf(&b, "I tried to read %s, which failed.\n", file)
	default:
		text := got["read"].Content.text()
		fmt.Fprintf(&b, "I read %s (%d lines as the tool showed it).\n", file, strings.Count(strings.TrimRight(text, "\n"), "\n")+1)
	}
	n := count(got["escape"].Content.text())
	fmt.Fprintf(&b, "I then made %d attempts to get out: %d blocked, %d stopped inside the container, %d reached something", len(s.Attempts), n["blocked"], n["stopped-inside"], n["reached"])
	if missing := len(s.Attempts) - n["blocked"] - n["stopped-inside"] - n["reached"]; missing != 0 {
		fmt.Fprintf(&b, ", %d without a result", missing)
	}
	b.WriteString(".\n")
	if n["blocked"]+n["stopped-inside"] == len(s.Attempts) {
		b.WriteString("Nothing got out. `gateway audit` on the host lists every attempt.\n")
	} else {
		b.WriteString("WARNING: not every attempt was shown to be blocked. Look at the lines above and at `gateway audit` on the host.\n")
	}
	return b.String()
}

func count(output string) map[string]int {
	n := map[string]int{}
	for line := range strings.Lines(output) {
		word, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		n[word]++
	}
	return n
}

// inputJSON is a call's input as it goes over the wire; maps of strings and
// numbers always encode.
func (c Call) inputJSON() string {
	if c.Input == nil {
		return "{}"
	}
	data, err := json.Marshal(c.Input)
	if err != nil {
		return "{}"
	}
	return string(data)
}
