package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/control"
	"github.com/sallyport/sallyport/policy"
)

const ourSandbox = "3fa85f645717"

// recordOf is a record with events, still being written, and its state folder.
func recordOf(t *testing.T, events ...audit.Event) (*audit.Store, control.Paths) {
	t.Helper()
	paths := control.Paths{State: t.TempDir()}
	store, err := audit.Open(paths.Audit(), audit.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	for _, e := range events {
		if e.Sandbox == "" {
			e.Subject = audit.Subject{Sandbox: ourSandbox, Agent: "claude", Model: "demo", Project: "/p"}
		}
		if _, err := store.Append(e); err != nil {
			t.Fatal(err)
		}
	}
	return store, paths
}

// anAfternoon is what one sandbox did, and beside it what was not its doing.
func anAfternoon() []audit.Event {
	deny, allow := policy.Deny.String(), policy.Allow.String()
	dns := audit.Event{Layer: audit.LayerDNS, Proto: "udp", Host: "api.example.com", Method: "A", Verdict: deny, Rule: "dns"}
	return []audit.Event{
		{Subject: audit.Subject{Sandbox: ourSandbox, Agent: proofAgent}, Layer: audit.LayerDNS, Host: "proof.example", Verdict: deny},
		{Subject: audit.Subject{Sandbox: "000000000000", Agent: "claude"}, Layer: audit.LayerDNS, Host: "neighbour.example", Verdict: deny},
		{Subject: audit.Subject{Sandbox: "pull-1", Agent: "pull"}, Layer: audit.LayerProxy, Host: "hub.example", Port: 443, Verdict: allow},
		dns, dns, dns,
		{Layer: audit.LayerIntercept, Proto: "tcp", Host: "evil\x1b[2J\n.example", Port: 443, Verdict: deny},
		{Layer: audit.LayerPacket, Proto: "udp", Dst: "203.0.113.9:443", Port: 443, Verdict: deny, Count: 7},
		{Layer: audit.LayerPacket, Verdict: deny, Rule: "lost", Lost: 500},
		{Layer: audit.LayerProxy, Proto: "tcp", Method: "CONNECT", Host: "docs.example.org", Port: 443, Verdict: allow},
		{Layer: audit.LayerControl, Proto: "unix", Host: "strix", Verdict: allow, Rule: "model-place"},
		{Layer: audit.LayerModel, Method: "POST", Path: "/v1/messages", Verdict: allow, Status: 200, TokensIn: 900, TokensOut: 100},
		{Layer: audit.LayerModel, Method: "GET", Path: "/health", Verdict: allow, Status: 200},
	}
}

// ended is a session of that sandbox that has ended, and what it says on stderr.
func ended(paths control.Paths, o options) (*agentRun, *bytes.Buffer) {
	var said bytes.Buffer
	o.stderr = &said
	s := &session{options: &o, id: ourSandbox, request: request{agent: "shell"}, progress: newProgress(&said, o.quiet, false),
		caller: caller{folder: "/home/me/\x1b[31mproject", paths: paths}}
	s.model.Name = "demo"
	return &agentRun{session: s, began: time.Now().Add(-90 * time.Second)}, &said
}

func TestSummary(t *testing.T) {
	store, paths := recordOf(t, anAfternoon()...)
	r, said := ended(paths, options{})
	if err := r.summarize(t.Context()); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.Trim(said.String(), "\n"), "\n")
	if len(lines) != 9 {
		t.Fatalf("%s", said)
	}
	for i, start := range []string{
		"1m30s, 1 model requests, 900 tokens in, 100 out",
		"let through by your rules: 1 attempts",
		"refused: 11 attempts",
		"  7 × 203.0.113.9:443 (",
		"  3 × api.example.com (dns)",
		`  1 × evil\x1b[2j\x0a.example:443 (intercept)`,
		"  and 500 ",
		"more: gateway audit --denied --sandbox 3fa85f645717",
		"record head: ",
	} {
		if !strings.HasPrefix(lines[i], start) {
			t.Errorf("%q, want %q", lines[i], start)
		}
	}
	// The two further questions for the same name are not in the chain yet. The
	// head holds what is, also after the record has grown.
	head := strings.TrimPrefix(lines[8], "record head: ")
	if head != store.Head().String() {
		t.Errorf("%s, and the store says %s", head, store.Head())
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	report, err := audit.Verify(t.Context(), paths.Audit(), head)
	if err != nil || !report.OK {
		t.Errorf("%+v, %v", report, err)
	}
}

func TestSummaryOfNothing(t *testing.T) {
	_, paths := recordOf(t, anAfternoon()[:3]...)
	r, said := ended(paths, options{})
	if err := r.summarize(t.Context()); err != nil || !strings.HasPrefix(said.String(), "\n1m30s, 0 model requests, 0 tokens in, 0 out\nnothing else was tried\nrecord head: 3:") {
		t.Errorf("%v: %s", err, said)
	}
}

func TestSummaryAsJSON(t *testing.T) {
	store, paths := recordOf(t, anAfternoon()...)
	r, said := ended(paths, options{quiet: true, summary: summaryJSON})
	if err := r.summarize(t.Context()); err != nil {
		t.Fatal(err)
	}
	line := said.String()
	if !strings.HasPrefix(line, `{"summary":1,"sandbox":"3fa85f645717","agent":"shell","model":"demo","project":"/home/me/\\x1b[31mproject",`) || strings.Count(line, "\n") != 1 {
		t.Error(line)
	}
	if strings.Trim(line, "\n") != audit.Printable(strings.Trim(line, "\n")) {
		t.Errorf("a terminal obeys %q", line)
	}
	var s summaryLine
	in := json.NewDecoder(said)
	in.DisallowUnknownFields()
	if err := in.Decode(&s); err != nil {
		t.Fatal(err)
	}
	if s.ModelRequests != 1 || s.TokensIn != 900 || s.TokensOut != 100 || s.Allowed != 1 || s.Refused != 11 || s.Lost != 500 || s.Open != 2 ||
		len(s.Destinations) != 3 || s.More != 0 || s.Head != store.Head().String() || s.Record != paths.Audit() || s.Error != "" || s.Seconds < 90 {
		t.Errorf("%+v", s)
	}
}

// The list of destinations has a bound, the sum has none.
func TestSummaryOfManyDestinations(t *testing.T) {
	var events []audit.Event
	for i := range 150 {
		events = append(events, audit.Event{Layer: audit.LayerDNS, Host: fmt.Sprint("x", i, ".example"), Verdict: policy.Deny.String()})
	}
	_, paths := recordOf(t, events...)
	r, said := ended(paths, options{summary: summaryJSON})
	if err := r.summarize(t.Context()); err != nil {
		t.Fatal(err)
	}
	var s summaryLine
	if err := json.Unmarshal(said.Bytes(), &s); err != nil || s.Refused != 150 || len(s.Destinations) != 100 || s.More != 50 {
		t.Errorf("%v: %+v", err, s)
	}
}

// A record that cannot be read is an error, and programs get a line all the same:
// without it they would take an agent's own line for ours.
func TestSummaryWithoutRecord(t *testing.T) {
	for _, format := range []summaryFormat{summaryText, summaryJSON, summaryNone} {
		r, said := ended(control.Paths{State: t.TempDir()}, options{summary: format})
		if err := r.summarize(t.Context()); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", format, err)
		}
		var s summaryLine
		if format != summaryJSON {
			if said.Len() > 0 {
				t.Errorf("%s: %s", format, said)
			}
		} else if err := json.Unmarshal(said.Bytes(), &s); err != nil || s.Head != "" || !strings.Contains(s.Error, "read the record: ") || s.Destinations == nil {
			t.Errorf("%v: %s", err, said)
		}
	}
}

