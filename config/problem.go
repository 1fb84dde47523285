package config

import (
	"fmt"
	"slices"
	"strings"
)

// Problem is one thing that is wrong with the configuration.
type Problem struct {
	Source  string // the file, the environment variable, or the flag
	Line    int    // in the file; zero: none
	Key     string // e.g. "models[0].endpoint"; empty: the file as a whole
	Message string // what is wrong
	Hint    string // what to do; may be empty
}

// String is one line: source, line, key, message and hint.
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.Source)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d", p.Line)
	}
	if p.Key != "" {
		b.WriteString(": " + p.Key)
	}
	b.WriteString(": " + p.Message)
	if p.Hint != "" {
		b.WriteString(" (" + p.Hint + ")")
	}
	return b.String()
}

// Error is every problem of a configuration (the first 100), in the order of its
// lines.
type Error struct {
	Problems []Problem
}

// Error is one line per problem.
func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// maxProblems bounds a report: nobody reads on, and each is compared with the others.
const maxProblems = 100

// report collects problems. It knows where each key was set.
type report struct {
	file     string
	lines    map[string]int    // line of each key in the file
	origin   map[string]string // variable or flag that set a key, if not the file
	empty    []string          // sections without a value
	problems []Problem
}

func newReport(file string) *report {
	return &report{file: file, lines: map[string]int{}, origin: map[string]string{}}
}

// add notes a problem with the value at key, unless that value, a part of it, or
// what it is part of has one already: what follows from a mistake is not said.
func (r *report) add(key, message, hint string) {
	if r.bad(key) || len(r.problems) >= maxProblems {
		return
	}
	p := Problem{Source: r.file, Key: key, Message: message, Hint: hint}
	if from, ok := r.origin[key]; ok {
		p.Source = from
	} else {
		p.Line = r.line(key)
	}
	r.problems = append(r.problems, p)
}

// line returns the line of a key, or of the nearest one above it that has one.
func (r *report) line(key string) int {
	for key != "" {
		if n, ok := r.lines[key]; ok {
			return n
		}
		key = key[:max(strings.LastIndexAny(key, ".["), 0)]
	}
	return 0
}

// bad reports whether key, a part of it, or what it is part of has a problem.
func (r *report) bad(key string) bool {
	return slices.ContainsFunc(r.problems, func(p Problem) bool {
		return within(p.Key, key) || within(key, p.Key)
	})
}

// within reports whether key is outer or a part of it.
func within(key, outer string) bool {
	rest, ok := strings.CutPrefix(key, outer)
	return ok && (outer == "" || rest == "" || rest[0] == '.' || rest[0] == '[')
}

// err returns the problems as an error, or nil.
func (r *report) err() error {
	if len(r.problems) == 0 {
		return nil
	}
	slices.SortStableFunc(r.problems, func(a, b Problem) int { return a.Line - b.Line })
	return &Error{Problems: r.problems}
}
