package view

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/audit"
)

// Details is all that is known of one event, a name and a value each, in an order
// to be read. Values are printable; those that are empty are left out.
func Details(e audit.Event, loc *time.Location) [][2]string {
	s := Screen{Loc: loc}
	rows := [][2]string{
		{"event", e.ID}, {"time", s.time(e.Time, "2006-01-02 15:04:05.000000 MST")}, {"verdict", e.Verdict},
		{"what", What(e)}, {"why", e.Reason}, {"rule", e.Rule},
		{"sandbox", e.Sandbox}, {"agent", e.Agent}, {"model", e.Model}, {"project", e.Project}, {"session", e.Session},
	}
	rows = append(rows, processRows(e.Process)...)
	rows = append(rows, [][2]string{
		{"layer", string(e.Layer)}, {"protocol", e.Proto}, {"from", e.Src}, {"to", e.Dst}, {"host", hostPort(e)}, {"TLS name", claim(e.SNI)},
		{"method", e.Method}, {"path", e.Path}, {"status", positive(int64(e.Status))},
		{"bytes in", positive(e.BytesIn)}, {"bytes out", positive(e.BytesOut)}, {"duration", duration(e.Duration)},
		{"tokens in", positive(e.TokensIn)}, {"tokens out", positive(e.TokensOut)}, {"first token", duration(e.FirstToken)},
	}...)
	rows = append(rows, countRows(e, s)...)
	var there [][2]string
	for _, r := range rows {
		if r[1] != "" {
			there = append(there, [2]string{r[0], audit.Printable(r[1])})
		}
	}
	return there
}

func claim(sni string) string {
	if sni == "" {
		return ""
	}
	return sni + " (the client's claim)"
}

func processRows(p *audit.Process) [][2]string {
	if p == nil {
		return [][2]string{{"process", "not looked for"}}
	}
	rows := [][2]string{{"process", Process(p)}}
	if p.Exe != "" {
		rows = append(rows, [2]string{"executable", p.Exe}, [2]string{"command", p.Command}, [2]string{"uid", strconv.Itoa(p.UID)})
	}
	for i, parent := range p.Parents {
		name := "parents"
		if i > 0 {
			name = "…"
		}
		rows = append(rows, [2]string{name, fmt.Sprintf("%s (pid %d)", parent.Name, parent.PID)})
	}
	return rows
}

// countRows say how many attempts an event stands for.
func countRows(e audit.Event, s Screen) [][2]string {
	count := strconv.FormatInt(e.Count, 10)
	if e.Layer == audit.LayerPacket {
		count += " packets"
	}
	rows := [][2]string{{"count", count}}
	if e.Lost > 0 {
		rows = [][2]string{{"lost", about(e) + " attempts of which only the number is known"}}
	}
	if e.RepeatOf != "" {
		rows = append(rows, [2]string{"repeats", "of event " + e.RepeatOf}, [2]string{"first", s.time(e.First, wholeTime)}, [2]string{"last", s.time(e.Last, wholeTime)})
	}
	if e.Open {
		rows = append(rows, [2]string{"open", "still being counted; not part of the chain yet"})
	}
	return rows
}

func positive(n int64) string {
	if n <= 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

func duration(seconds float64) string {
	if seconds <= 0 {
		return ""
	}
	return time.Duration(seconds * float64(time.Second)).Round(time.Microsecond).String()
}

// Shown is an event with what belongs to it.
type Shown struct {
	Event         audit.Event
	Head          audit.Head    // of the chain at the event; zero: it is not part of it yet
	Before, After []audit.Event // its neighbours, in the order of time
}

// Show writes everything about one event and its neighbours.
func Show(w io.Writer, shown Shown, s Screen) error {
	b := bufio.NewWriter(w)
	rows := Details(shown.Event, s.Loc)
	if shown.Head != (audit.Head{}) {
		rows = append(rows, [2]string{"chain", shown.Head.String()})
	}
	writePairs(b, rows, s)
	if len(shown.Before)+len(shown.After) > 0 {
		line(b, "\n"+s.fit("before and after it:"))
		around := append(append(append([]audit.Event(nil), shown.Before...), shown.Event), shown.After...)
		if err := flush(b, "the event"); err != nil {
			return err
		}
		return writeAround(w, around, len(shown.Before), s)
	}
	return flush(b, "the event")
}

// writeAround writes a table in which one event is marked.
func writeAround(w io.Writer, events []audit.Event, marked int, s Screen) error {
	var text strings.Builder
	inner := s
	if s.Width > 0 {
		inner.Width = max(s.Width-2, 1)
	}
	if err := WriteTable(&text, events, inner); err != nil {
		return err
	}
	b := bufio.NewWriter(w)
	for i, row := range strings.Split(strings.TrimSuffix(text.String(), "\n"), "\n") {
		mark := "  "
		if i == marked+1 {
			mark = "> "
		}
		line(b, s.fit(strings.TrimRight(mark+row, " ")))
	}
	return flush(b, "the neighbours")
}

// writePairs writes names and values, values that are too long on lines of their own.
func writePairs(w io.Writer, rows [][2]string, s Screen) {
	widest := 0
	for _, r := range rows {
		widest = max(widest, Cells(r[0]))
	}
	for _, r := range rows {
		for i, part := range wrap(r[1], s.Width-widest-len(gap)) {
			name := r[0]
			if i > 0 {
				name = ""
			}
			line(w, s.fit(pad(name, widest)+gap+part))
		}
	}
}

// wrap breaks a printable text into lines of at most width cells, between words
// where there are any. Width zero or less: one line.
func wrap(text string, width int) []string {
	if width <= 0 || Cells(text) <= width {
		return []string{text}
	}
	var lines []string
	current := ""
	for _, word := range strings.Fields(text) {
		for Cells(word) > width { // it is broken
			if current != "" {
				lines, current = append(lines, current), ""
			}
			head := firstCells(word, width)
			lines, word = append(lines, head), word[len(head):]
		}
		switch {
		case current == "":
			current = word
		case Cells(current)+1+Cells(word) <= width:
			current += " " + word
		default:
			lines, current = append(lines, current), word
		}
	}
	if current != "" {
		lines = append(lines, current)
	}
	return lines
}

// firstCells is as much of s's begin as takes at most width cells, at least one
// character.
func firstCells(s string, width int) string {
	n := 0
	for i, r := range s {
		if n += cells(r); n > width && i > 0 {
			return s[:i]
		}
	}
	return s
}
