package bench

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/bench/field"
)

// Report is all results of one run.
type Report struct {
	Facts   field.Facts `json:"facts"`
	Smoke   bool        `json:"smoke"` // the numbers mean nothing
	Results []Result    `json:"results"`
}

// The lines between which a report is written into a document; what is outside them is
// somebody's prose.
const (
	beginMark = "<!-- measured: begin. make bench writes what is between these two lines. -->"
	endMark   = "<!-- measured: end -->"
)

// document is a new document.
const document = "# Benchmarks\n\n" + beginMark + "\n" + endMark + "\n"

// WriteDocs writes benchmarks.svg, and the report into benchmarks.md, in a folder.
func (r Report) WriteDocs(dir string) error {
	file := filepath.Join(dir, "benchmarks.md")
	old, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		old, err = []byte(document), nil
	}
	if err != nil {
		return fmt.Errorf("the report: %w", err)
	}
	text, err := between(old, r.Markdown())
	if err != nil {
		return fmt.Errorf("the report: %s: %w", file, err)
	}
	return errors.Join(os.WriteFile(file, text, 0o644), os.WriteFile(filepath.Join(dir, "benchmarks.svg"), []byte(r.SVG()), 0o644))
}

// between puts a report between the marks of a document.
func between(text []byte, report string) ([]byte, error) {
	before, rest, begins := bytes.Cut(text, []byte(beginMark+"\n"))
	_, after, ends := bytes.Cut(rest, []byte(endMark))
	if !begins || !ends || bytes.Contains(after, []byte(beginMark)) {
		return nil, fmt.Errorf("the lines %q and %q have to be in it once", beginMark, endMark)
	}
	return bytes.Join([][]byte{before, []byte(beginMark + "\n\n" + report + "\n" + endMark), after}, nil), nil
}

// WriteJSON writes the report to a file, for ReadJSON.
func (r Report) WriteJSON(file string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err == nil {
		err = os.WriteFile(file, append(text, '\n'), 0o644)
	}
	if err != nil {
		return fmt.Errorf("the results: %w", err)
	}
	return nil
}

// Join makes one report of several of the same machine, whose cases may have been
// measured one after the other. A case that is in two of them is the later one's. Which
// cases are of another commit than the first's is said in the report; a checkout with
// changes is none.
func Join(reports ...Report) (whole Report, err error) {
	for i, r := range reports {
		if i == 0 {
			whole = r
			whole.Results = slices.Clone(r.Results)
			continue
		}
		facts := r.Facts
		facts.Date = whole.Facts.Date
		switch facts.Commit = whole.Facts.Commit; {
		case r.Facts.Commit == reports[0].Facts.Commit:
		case strings.HasSuffix(r.Facts.Commit, "+"):
			facts.Commit = r.Facts.Commit // is refused
		default:
			var names []string
			for _, result := range r.Results {
				names = append(names, result.Case.Name)
			}
			whole.Facts.Commit += fmt.Sprintf(" (%s: %s)", strings.Join(names, ", "), r.Facts.Commit)
			facts.Commit = whole.Facts.Commit
		}
		if !reflect.DeepEqual(facts, whole.Facts) || r.Smoke != whole.Smoke {
			return whole, fmt.Errorf("join results: those of %s and of %s are not of the same machine and programs, or of a checkout with changes",
				whole.Facts.Date, r.Facts.Date)
		}
		for _, result := range r.Results {
			at := slices.IndexFunc(whole.Results, func(old Result) bool { return old.Case.Name == result.Case.Name })
			if at < 0 {
				whole.Results = append(whole.Results, result)
			} else {
				whole.Results[at] = result
			}
		}
		if first, _, _ := strings.Cut(whole.Facts.Date, " to "); first != r.Facts.Date {
			whole.Facts.Date = first + " to " + r.Facts.Date
		}
	}
	return whole, nil
}

// ReadJSON reads what WriteJSON wrote.
func ReadJSON(file string) (r Report, err error) {
	text, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err != nil {
		return r, fmt.Errorf("the results: %w", err)
	}
	return r, nil
}
