package web

import (
	"fmt"
	"path/filepath"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/sandbox"
)

// box is one sandbox that runs. All text is printable.
type box struct {
	ID, Project, Agent, Phase string
	Ready                     bool
	Model, Where              string
	Uncontrolled              bool // the model server's network is not ours
	Uptime                    string
	Requests                  int64
	TokensIn, TokensOut       int64
	Speed, FirstToken         string // empty: not known yet
	Refused                   int64
	Link                      string
}

// boxes are the sandboxes that run, with how much each was refused.
func (s *Server) boxes(running []sandbox.State, refused []audit.Group) []box {
	counts := map[string]int64{}
	for _, g := range refused {
		counts[g.Key] = g.Denied
	}
	var all []box
	for _, state := range running {
		b := s.newBox(state)
		b.Refused = counts[state.Sandbox]
		all = append(all, b)
	}
	return all
}

func (s *Server) newBox(state sandbox.State) box {
	u := state.Usage
	b := box{ID: audit.Printable(state.Sandbox), Agent: audit.Printable(state.Agent), Phase: string(state.Phase), Ready: state.Phase == sandbox.Ready,
		Model: audit.Printable(state.Upstream.Name), Where: "this machine", Uncontrolled: !state.Upstream.Controlled,
		Uptime: span(s.now().Sub(state.Since)), Requests: u.Requests, TokensIn: u.TokensIn, TokensOut: u.TokensOut,
		FirstToken: seconds(u.FirstToken), Link: "/events" + query{Since: "all", Sandbox: state.Sandbox}.encode()}
	if state.Project != "" {
		b.Project = audit.Printable(filepath.Base(state.Project))
	}
	if state.Upstream.Host != "" {
		b.Where = audit.Printable(state.Upstream.Host)
	}
	if b.Model == "" {
		b.Model = audit.Printable(state.Model)
	}
	if u.TokensPerSecond > 0 {
		b.Speed = fmt.Sprintf("%.1f", u.TokensPerSecond)
	}
	return b
}
