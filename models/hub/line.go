package hub

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Progress is how far a pull is.
type Progress struct {
	Stage string  `json:"stage"` // one of the Stage constants
	Files int     `json:"files"` // wanted, those that were there already included
	Done  int     `json:"done"`  // of Files
	Total int64   `json:"total"` // bytes of all of them
	Bytes int64   `json:"bytes"` // of Total, that are there
	Rate  float64 `json:"rate"`  // bytes a second, lately; zero: not known yet
	Left  int64   `json:"left"`  // seconds; negative: not known
	Note  string  `json:"note"`  // a line for people, for example why it waits; mostly empty
}

// The stages of a pull, in their order.
const (
	StageAsk      = "ask"      // which files there are
	StageCheck    = "check"    // what is here already
	StageDownload = "download" // the files
	StageEnd      = "end"      // links and the list of files are written
)

// Result is how a pull ended.
type Result struct {
	Snapshot   string `json:"snapshot"`   // its folder below the weights' folder
	Revision   string `json:"revision"`   // commit
	Files      int    `json:"files"`      // wanted
	Bytes      int64  `json:"bytes"`      // of them
	Downloaded int64  `json:"downloaded"` // by this pull
	Kind       Kind   `json:"kind"`       // empty: it succeeded
	Error      string `json:"error"`
	Hint       string `json:"hint"`
}

// Err is the result as an error, nil if the pull succeeded.
func (r Result) Err() error {
	if r.Kind == "" && r.Error == "" {
		return nil
	}
	return &Error{Kind: r.Kind, Text: r.Error, Hint: r.Hint}
}

// ResultOf is what the downloader says of its end. The result r of a failed pull
// is kept as far as it is known.
func ResultOf(r Result, err error) Result {
	if err == nil {
		return r
	}
	r.Kind, r.Error = KindHub, printable(err.Error())
	if e, ok := err.(*Error); ok {
		r.Kind, r.Error, r.Hint = e.Kind, printable(e.Text), printable(e.Hint)
	}
	return r
}

// Line is one line of the downloader's output: one of the two.
type Line struct {
	Progress *Progress `json:"progress,omitempty"`
	Result   *Result   `json:"result,omitempty"`
}

// MaxLine bounds a line, in bytes.
const MaxLine = 16 << 10

// ParseLine reads a line that a container wrote: it is not trusted, so texts are
// cut and made printable, and numbers brought into their range.
func ParseLine(line []byte) (Line, error) {
	var l Line
	if len(line) > MaxLine {
		return l, fmt.Errorf("a line of %d bytes", len(line))
	}
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&l); err != nil {
		return Line{}, fmt.Errorf("a line that is no progress: %s", printable(err.Error()))
	}
	if d.More() || (l.Progress == nil) == (l.Result == nil) {
		return Line{}, fmt.Errorf("a line that is neither progress nor a result")
	}
	if p := l.Progress; p != nil {
		p.clamp()
	}
	if r := l.Result; r != nil {
		r.Snapshot, r.Error, r.Hint, r.Kind = printable(r.Snapshot), printable(r.Error), printable(r.Hint), Kind(printable(string(r.Kind)))
		r.Files, r.Bytes, r.Downloaded = max(r.Files, 0), max(r.Bytes, 0), max(r.Downloaded, 0)
		if !commitHash().MatchString(r.Revision) {
			r.Revision = ""
		}
	}
	return l, nil
}

func (p *Progress) clamp() {
	p.Stage, p.Note = printable(p.Stage), printable(p.Note)
	p.Files = max(p.Files, 0)
	p.Done = min(max(p.Done, 0), p.Files)
	p.Total = max(p.Total, 0)
	p.Bytes = min(max(p.Bytes, 0), p.Total)
	p.Left = max(p.Left, -1)
	if math.IsNaN(p.Rate) || math.IsInf(p.Rate, 0) || p.Rate < 0 {
		p.Rate = 0
	}
}

// maxText bounds a text that came from elsewhere, in bytes.
const maxText = 1000

// printable makes a text that came from elsewhere one line that is safe to show.
func printable(s string) string {
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText], "") + "…"
	}
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}
