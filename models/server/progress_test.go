package server

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// logOf returns the lines of a log in testdata.
func logOf(t testing.TB, name string) []string {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return readLines(f)
}

// What each log shows, line by line, in the order in which it changes.
func TestProgressOfWholeLogs(t *testing.T) {
	for name, want := range map[string][]string{
		"vllm.log": {
			"start: starting vLLM 0.23.0",
			"start: starting the engine",
			"weights: loading weights",
			"weights 0%: loading weights, shard 0 of 15",
			"weights 7%: loading weights, shard 1 of 15",
			"weights 53%: loading weights, shard 8 of 15",
			"weights 100%: loading weights, shard 15 of 15",
			"weights 100%: weights loaded, 139 s",
			"weights 100%: model loaded, 65.96 GiB, 145 s",
			"compile: compiling",
			"compile 100%: compiled, 40 s",
			"kv-cache: making room for the KV cache",
			"kv-cache: KV cache for 413,712 tokens",
			"graphs 0%: capturing graphs",
			"graphs 45%: capturing graphs",
			"graphs 100%: capturing graphs",
			"graphs 100%: graphs captured, 0.61 GiB, 8 s",
			"startup: starting the API",
			"startup 100%: started",
		},
		"llama-server-ok.log": { // 0.7.0 of Debian, as it ran
			"weights: loading weights",
			"kv-cache: making room for the KV cache",
			"startup 100%: started",
		},
		"llama-server-older.log": {
			"weights: loading weights",
			"weights 100%: loading weights",
			"kv-cache: making room for the KV cache",
			"startup: warming up",
			"startup 100%: started",
		},
	} {
		t.Run(name, func(t *testing.T) {
			track := newTracker(time.Time{}, nil)
			var got []string
			for _, line := range logOf(t, name) {
				if !track.line(line, time.Time{}) {
					continue
				}
				p := track.progress(time.Time{})
				percent := ""
				if p.Percent >= 0 {
					percent = fmt.Sprintf(" %d%%", p.Percent)
				}
				got = append(got, p.Stage+percent+": "+p.Text)
			}
			if !slices.Equal(got, want) {
				t.Errorf("got\n %s\nwant\n %s", strings.Join(got, "\n "), strings.Join(want, "\n "))
			}
		})
	}
}

// A start goes forward only: lines come twice after a lost connection, and from
// several processes at once.
func TestProgressNeverGoesBack(t *testing.T) {
	track := newTracker(time.Time{}, nil)
	for _, line := range append(logOf(t, "vllm.log"), logOf(t, "vllm.log")...) {
		before := track.progress(time.Time{})
		track.line(line, time.Time{})
		after := track.progress(time.Time{})
		if rank(after.Stage) < rank(before.Stage) || after.Stage == before.Stage && after.Percent < before.Percent {
			t.Errorf("%s: from %s %d%% back to %s %d%%", line, before.Stage, before.Percent, after.Stage, after.Percent)
		}
	}
	workers := newTracker(time.Time{}, nil) // each has a bar of its own
	workers.line("Loading safetensors checkpoint shards:  67% Completed | 2/3", time.Time{})
	if workers.line("Loading safetensors checkpoint shards:  33% Completed | 1/3", time.Time{}) || workers.percent != 67 {
		t.Errorf("another worker's bar led back to %d%%", workers.percent)
	}
	for _, line := range logOf(t, "vllm.log") {
		if track.line(line, time.Time{}) && !strings.Contains(line, "startup complete") || track.text == "weights loaded, 139 s" {
			t.Errorf("%s: changed it to %q", line, track.text)
		}
	}
}

func TestLinesThatTellOfFailuresAreNoProgress(t *testing.T) {
	for _, line := range []string{
		"ERROR [core.py:1] RuntimeError: torch.compile of the graph did not work",
		"E srv    load_model: failed to load model, '/weights/x.gguf'",
		"Traceback (most recent call last): loading safetensors checkpoint shards: 100% Completed",
		"INFO: 127.0.0.1 - \"GET /health HTTP/1.1\" 200 OK",
		"", "...", strings.Repeat("x", 1<<20),
	} {
		if m, ok := parseLine(line); ok {
			t.Errorf("%.60q is progress: %+v", line, m)
		}
	}
}

