package main

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/view"
	"github.com/spf13/cobra"
)

// summaryFormat is how the summary at the end of a session looks. Empty: text,
// or none with --quiet.
type summaryFormat string

const (
	summaryText summaryFormat = "text"
	summaryJSON summaryFormat = "json"
	summaryNone summaryFormat = "none"
)

// String implements pflag.Value.
func (f *summaryFormat) String() string { return string(*f) }

// Type implements pflag.Value.
func (f *summaryFormat) Type() string { return "format" }

// Set implements pflag.Value.
func (f *summaryFormat) Set(s string) error {
	switch summaryFormat(s) {
	case summaryText, summaryJSON, summaryNone:
		*f = summaryFormat(s)
		return nil
	}
	return fmt.Errorf("it is %s, %s or %s", summaryText, summaryJSON, summaryNone)
}

// summaryFlag adds --summary to a command that ends with one.
func (o *options) summaryFlag(c *cobra.Command) *cobra.Command {
	c.Flags().Var(&o.summary, "summary", "`FORMAT` of what is said on stderr at the end: text, json or none (default: text, with --quiet none)")
	err := c.RegisterFlagCompletionFunc("summary", cobra.FixedCompletions(
		[]cobra.Completion{string(summaryText), string(summaryJSON), string(summaryNone)}, cobra.ShellCompDirectiveNoFileComp))
	if err != nil {
		panic(err) // the flag was added above
	}
	return c
}

// summaryFormat is the format that was asked for.
func (o *options) summaryFormat() summaryFormat {
	switch {
	case o.summary != "":
		return o.summary
	case o.quiet:
		return summaryNone
	}
	return summaryText
}

const (
	summaryVersion = 1   // of summaryLine
	summaryListed  = 100 // destinations in a summaryLine; more are counted
)

// summaryLine is the summary for programs: one line, no character of which does
// anything to a terminal. Field names are stable.
type summaryLine struct {
	Version       int            `json:"summary"` // first, so that the line can be told from an agent's output
	Sandbox       string         `json:"sandbox"`
	Agent         string         `json:"agent"`
	Model         string         `json:"model"`
	Project       string         `json:"project"`
	Began         time.Time      `json:"began"`
	Seconds       float64        `json:"seconds"`
	ModelRequests int64          `json:"model_requests"`
	TokensIn      int64          `json:"tokens_in"`
	TokensOut     int64          `json:"tokens_out"`
	Allowed       int64          `json:"allowed"` // attempts that a rule let through, beside the model's
	Refused       int64          `json:"refused"` // attempts
	Lost          int64          `json:"lost"`    // more of them, known by their number only
	Open          int64          `json:"open"`    // of Refused: repeats that are still being counted
	Destinations  []view.Refusal `json:"destinations"`
	More          int64          `json:"more"`   // of Refused: at destinations that are not listed
	Head          string         `json:"head"`   // of the record; empty: it could not be read
	Record        string         `json:"record"` // its file
	Error         string         `json:"error,omitempty"`
}

// encode is a for programs; err is why it may be wrong, nil: it is right.
func (r *agentRun) encode(a account, err error) summaryLine {
	s := summaryLine{
		Version: summaryVersion, Sandbox: r.session.id, Agent: r.request.agent, Model: audit.Printable(r.model.Name),
		Project: audit.Printable(r.caller.folder), Began: r.began.UTC(), Seconds: a.took.Seconds(),
		ModelRequests: a.ModelRequests, TokensIn: a.TokensIn, TokensOut: a.TokensOut,
		Allowed: a.allowed, Refused: a.Attempts, Lost: a.Lost, Open: a.open, Destinations: a.Refused(), More: a.Attempts,
		Record: audit.Printable(r.caller.paths.Audit()),
	}
	s.Destinations = s.Destinations[:min(len(s.Destinations), summaryListed)]
	for _, d := range s.Destinations {
		s.More -= d.Attempts
	}
	if a.head != (audit.Head{}) {
		s.Head = a.head.String()
	}
	if err != nil {
		s.Error = audit.Printable(err.Error())
	}
	return s
}

// write writes s as one line.
func (s summaryLine) write(w io.Writer) error {
	out := json.NewEncoder(w)
	out.SetEscapeHTML(false)
	return out.Encode(s)
}
