package web

import (
	"context"
	"encoding/hex"
	"net/http"
	"path"
	"strings"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/view"
)

// neighbours is how many events before and after one its page lists.
const neighbours = 4

// detail is everything about one event.
type detail struct {
	layout
	Row         row
	Facts       [][2]string // names and values
	Chain       []link      // the process and its parents, nearest first
	Command     string      // its arguments
	Explanation view.Explanation
	Seq         int64
	Hash        string
	RepeatOf    string
	JSON        string
	Around      []row // in the order of time, Row among them
	Next, Prev  string
}

type link struct {
	Name string
	PID  int
}

func (s *Server) detail(ctx context.Context, r *http.Request, reader record) (any, error) {
	e, head, err := reader.Event(ctx, r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	before, after, err := reader.Neighbours(ctx, e.ID, neighbours)
	if err != nil {
		return nil, err
	}
	v := s.newDetail(e, head, before, after)
	v.layout = s.layout("Event", r, query{Since: lastDay})
	return v, nil
}

func (s *Server) newDetail(e audit.Event, head audit.Head, before, after []audit.Event) detail {
	v := detail{Row: s.newRow(e, nil), Facts: view.Details(e, s.loc()), Explanation: view.Explain(e), Seq: head.Seq, RepeatOf: audit.Printable(e.RepeatOf)}
	if head.Seq > 0 {
		v.Hash = hex.EncodeToString(head.Hash[:])
	}
	if line, err := audit.Encode(e); err == nil {
		v.JSON = audit.Printable(strings.TrimSpace(string(line)))
	}
	if p := e.Process; p != nil && p.Exe != "" {
		v.Command = audit.Printable(p.Command)
		v.Chain = append(v.Chain, link{audit.Printable(path.Base(p.Exe)), p.PID})
		for _, parent := range p.Parents {
			v.Chain = append(v.Chain, link{audit.Printable(parent.Name), parent.PID})
		}
	}
	here := v.Row
	here.Here = true
	for _, b := range before {
		v.Around = append(v.Around, s.newRow(b, nil))
	}
	v.Around = append(v.Around, here)
	for _, a := range after {
		v.Around = append(v.Around, s.newRow(a, nil))
	}
	for i, r := range v.Around {
		if r.Here && i > 0 {
			v.Prev = "/events/" + v.Around[i-1].ID
		}
		if r.Here && i+1 < len(v.Around) {
			v.Next = "/events/" + v.Around[i+1].ID
		}
	}
	return v
}
