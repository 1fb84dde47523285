package view

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/sallyport/sallyport/audit"
)

// maxGroups bounds the destinations that a Summary tells apart.
const maxGroups = 4096

// Summary counts what a session did. Its zero value is ready.
type Summary struct {
	ModelRequests int64 // allowed POST requests at the model endpoint
	TokensIn      int64
	TokensOut     int64
	Attempts      int64 // refused ones, in all; of packets each
	Lost          int64 // more of them, known by their number alone
	groups        map[group]*Refusal
	ungrouped     int64 // attempts at destinations beyond maxGroups
}

type group struct{ what, how string }

// Refusal is what was refused at one destination.
type Refusal struct {
	What     string `json:"what"` // host, address, or method and path: printable
	How      string `json:"how"`  // the layer; of packets the protocol
	Attempts int64  `json:"attempts"`
}

// Summarize counts all events.
func Summarize(events []audit.Event) Summary {
	var s Summary
	for _, e := range events {
		s.Add(e)
	}
	return s
}

// Add counts one event.
func (s *Summary) Add(e audit.Event) {
	count := e.Count // zero: a note of the record about itself
	switch {
	case e.Lost > 0:
		s.Lost += e.Lost
		return
	case !e.Denied():
		if e.Layer == audit.LayerModel && e.Method == "POST" {
			s.ModelRequests += count
		}
		s.TokensIn += e.TokensIn
		s.TokensOut += e.TokensOut
		return
	}
	s.Attempts += count
	if r := s.refusal(e); r != nil {
		r.Attempts += count
	} else {
		s.ungrouped += count
	}
}

func (s *Summary) refusal(e audit.Event) *Refusal {
	key := group{what: audit.Target(e), how: how(e)}
	if r := s.groups[key]; r != nil {
		return r
	}
	if len(s.groups) >= maxGroups {
		return nil
	}
	if s.groups == nil {
		s.groups = map[group]*Refusal{}
	}
	r := &Refusal{What: audit.Printable(key.what), How: audit.Printable(key.how)}
	if e.Layer == audit.LayerPacket {
		r.How += " packets"
	}
	s.groups[key] = r
	return r
}

// Refused lists the refusals, most attempts first.
func (s *Summary) Refused() []Refusal {
	all := slices.Collect(maps.Values(s.groups))
	slices.SortFunc(all, func(a, b *Refusal) int {
		return cmp.Or(
			cmp.Compare(b.Attempts, a.Attempts),
			cmp.Compare(a.What, b.What),
			cmp.Compare(a.How, b.How),
		)
	})
	refused := make([]Refusal, len(all))
	for i, r := range all {
		refused[i] = *r
	}
	return refused
}

// Lines says what was refused, a line each: the first top ones, and how many
// more there are. width is that of the terminal; zero: lines are not cut.
func (s *Summary) Lines(top, width int) []string {
	var lines []string
	refused, listed := s.Refused(), int64(0)
	for _, r := range refused[:min(max(top, 0), len(refused))] {
		lines = append(lines, r.line(width))
		listed += r.Attempts
	}
	switch more := len(refused) - len(lines); {
	case s.ungrouped > 0:
		lines = append(lines, fmt.Sprintf("and more than %d others (%d attempts)", more, s.Attempts-listed))
	case more > 0:
		lines = append(lines, fmt.Sprintf("and %d more (%d attempts)", more, s.Attempts-listed))
	}
	if s.Lost > 0 {
		lines = append(lines, fmt.Sprintf("and %d of which only the number is known", s.Lost))
	}
	return lines
}

// line is as "3 × api.example.com (dns)" or "4 × 203.0.113.9:443 (udp packets)".
func (r Refusal) line(width int) string {
	before := strconv.FormatInt(r.Attempts, 10) + " × "
	after := " (" + r.How + ")"
	if width <= 0 {
		return before + r.What + after
	}
	return Shorten(before+Shorten(r.What, max(width-Cells(before+after), 1))+after, width)
}