func TestSummaryFormat(t *testing.T) {
	for _, test := range []struct {
		quiet       bool
		asked, want summaryFormat
	}{
		{false, "", summaryText}, {true, "", summaryNone}, {true, summaryText, summaryText}, {true, summaryJSON, summaryJSON}, {false, summaryNone, summaryNone},
	} {
		o := options{quiet: test.quiet, summary: test.asked}
		if got := o.summaryFormat(); got != test.want {
			t.Errorf("%+v: %s", test, got)
		}
	}
	_, paths := recordOf(t, anAfternoon()...)
	for _, o := range []options{{quiet: true}, {summary: summaryNone}} {
		r, said := ended(paths, o)
		if err := r.summarize(t.Context()); err != nil || said.Len() > 0 {
			t.Errorf("%v: %s", err, said)
		}
	}
}

// The proof's own attempts are in the record before the agent may start: that of
// UDP too, which the wall tells of a moment later.
func TestProofIsRecordedBeforeTheAgentStarts(t *testing.T) {
	proof := func(layer audit.Layer, proto string) audit.Event {
		return audit.Event{Subject: audit.Subject{Sandbox: ourSandbox, Agent: proofAgent}, Layer: layer, Proto: proto, Verdict: policy.Deny.String()}
	}
	store, paths := recordOf(t, proof(audit.LayerIntercept, "tcp"), proof(audit.LayerDNS, "udp"), proof(audit.LayerProxy, "tcp"),
		proof(audit.LayerPacket, "icmpv6"), audit.Event{Layer: audit.LayerPacket, Proto: "udp", Verdict: policy.Deny.String()})
	record, err := audit.OpenReader(paths.Audit())
	if err != nil {
		t.Fatal(err)
	}
	defer record.Close()
	if missing, err := proofMissing(t.Context(), record, ourSandbox); err != nil || !slices.Equal(missing, []string{"packet"}) {
		t.Errorf("%v, %v", missing, err)
	}
	if _, err := store.Append(proof(audit.LayerPacket, "udp")); err != nil {
		t.Fatal(err)
	}
	if missing, err := proofMissing(t.Context(), record, ourSandbox); err != nil || len(missing) > 0 {
		t.Errorf("%v, %v", missing, err)
	}
	s := &session{id: ourSandbox, caller: caller{paths: paths}, options: &options{process: process{stderr: io.Discard}}}
	if err := s.awaitRecord(t.Context()); err != nil {
		t.Error(err)
	}
}
