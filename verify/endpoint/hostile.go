package endpoint

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/verify"
	"github.com/sallyport/sallyport/verify/probe"
)

// hostile is a probe of answers that no server may give. The requests are allowed;
// what matters is what the client gets of the answers, and that the endpoint lives.
type hostile struct {
	name, why, source string
	front             front // that passes it on
	// statuses are what the client gets, by the server's behaviour; 0: nothing at all,
	// until the client goes.
	statuses []behaviour
}

type behaviour struct {
	name   string
	status int
	broken bool // the answer is not whole, and the client can tell
}

func hostileProbes() []probe.Probe {
	var probes []probe.Probe
	for _, h := range hostiles {
		probes = append(probes, probe.Probe{Name: h.name, Group: probe.Model, Why: h.why, Source: h.source, Own: behind(h.front, reading{}), Try: h.try})
	}
	return probes
}

var hostiles = []hostile{
	{"model-answer-split", "the server's answer adds fields to the client's, or splits it in two: cookies and caches are the attacker's",
		"RFC 9112 §11.1; CWE-113", front{}, []behaviour{
			{"split-crlf", 200, false}, {"split-lf", 200, false}, {"split-cr", 502, false}, {"split-nul", 502, false}, {"split-escape", 502, false}, {"split-kind", 502, false},
			{"split-space", 200, false}, {"split-colon", 200, false}, {"split-fold", 200, false}, {"split-trailer", 200, false}}},
	{"model-answer-second", "bytes behind an answer are taken for the answer to the next request, of whoever it is", "RFC 9112 §9.2; CWE-444", front{}, []behaviour{
		{"second-length", 200, false}, {"second-chunked", 200, false}, {"second-empty", 204, false}}},
	{"model-answer-redirect", "the client follows the server to an address or a file that it chose", "RFC 9110 §15.4; CWE-601", front{}, []behaviour{
		{"redirect-public", 502, false}, {"redirect-file", 502, false}, {"redirect-folder", 502, false}, {"redirect-choice", 502, false}, {"redirect-unlike", 502, false}}},
	{"model-answer-elsewhere", "fields that lead a client elsewhere, or that it keeps", "RFC 7838 §3 (Alt-Svc); RFC 8297 (early hints)", front{}, []behaviour{
		{"headers", 200, false}, {"early-hints", 200, false}, {"early-continue", 200, false}}},
	{"model-answer-switch", "a protocol that nobody asked for: from there on bytes pass in both directions", "RFC 9110 §15.2.2", front{}, []behaviour{
		{"switch-socket", 502, false}, {"switch-h2c", 502, false}}},
	{"model-answer-endless-head", "a head without an end fills the gateway's memory or the client's", "CWE-770; RFC 6585 §5", front{}, []behaviour{
		{"endless-headers", 502, false}, {"endless-header", 502, false}, {"endless-status", 502, false}, {"endless-early", 502, false}}},
	{"model-answer-length", "client and gateway see different ends of an answer", "RFC 9112 §6.3; CWE-444", front{}, []behaviour{
		{"length-both", 200, false}, {"length-two", 502, false}, {"length-negative", 502, false}, {"length-huge", 502, false},
		{"length-long", 200, true}, {"chunk-overflow", 200, true}, {"chunk-negative", 200, true}, {"chunk-cut", 200, true}}},
	{"model-answer-encoded", "32 kB become 32 MiB in the client", "CWE-409", front{}, []behaviour{
		{"encoded-bomb", 502, false}, {"encoded-deflate", 502, false}, {"encoded-case", 502, false}, {"encoded-hop", 502, false}}},
	{"model-answer-malformed", "what is no HTTP reaches the client, or its terminal: escape sequences in a status or an error's text", "CWE-150; RFC 9112 §4", front{}, []behaviour{
		{"status-escape", 502, false}, {"status-short", 502, false}, {"status-none", 502, false}, {"status-ninth", 200, false}, {"banner", 502, false}, {"header-escape", 502, false}}},
	{"model-answer-silent", "a server that says nothing blocks everybody else's requests", "CWE-400", front{serial: true}, []behaviour{
		{"silent-head", 0, true}, {"silent-line", 0, true}, {"silent-stream", 200, true}, {"silent-length", 200, true}}},
	{"model-answer-endless", "an answer without an end is collected, until the memory is full", "CWE-770", front{collect: true}, []behaviour{
		{"endless-line", 200, true}, {"endless-object", 200, true}}},
}

// tries are how often an answer is asked for. The gateway keeps its connections to the
// server, and what another probe's answer has left in one ends a request that comes at
// that moment (502), whatever the server would have answered.
const tries = 3

// try has the server behave in each of its ways, on a connection of its own each.
func (h hostile) try(ctx context.Context, t probe.Target) probe.Finding {
	if !t.Model.IsValid() {
		return probe.Missing("model endpoint")
	}
	s := set{t: t, name: h.name, to: t.Model}
	var events []probe.Event
	for i, b := range h.statuses {
		f := h.one(ctx, s, i, b)
		for try := 1; f.Outcome == verify.Unproven && try < tries; try++ {
			f = h.one(ctx, s, i, b)
		}
		if f.Outcome != verify.Blocked {
			return f
		}
		events = append(events, probe.Event{Layer: audit.LayerModel, Proto: "tcp", Dst: t.Model.String(), Host: s.host(i), Status: b.status, Allowed: true, Reason: h.reason(b)})
	}
	return probe.Blocked(fmt.Sprintf("%d answers, none of them harmful by the time it arrived", len(events)), events...)
}

