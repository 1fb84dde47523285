package pull

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"unicode"

	"github.com/sallyport/sallyport/models/hub"
)

// maxErrors bounds what is kept of the downloader's stderr, in bytes: its end.
const maxErrors = 4 << 10

// output reads what the downloader writes. Nothing of it is trusted: lines are
// bounded, and those that are none of ours are counted and passed over.
type output struct {
	report func(hub.Progress)
	errors tail

	mu     sync.Mutex
	line   []byte
	long   bool // the rest of the line is thrown away
	end    *hub.Result
	strays int
}

func newOutput(report func(hub.Progress)) *output {
	if report == nil {
		report = func(hub.Progress) {}
	}
	return &output{report: report}
}

// Write takes what the downloader wrote to stdout.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for rest := p; len(rest) > 0; {
		piece, after, ended := bytes.Cut(rest, []byte("\n"))
		rest = after
		if o.long = o.long || len(o.line)+len(piece) > hub.MaxLine; !o.long {
			o.line = append(o.line, piece...)
		}
		if ended {
			o.take()
		}
	}
	return len(p), nil
}

// take takes a whole line.
func (o *output) take() {
	line, long := o.line, o.long
	o.line, o.long = o.line[:0], false
	l, err := hub.ParseLine(line)
	switch {
	case long || err != nil || o.end != nil:
		o.strays++
	case l.Progress != nil:
		o.report(*l.Progress)
	case l.Result != nil:
		o.end = l.Result
	}
}

// result is how the pull ended. What the downloader said of it comes first; err
// is how its process ended.
func (o *output) result(ctx context.Context, err error) (hub.Result, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.end != nil && o.end.Err() != nil {
		return *o.end, o.end.Err()
	}
	if ctx.Err() != nil {
		return hub.Result{}, &hub.Error{Kind: hub.KindInterrupted, Text: "the pull was stopped", Hint: "launcher pull again: it goes on where it stopped"}
	}
	if o.end != nil && err == nil {
		return *o.end, nil
	}
	text := o.errors.text()
	switch {
	case err != nil && text != "":
		return hub.Result{}, fmt.Errorf("the downloader ended early: %w: %s", err, text)
	case err != nil:
		return hub.Result{}, fmt.Errorf("the downloader ended early: %w", err)
	}
	return hub.Result{}, fmt.Errorf("the downloader ended without a word: %s", text)
}

// tail keeps the last bytes that were written to it.
type tail struct {
	mu   sync.Mutex
	data []byte
}

// Write keeps the end of what was written.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.data = append(t.data, p...)
	t.data = t.data[max(0, len(t.data)-maxErrors):]
	return len(p), nil
}

// text is what was kept, as one printable line.
func (t *tail) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n':
			return ' '
		case !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, strings.TrimSpace(strings.ToValidUTF8(string(t.data), "?")))
}
