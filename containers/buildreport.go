package containers

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"

	"github.com/moby/moby/api/types/jsonstream"
)

const (
	buildTail    = 15  // lines of output that go into the error of a failed build
	buildLineMax = 160 // bytes kept of a line of build output
)

// buildReport reads what the classic builder says while it works.
type buildReport struct {
	progress func(string)
	step     int // the last step that began; zero: none did
	tail     []string
	partial  string
}

// read follows the stream to its end. A failed build is an error that carries
// the last lines of output.
func (r *buildReport) read(body io.Reader) error {
	dec := json.NewDecoder(body)
	for {
		var msg jsonstream.Message
		if err := dec.Decode(&msg); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read the engine's build output: %w", err)
		}
		if msg.Error != nil {
			return fmt.Errorf("%s%s", plain(msg.Error.Message), r.lastLines())
		}
		r.output(msg.Stream)
	}
}

// output takes the next piece of output, which may hold several lines or part
// of one.
func (r *buildReport) output(text string) {
	lines := strings.Split(r.partial+text, "\n")
	r.partial = lines[len(lines)-1]
	if len(r.partial) > 4*buildLineMax {
		r.partial = r.partial[:4*buildLineMax]
	}
	for _, line := range lines[:len(lines)-1] {
		line = plain(line)
		if line == "" {
			continue
		}
		var n, of int
		if _, err := fmt.Sscanf(line, "Step %d/%d :", &n, &of); err == nil {
			r.step = n
			r.announce(line, n, of)
		}
		if r.tail = append(r.tail, line); len(r.tail) > buildTail {
			r.tail = r.tail[1:]
		}
	}
}

// announce reports a step that takes time. Our RUN lines begin with a no-op that
// says in words what they do: "RUN : install this; …".
func (r *buildReport) announce(line string, n, of int) {
	_, what, _ := strings.Cut(line, " : ")
	instruction, _, _ := strings.Cut(what, " ")
	if instruction != "FROM" && instruction != "RUN" {
		return
	}
	if words, ok := strings.CutPrefix(what, "RUN : "); ok {
		what, _, _ = strings.Cut(words, ";")
	}
	r.progress(fmt.Sprintf("step %d/%d: %s", n, of, what))
}

func (r *buildReport) lastLines() string {
	if len(r.tail) == 0 {
		return ""
	}
	return "\nlast output:\n  " + strings.Join(r.tail, "\n  ")
}

// plain returns s as one bounded line without what a terminal would obey: the
// output of package scripts is not ours.
func plain(s string) string {
	s = strings.Map(func(c rune) rune {
		switch {
		case c == '\t' || c == '\n' || c == '\r':
			return ' '
		case !unicode.IsPrint(c):
			return -1
		}
		return c
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > buildLineMax {
		s = strings.ToValidUTF8(s[:buildLineMax], "") + "…"
	}
	return s
}
