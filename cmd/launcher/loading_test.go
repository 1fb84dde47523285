package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/containers"
	"github.com/sallyport/sallyport/models/hub"
	"github.com/sallyport/sallyport/models/server"
)

// Without a terminal: a line per stage. On one: a line that is rewritten, never
// wider than the terminal, and gone at the end.
func TestMeter(t *testing.T) {
	steps := func(m *meter) {
		m.loading(server.Progress{Stage: "weights", Text: "loading weights", Percent: 0, Elapsed: 2 * time.Second, Left: -1})
		m.loading(server.Progress{Stage: "weights", Text: "loading weights, 2 of 4", Percent: 50, Elapsed: 61 * time.Second, Left: 62 * time.Second})
		m.loading(server.Progress{Stage: "startup", Text: "evil\x1b]52;c;x\a", Percent: -1, Elapsed: 2 * time.Hour, Left: -1, Notice: "lost\x1b[2J"})
		m.end()
		m.end()
	}
	var out bytes.Buffer
	steps(newProgress(&out, false, false).meter("model"))
	want := "   model     loading weights (0:02)\n   lost\\x1b[2J\n   model     evil\\x1b]52;c;x\\x07 (2:00 h)\n"
	if out.String() != want {
		t.Errorf("got %q\nwant %q", out.String(), want)
	}
	out.Reset()
	steps(newProgress(&out, true, false).meter("model"))
	if out.Len() > 0 {
		t.Errorf("--quiet says %q", out.String())
	}
	m := newProgress(&out, false, false).meter("model")
	m.width = func() int { return 60 }
	steps(m)
	lines := strings.Split(out.String(), "\r")
	for _, line := range lines {
		if visible := strings.Trim(line, "\x1b[K"); len([]rune(visible)) >= 60 || strings.ContainsAny(visible, "\x1b\a") {
			t.Errorf("%q", line)
		}
	}
	if !strings.Contains(lines[2], "████████████░░░░░░░░░░░░  50 %  loading") || lines[len(lines)-1] != "\x1b[K" {
		t.Errorf("%q", lines)
	}
}

func TestMeterOfPulls(t *testing.T) {
	var out bytes.Buffer
	m := newProgress(&out, false, false).meter("weights")
	m.pulling(hub.Progress{Stage: hub.StageDownload, Files: 12, Done: 3, Bytes: 32_600_000_000, Total: 65_200_000_000, Rate: 110e6, Left: 296}, 5*time.Minute)
	m.pulling(hub.Progress{Stage: "x\n", Left: -1}, 0)
	m.image(containers.ImageProgress{Layers: 9, Done: 2, Bytes: 1e9, Total: 8e9, Status: "Downloading\r"}, time.Minute)
	want := "   weights   downloading, 32.6 GB of 65.2 GB, 3 of 12 files, 110.0 MB/s (5:00, about 4:56 left)\n" +
		"   weights   x\\x0a (0:00)\n" +
		"   weights   downloading\\x0d, 2 of 9 layers, 1.0 GB of 8.0 GB (1:00)\n"
	if out.String() != want {
		t.Errorf("got %q\nwant %q", out.String(), want)
	}
}

func TestCopyPrintable(t *testing.T) {
	var out bytes.Buffer
	long := strings.Repeat("x", maxLogLine+5)
	if err := copyPrintable(&out, strings.NewReader("a\tb\r\n\n50%\r100%\n\x1b[2Jx\n"+long+"\nlast")); err != nil {
		t.Fatal(err)
	}
	want := "a        b\n\n50%\n100%\n\\x1b[2Jx\n" + strings.Repeat("x", maxLogLine) + "\nxxxxx\nlast\n"
	if out.String() != want {
		t.Errorf("%.200q", out.String())
	}
}

func TestShellQuote(t *testing.T) {
	if got := shellQuote([]string{"a", "", "b c", "it's", "--x=/y", "$HOME"}); got != `a '' 'b c' 'it'\''s' --x=/y '$HOME'` {
		t.Error(got)
	}
}
