package audit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// MaxField is how many bytes of any one string are kept, the mark of a cut
// included. A DNS name (at most 255 bytes, 1016 when all of them are escaped)
// is kept whole.
const MaxField = 2048

// maxParents is how many of a process's parents are kept, the nearest.
const maxParents = 32

// bound bounds every string of e and makes it UTF-8. What e points to is left as
// it was: e gets a copy.
func bound(e Event) Event {
	for _, s := range ownTexts(&e) {
		*s = field(*s)
	}
	e.Layer = Layer(field(string(e.Layer)))
	if e.Process == nil {
		return e
	}
	p := *e.Process
	p.Exe, p.Command, p.Unknown = field(p.Exe), field(p.Command), field(p.Unknown)
	p.Parents = slices.Clone(p.Parents[:min(len(p.Parents), maxParents)])
	for i := range p.Parents {
		p.Parents[i].Name = field(p.Parents[i].Name)
	}
	e.Process = &p
	return e
}

// texts are all strings of e but its layer.
func texts(e *Event) []*string {
	own := ownTexts(e)
	all := own[:]
	if p := e.Process; p != nil {
		all = append(all, &p.Exe, &p.Command, &p.Unknown)
		for i := range p.Parents {
			all = append(all, &p.Parents[i].Name)
		}
	}
	return all
}

// ownTexts are those of texts that are no process's: an array, which needs no
// memory of its own.
func ownTexts(e *Event) [17]*string {
	return [...]*string{
		&e.ID, &e.Sandbox, &e.Agent, &e.Model, &e.Project, &e.Proto, &e.Src, &e.Dst, &e.Host, &e.SNI,
		&e.Method, &e.Path, &e.Verdict, &e.Rule, &e.Reason, &e.Session, &e.RepeatOf,
	}
}

// field returns s as it is stored: bytes that are not UTF-8 as \xNN (a text that
// has such four characters already looks the same), and cut at MaxField with a
// mark that says how long s was. Stored again, it does not change.
func field(s string) string {
	if len(s) <= MaxField && utf8.ValidString(s) {
		return s
	}
	mark := "…[cut, " + strconv.Itoa(len(s)) + " bytes]"
	var b strings.Builder
	fits := 0 // the length that leaves room for the mark
	for rest := s; rest != ""; {
		r, n := utf8.DecodeRuneInString(rest)
		piece := rest[:n]
		if r == utf8.RuneError && n == 1 {
			piece = fmt.Sprintf(`\x%02x`, rest[0])
		}
		if b.Len()+len(piece) > MaxField {
			return b.String()[:fits] + mark
		}
		b.WriteString(piece)
		if b.Len() <= MaxField-len(mark) {
			fits = b.Len()
		}
		rest = rest[n:]
	}
	return b.String()
}

// Encode returns e as its line of JSON, newline included. All but printable
// ASCII is escaped where it could act on a terminal (see Printable), so that a
// line may be shown as it is.
func Encode(e Event) ([]byte, error) {
	line, err := appendBody(make([]byte, 0, 1024), &e)
	return append(line, '\n'), err
}

// appendBody appends e as Encode gives it, without the newline.
func appendBody(b []byte, e *Event) ([]byte, error) {
	if line, ok := appendEvent(b, e); ok {
		return line, nil
	}
	line, err := encodeByLibrary(*e)
	return append(b, line...), err
}

// encodeByLibrary is what appendEvent has to give.
func encodeByLibrary(e Event) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(e); err != nil {
		return nil, fmt.Errorf("encode event: %w", err)
	}
	line := bytes.TrimSuffix(b.Bytes(), []byte("\n"))
	if harmless(string(line)) {
		return line, nil
	}
	// Outside of strings JSON is ASCII: whatever needs it is inside of one.
	safe := make([]byte, 0, len(line)+32)
	for _, r := range string(line) {
		if visible(r) {
			safe = utf8.AppendRune(safe, r)
			continue
		}
		for _, unit := range utf16.AppendRune(nil, r) {
			safe = fmt.Appendf(safe, `\u%04x`, unit)
		}
	}
	return safe, nil
}
