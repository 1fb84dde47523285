package audit

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/sallyport/sallyport/policy"
)

// maxGroups bounds the destinations that a Summary tells apart.
const maxGroups = 4096

// Summary counts what a session did. Its zero value is ready.
type Summary struct {
	ModelRequests int64 // allowed POST requests at the model endpoint
	TokensIn      int64
	TokensOut     int64
	Attempts      int64 // refused ones, in all
	groups        map[group]*Refusal
	ungrouped     int64 // attempts at destinations beyond maxGroups
}

type group struct{ what, how string }

// Refusal is what was refused at one destination.
type Refusal struct {
	What     string // host, address, or method and path: printable
	How      string // the layer; of packets the protocol
	Attempts int64  // zero: the first attempt was not among the events
	Packets  int64  // of packet flows
}

// Summarize counts all events.
func Summarize(events []Event) Summary {
	var s Summary
	for _, e := range events {
		s.Add(e)
	}
	return s
}

// Add counts one event.
func (s *Summary) Add(e Event) {
	count := max(e.Count, 1)
	if !e.denied() {
		if e.Layer == LayerModel && e.Method == "POST" {
			s.ModelRequests += count
		}
		s.TokensIn += e.TokensIn
		s.TokensOut += e.TokensOut
		return
	}
	attempts, packets := count, int64(0)
	if e.Layer == LayerPacket {
		attempts, packets = 1, count
		if e.RepeatOf != "" {
			attempts = 0
		}
	}
	s.Attempts += attempts
	r := s.refusal(e)
	if r == nil {
		s.ungrouped += attempts
		return
	}
	r.Attempts += attempts
	r.Packets += packets
}

func (s *Summary) refusal(e Event) *Refusal {
	key := group{what: target(e), how: how(e)}
	if r := s.groups[key]; r != nil {
		return r
	}
	if len(s.groups) >= maxGroups {
		return nil
	}
	if s.groups == nil {
		s.groups = map[group]*Refusal{}
	}
	r := &Refusal{What: Printable(key.what), How: Printable(key.how)}
	s.groups[key] = r
	return r
}

// Refused lists the refusals, most attempts first.
func (s *Summary) Refused() []Refusal {
	all := slices.Collect(maps.Values(s.groups))
	slices.SortFunc(all, func(a, b *Refusal) int {
		return cmp.Or(
			cmp.Compare(b.Attempts, a.Attempts),
			cmp.Compare(b.Packets, a.Packets),
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
	refused := s.Refused()
	var lines []string
	listed := int64(0)
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
	return lines
}

// line is as "3 × api.example.com (dns)" or "1 × 203.0.113.9:443 (udp, 4 packets)".
func (r Refusal) line(width int) string {
	before := strconv.FormatInt(r.Attempts, 10) + " × "
	after := " (" + r.How + ")"
	if r.Packets > r.Attempts {
		after = fmt.Sprintf(" (%s, %d packets)", r.How, r.Packets)
	}
	if width <= 0 {
		return before + r.What + after
	}
	return shorten(before+shorten(r.What, max(width-columns(before+after), 1))+after, width)
}

func (e Event) denied() bool {
	return e.Verdict != policy.Allow.String()
}

// target names what an attempt was aimed at, in one form for all attempts at it.
// It may hold any character.
func target(e Event) string {
	switch {
	case e.Layer == LayerModel:
		return cmp.Or(strings.TrimSpace(e.Method+" "+e.Path), e.Host, e.Dst)
	case e.Host == "":
		return cmp.Or(e.Dst, e.Reason)
	case e.Layer == LayerDNS || e.Port == 0:
		return strings.ToLower(e.Host)
	}
	return strings.ToLower(hostPort(e))
}

func hostPort(e Event) string {
	if e.Port == 0 {
		return e.Host
	}
	host := e.Host
	if strings.Contains(host, ":") && !strings.HasPrefix(host, "[") {
		host = "[" + host + "]"
	}
	return host + ":" + strconv.Itoa(int(e.Port))
}

// how says by which way: the layer, and of packets the protocol.
func how(e Event) string {
	if e.Layer != LayerPacket {
		return string(e.Layer)
	}
	if _, err := strconv.Atoi(e.Proto); err == nil {
		return "protocol " + e.Proto
	}
	return cmp.Or(e.Proto, string(LayerPacket))
}
