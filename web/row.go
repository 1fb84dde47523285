package web

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/view"
)

// row is one event in a list. All text is printable.
type row struct {
	ID                string
	Time, Stamp       string // as shown, and in full
	Denied, Open, New bool
	Lost              bool
	How, What         string // "dns", "A api.example.com"
	Process           string
	Parents           string // "bash ‹ claude"
	Unknown           string // why the process is not known
	Sandbox, Project  string // id, the folder's last name
	Why               string
	Times             string // "×12"; empty: once
	Here              bool   // the event whose page this is
}

func (s *Server) newRow(e audit.Event, novel map[string]bool) row {
	how, what, found := strings.Cut(view.What(e), " ")
	if !found {
		how, what = string(e.Layer), how
	}
	r := row{ID: audit.Printable(e.ID), Time: clock(e.Time, s.now(), s.loc()), Stamp: s.stamp(e.Time), Denied: e.Denied(), Open: e.Open, Lost: e.Lost > 0,
		How: audit.Printable(how), What: what, Sandbox: audit.Printable(e.Sandbox), Why: view.Why(e), Times: view.Times(e)}
	if e.Project != "" {
		r.Project = audit.Printable(filepath.Base(e.Project))
	}
	if r.Why == "" && e.TokensOut > 0 {
		r.Why = fmt.Sprintf("%s tokens in, %s out", number(e.TokensIn), number(e.TokensOut))
	}
	r.New = r.Denied && novel[noveltyKey(e.Project, audit.Target(e))]
	r.Process, r.Parents, r.Unknown = processCell(e.Process)
	return r
}

// processCell is the executable's name, its parents', and why it is not known.
func processCell(p *audit.Process) (name, parents, unknown string) {
	if p == nil {
		return "", "", ""
	}
	text := view.Process(p)
	if strings.HasPrefix(text, "unknown: ") || p.Exe == "" {
		return "", "", audit.Printable(strings.TrimPrefix(text, "unknown: "))
	}
	name, parents, _ = strings.Cut(text, " < ")
	return name, strings.ReplaceAll(parents, " < ", " ‹ "), audit.Printable(p.Unknown)
}

func noveltyKey(project, target string) string { return project + "\x00" + target }

// stamp is a time in full.
func (s *Server) stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.In(s.loc()).Format("2006-01-02 15:04:05.000 MST")
}
