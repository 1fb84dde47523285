package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/containers"
	"github.com/sallyport/sallyport/models/hub"
	"github.com/sallyport/sallyport/models/server"
	"github.com/sallyport/sallyport/terminal"
)

// meter shows something that takes its time: on a terminal as one line that is
// rewritten in place, elsewhere as a line whenever another stage begins.
type meter struct {
	w      io.Writer
	quiet  bool
	width  func() int // columns of the terminal; nil: it is none
	name   string     // of what is done: "model"
	stage  string     // that was shown last
	drawn  bool       // a line stands that is to be rewritten
	colour bool
}

func (p *progress) meter(name string) *meter {
	m := &meter{w: p.w, quiet: p.quiet, name: name, colour: p.colour}
	if f, ok := p.w.(*os.File); ok && terminal.IsTerminal(f) {
		m.width = func() int { return columns(f) }
	}
	return m
}

// columns is the width of the terminal behind f; zero: there is none.
func columns(f *os.File) int {
	t, err := terminal.Open(f, f)
	if err != nil {
		return 0
	}
	size, err := t.Size()
	if err != nil {
		return 0
	}
	return int(size.Width)
}

// show shows how far it is. percent is below zero where that is not known, left
// likewise.
func (m *meter) show(stage, text string, percent int, elapsed, left time.Duration) {
	switch {
	case m.quiet:
	case m.width != nil:
		m.draw(text, percent, elapsed, left)
	case stage != m.stage:
		fmt.Fprintf(m.w, "   %-9s %s (%s)\n", m.name, text, timing(elapsed, left))
	}
	m.stage = stage
}

// barWidth is the columns of a bar.
const barWidth = 24

func (m *meter) draw(text string, percent int, elapsed, left time.Duration) {
	bar := ""
	if percent >= 0 {
		percent = min(percent, 100)
		full := percent * barWidth / 100
		bar = fmt.Sprintf("%s%s %3d %%  ", strings.Repeat("█", full), strings.Repeat("░", barWidth-full), percent)
	}
	line := fmt.Sprintf("   %-9s %s%s  %s", m.name, bar, text, timing(elapsed, left))
	if width := m.width(); width > 1 && utf8.RuneCountInString(line) >= width {
		line = string([]rune(line)[:width-1]) // a line that wraps cannot be rewritten
	}
	if m.colour {
		line = "\x1b[2m" + line + "\x1b[0m"
	}
	fmt.Fprintf(m.w, "\r%s\x1b[K", line)
	m.drawn = true
}

// end removes the line that is rewritten; what follows has the line to itself.
func (m *meter) end() {
	if m.drawn {
		fmt.Fprint(m.w, "\r\x1b[K")
		m.drawn = false
	}
}

// note says something between.
func (m *meter) note(format string, args ...any) {
	m.end()
	if !m.quiet {
		fmt.Fprintf(m.w, "   %s\n", printable(fmt.Sprintf(format, args...)))
	}
}

// loading shows the start of a server.
func (m *meter) loading(p server.Progress) {
	if p.Notice != "" {
		m.note("%s", audit.Printable(p.Notice))
	}
	text := audit.Printable(p.Text)
	if text == "" {
		text = audit.Printable(p.Stage)
	}
	m.show(p.Stage, text, p.Percent, p.Elapsed, p.Left)
}

// pulling shows a pull of weights that began at a time.
func (m *meter) pulling(p hub.Progress, elapsed time.Duration) {
	if p.Note != "" {
		m.note("%s", audit.Printable(p.Note))
	}
	percent, text := -1, pullStage(p.Stage)
	if p.Total > 0 {
		percent = int(p.Bytes * 100 / p.Total)
		text += fmt.Sprintf(", %s of %s, %d of %d files", gigabytes(p.Bytes), gigabytes(p.Total), p.Done, p.Files)
	}
	if p.Rate > 0 {
		text += fmt.Sprintf(", %s/s", megabytes(p.Rate))
	}
	m.show(p.Stage, text, percent, elapsed, time.Duration(p.Left)*time.Second)
}

func pullStage(stage string) string {
	text := map[string]string{hub.StageAsk: "asking the hub", hub.StageCheck: "looking at what is here", hub.StageDownload: "downloading", hub.StageEnd: "finishing"}[stage]
	if text == "" {
		return audit.Printable(stage)
	}
	return text
}

// image shows the pull of an image that began at a time.
func (m *meter) image(p containers.ImageProgress, elapsed time.Duration) {
	percent := -1
	text := fmt.Sprintf("%s, %d of %d layers", strings.ToLower(audit.Printable(p.Status)), p.Done, p.Layers)
	if p.Total > 0 {
		percent = int(p.Bytes * 100 / p.Total)
		text += fmt.Sprintf(", %s of %s", gigabytes(p.Bytes), gigabytes(p.Total))
	}
	m.show("image", text, percent, elapsed, -1)
}

// timing is "1:12, about 0:45 left".
func timing(elapsed, left time.Duration) string {
	if left < time.Second {
		return clock(elapsed)
	}
	return clock(elapsed) + ", about " + clock(left) + " left"
}

// clock is a duration as minutes and seconds, or hours and minutes.
func clock(d time.Duration) string {
	d = max(0, d).Round(time.Second)
	if d >= time.Hour {
		return fmt.Sprintf("%d:%02d h", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%d:%02d", d/time.Minute, d%time.Minute/time.Second)
}

// gigabytes is how a size is written: 1 GB is 10⁹ bytes.
func gigabytes(n int64) string {
	if n < 1e9 {
		return megabytes(float64(n))
	}
	return fmt.Sprintf("%.1f GB", float64(n)/1e9)
}

func megabytes(n float64) string { return fmt.Sprintf("%.1f MB", n/1e6) }