// Time left is what the last start needed, less what has passed.
func TestTimeLeft(t *testing.T) {
	began := time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC)
	at := func(s int) time.Time { return began.Add(time.Duration(s) * time.Second) }
	last := map[string]time.Duration{StageStart: 20 * time.Second, StageWeights: 100 * time.Second, StageCompile: 40 * time.Second, StageStartup: 5 * time.Second}
	track := newTracker(began, last)
	for _, step := range []struct {
		line string
		at   int
		left time.Duration
	}{
		{"", 0, 165 * time.Second},
		{"", 15, 150 * time.Second},
		{"", 30, 145 * time.Second}, // longer than last time: what is to come is still known
		{"Using model weights format ['*.safetensors']", 30, 145 * time.Second},
		{"", 80, 95 * time.Second},
		{"Loading safetensors checkpoint shards:  50% Completed | 1/2", 110, (80 + 45) * time.Second}, // slower than last time
		{"Dynamo bytecode transform time: 3.54 s", 200, 45 * time.Second},
		{"Application startup complete.", 240, -1},
	} {
		if step.line != "" {
			track.line(step.line, at(step.at))
		}
		p := track.progress(at(step.at))
		if p.Left != step.left || p.Elapsed != time.Duration(step.at)*time.Second {
			t.Errorf("at %d s (%s): left %v, elapsed %v, want left %v", step.at, step.line, p.Left, p.Elapsed, step.left)
		}
	}
	if got := newTracker(began, nil).progress(at(9)).Left; got != -1 {
		t.Errorf("without a history: left %v, want unknown", got)
	}
	if track.took[StageWeights] != 170*time.Second {
		t.Errorf("weights took %v, want 2m50s", track.took[StageWeights])
	}
}

func TestLinesAreCut(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"carriage returns", "\r 10%|#\r 20%|##\r\ndone\n", " 10%|#| 20%|##|done"},
		{"escape sequences", "\x1b[1;32mINFO\x1b[0m ok\x1b[K\n\x1b]0;title\x07plain\x1b]8;;x\x1b\\link\n", "INFO ok|plainlink"},
		{"an escape at the end", "half\x1b", "half"},
		{"an escape that never ends", "half\x1b[1;2", "half"},
		{"no end of line", "the last", "the last"},
		{"not UTF-8 stays, for printable to show", "a\xff\x00b\n", "a\xff\x00b"},
	} {
		for _, size := range []int{1, 3, 1000} { // however it arrives
			var got []string
			var b lineBuffer
			for p := range slices.Chunk([]byte(c.in), size) {
				b.write(p, func(l string) { got = append(got, l) })
			}
			b.flush(func(l string) { got = append(got, l) })
			if strings.Join(got, "|") != c.want {
				t.Errorf("%s, %d bytes at a time: got %q, want %q", c.name, size, strings.Join(got, "|"), c.want)
			}
		}
	}
}

func TestLongLogsAreBounded(t *testing.T) {
	lines := readLines(strings.NewReader(strings.Repeat("x", 10<<20) + "\n" + strings.Repeat(strings.Repeat("y", maxLine)+"\n", 1000) + strings.Repeat("z\n", 100)))
	sum := 0
	for _, l := range lines {
		sum += len(l)
	}
	if len(lines) > keepLines || sum > keepBytes || lines[len(lines)-1] != "z" || slices.ContainsFunc(lines, func(l string) bool { return len(l) > maxLine }) {
		t.Errorf("%d lines, %d bytes are kept", len(lines), sum)
	}
	if lines = readLines(strings.NewReader(strings.Repeat("a\n", 5000) + "b")); len(lines) != keepLines || lines[keepLines-1] != "b" {
		t.Errorf("%d lines are kept", len(lines))
	}
}

// FuzzLog has any bytes go the way of a log, in any pieces.
func FuzzLog(f *testing.F) {
	for _, name := range []string{"vllm.log", "llama-server-ok.log", "llama-server-older.log", "llama-server-mem.log", "llama-server-none.log"} {
		text, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text, uint8(7))
		for line := range strings.Lines(string(text)) {
			f.Add([]byte(line), uint8(1))
		}
	}
	f.Add([]byte("\x1b[2J\x1b]0;x\x07 Loading checkpoint shards: 999% 99999999999/1 \xff\r\n"), uint8(3))
	f.Fuzz(func(t *testing.T, log []byte, size uint8) {
		track := newTracker(time.Time{}, nil)
		var b lineBuffer
		var lines []string
		for p := range slices.Chunk(log, int(size)+1) {
			b.write(p, func(line string) {
				lines = append(lines, line)
				if len(line) > maxLine || strings.ContainsAny(line, "\r\n") {
					t.Errorf("line of %d bytes", len(line))
				}
				stage, percent := track.stage, track.percent
				track.line(line, time.Time{})
				if track.stage < stage || track.stage == stage && track.percent < percent {
					t.Errorf("%q leads back", line)
				}
			})
			track.dots(b.peek())
		}
		p := track.progress(time.Time{})
		if p.Percent < -1 || p.Percent > 100 || rank(p.Stage) < 0 || p.Text == "" || len(p.Text) > maxText || printable(p.Text, maxText) != p.Text {
			t.Errorf("progress %+v", p)
		}
		d := Diagnose("gpt-oss", lines, RuntimeState{Phase: PhaseExited, ExitCode: 1})
		e := &FailedError{Server: "gpt-oss", Machine: "this machine", How: "ended", Last: shown(lines), Why: d.Text, Line: d.Line, Hint: d.Hint}
		for _, line := range strings.Split(e.Error(), "\n") {
			if printable(line, 10*maxText) != line || !utf8.ValidString(line) || len(line) > 10*maxText {
				t.Errorf("not printable, or too long: %q", line)
			}
		}
		if len(e.Last) > maxShown {
			t.Errorf("%d lines are shown", len(e.Last))
		}
	})
}