// reason is part of what the record says of such an answer; empty: nothing, since what
// was left of it is whole.
func (h hostile) reason(b behaviour) string {
	switch {
	case h.front.serial || h.front.collect:
		return "the client hung up"
	case b.status == 502 || b.broken:
		return "the model server's answer failed"
	}
	return ""
}

// one asks for one behaviour and judges what comes.
func (h hostile) one(ctx context.Context, s set, i int, b behaviour) probe.Finding {
	c, err := dial(ctx, s.to, patience)
	if err != nil {
		return probe.Unproven("%s: %v", b.name, err)
	}
	defer c.Close()
	ask := request("", "POST", "/v1/messages", "", `{"model":"MODEL","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"hostile: `+b.name+`"}]}`)
	if _, err := io.WriteString(c, s.text(i, ask.raw)); err != nil {
		return probe.Unproven("%s: %v", b.name, err)
	}
	if h.front.serial {
		return h.beside(ctx, s, c, b)
	}
	br := bufio.NewReader(c)
	a, err := readAnswer(br)
	if harm := harmful(a, err); harm != "" {
		return probe.Reached("%s: %s", b.name, harm)
	}
	switch {
	case a.status == 0 && b.broken && ended(err): // it broke off before the head was sent
		return s.lives(ctx, b)
	case a.status == 0:
		return probe.Unproven("%s: no answer: %v", b.name, err)
	case a.status != b.status || a.whole == b.broken:
		return probe.Unproven("%s: answered by %d, whole: %t; expected %d", b.name, a.status, a.whole, b.status)
	}
	if h.front.collect && !a.more {
		return probe.Unproven("%s: %d bytes came, and no more", b.name, len(a.body))
	}
	if harm := s.next(c, br, a); harm != "" {
		return probe.Reached("%s: %s", b.name, harm)
	}
	c.Close()
	return s.lives(ctx, b)
}

// passed are the fields that the model endpoint's answers may have.
var passed = []string{
	"content-type", "content-length", "cache-control", "date", "retry-after", "retry-after-ms", "request-id", "x-request-id", "x-should-retry",
	"transfer-encoding", "connection",
}

// harmful says what of an answer harms the client; empty: nothing.
func harmful(a *answer, err error) string {
	switch {
	case errors.Is(err, errFlaw):
		return a.flaw
	case err != nil && a.status == 0:
		return ""
	case a.early > 0:
		return fmt.Sprintf("%d answers of 1xx", a.early)
	case a.status == 101:
		return "the protocol was switched"
	case a.status/100 == 3:
		return fmt.Sprintf("a redirect (%d) to %.80q", a.status, a.get("location"))
	case a.status >= 500 && errorText(a) == "":
		return fmt.Sprintf("it became %d: %.80q", a.status, a.body)
	case strings.ContainsFunc(errorText(a), control):
		return fmt.Sprintf("what moves a terminal, in an error's text: %.80q", errorText(a))
	case errorText(a) == "" && bytes.Contains(a.body, []byte(planted)):
		return fmt.Sprintf("the server's bytes in the answer: %.80q", a.body)
	}
	for _, f := range a.fields {
		if !slices.Contains(passed, f.name) {
			return fmt.Sprintf("a field of the server's: %.40q: %.80q", f.name, f.value)
		}
	}
	return ""
}

// errorText is what an error of the gateway's own says; empty: the answer is none.
func errorText(a *answer) string {
	var said struct{ Error struct{ Message string } }
	if a.status < 400 || json.Unmarshal(a.body, &said) != nil || !strings.HasPrefix(said.Error.Message, ours) {
		return ""
	}
	return said.Error.Message
}

// next asks for the endpoint's health on the same connection: what comes must be the
// answer to that, and not what the server left there.
func (s set) next(c net.Conn, br *bufio.Reader, a *answer) (harm string) {
	if !a.lasts() {
		return ""
	}
	if br.Buffered() > 0 {
		rest, _ := br.Peek(min(br.Buffered(), 80))
		return fmt.Sprintf("more behind the answer: %.80q", rest)
	}
	if _, err := io.WriteString(c, healthRequest); err != nil {
		return "" // it was closed: the client opens another
	}
	b, err := readAnswer(br)
	if b.flaw != "" || err == nil && (b.status != 200 || strings.Contains(string(b.body), planted)) {
		return fmt.Sprintf("the next request was answered by %d %.80q %s", b.status, b.body, b.flaw)
	}
	return ""
}

const healthRequest = "GET /health HTTP/1.1\r\nHost: model\r\n\r\n"

// lives says whether the endpoint still answers others.
func (s set) lives(ctx context.Context, b behaviour) probe.Finding {
	c, err := dial(ctx, s.to, patience)
	if err != nil {
		return probe.Reached("%s: the endpoint is dead: %v", b.name, err)
	}
	defer c.Close()
	if _, err = io.WriteString(c, healthRequest); err != nil {
		return probe.Reached("%s: the endpoint is dead: %v", b.name, err)
	}
	a, err := readAnswer(bufio.NewReader(c))
	if err != nil || a.status != 200 {
		return probe.Reached("%s: the endpoint answers nobody else: %d, %v", b.name, a.status, err)
	}
	return probe.Blocked("")
}

// beside asks for the endpoint's health while another request waits, and whatever the
// server said must have come by then.
func (h hostile) beside(ctx context.Context, s set, c net.Conn, b behaviour) probe.Finding {
	br := bufio.NewReader(c)
	if b.status != 0 {
		a := &answer{}
		if err := a.head(br); err != nil || a.status != b.status {
			return probe.Unproven("%s: answered by %d: %v", b.name, a.status, err)
		}
	}
	return s.lives(ctx, b)
}
