package battery

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/sallyport/sallyport/verify/probe"
)

// Report is what `gateway verify` prints.
type Report struct {
	Run    string    `json:"run"`
	Engine string    `json:"engine"`
	Kernel string    `json:"kernel"`
	Runs   []UserRun `json:"runs"`
	// Touched says what arrived where nothing of a sandbox may: at listeners of
	// verify's own, or at its model server. Each line is a failure.
	Touched []string `json:"touched"`
}

// UserRun is the battery as one user.
type UserRun struct {
	User    string   `json:"user"`
	Sandbox string   `json:"sandbox"`
	Counts  Counts   `json:"counts"`
	Results []Result `json:"results"`
}

// OK says that nothing got out and nothing is open.
func (r Report) OK() bool {
	ok := len(r.Runs) > 0 && len(r.Touched) == 0
	for _, u := range r.Runs {
		ok = ok && u.Counts.OK()
	}
	return ok
}

// WriteJSON prints the report as one document.
func (r Report) WriteJSON(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(r)
}

// style marks a word for a terminal; plain returns it as it is.
type style func(v Verdict, word string) string

var words = [...]string{Recorded: "blocked", StoppedInside: "inside", NotApplicable: "n/a", Failed: "FAILED", NotProven: "UNPROVEN"}

// Write prints the report for people, each line at most width columns wide; zero: as
// long as it is. mark may be nil.
func (r Report) Write(w io.Writer, width int, mark style) error {
	out := &printer{w: w, width: width}
	for _, u := range r.Runs {
		out.line("as %s, in sandbox %s", u.User, u.Sandbox)
		for _, g := range Groups {
			r.group(out, u, g, mark)
		}
		out.line("")
	}
	for _, t := range r.Touched {
		out.line("REACHED  %s", t)
	}
	for _, u := range r.Runs {
		out.whole("as %s: %s", u.User, u.Counts)
	}
	return out.err
}

func (r Report) group(out *printer, u UserRun, g probe.Group, mark style) {
	first := true
	for _, result := range u.Results {
		if result.Group != g {
			continue
		}
		if first {
			out.line("%s", g)
			first = false
		}
		word := fmt.Sprintf("%-8s", words[result.Verdict])
		prefix := fmt.Sprintf("  %s %-32s ", word, result.Name)
		if mark != nil {
			prefix = fmt.Sprintf("  %s %-32s ", mark(result.Verdict, word), result.Name)
			out.spare = len(mark(result.Verdict, word)) - len(word)
		}
		out.line("%s%s", prefix, result.How)
		out.spare = 0
		if result.Verdict == Failed || result.Verdict == NotProven {
			out.line("  %8s why it matters: %s (%s)", "", result.Why, result.Source)
		}
	}
}

// printer writes lines, cut to the width, and keeps the first error.
type printer struct {
	w     io.Writer
	width int
	spare int // bytes of the next line that take no column
	err   error
}

func (p *printer) line(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if runes := []rune(text); p.width > 0 && len(runes) > p.width+p.spare {
		text = string(runes[:p.width+p.spare-1]) + "…"
	}
	p.whole("%s", text)
}

func (p *printer) whole(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}

// WriteList prints results that were not run: what the probes are.
func WriteList(w io.Writer, results []Result) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(results)
}
