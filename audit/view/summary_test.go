package view

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport/sallyport/audit"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)

func deniedAt(layer audit.Layer, host string, port uint16, dst string, count int64) audit.Event {
	return audit.Event{Time: noon, Layer: layer, Host: host, Port: port, Dst: dst, Count: count, Verdict: "denied", Proto: "udp"}
}

func TestSummary(t *testing.T) {
	repeat := deniedAt(audit.LayerPacket, "", 0, "203.0.113.9:443", 7)
	repeat.RepeatOf = "X"
	sctp := deniedAt(audit.LayerPacket, "", 0, "203.0.113.9", 1)
	sctp.Proto = "132"
	s := Summarize([]audit.Event{
		{Layer: audit.LayerModel, Method: "POST", Path: "/v1/messages", Verdict: "allowed", Count: 1, TokensIn: 100, TokensOut: 20},
		{Layer: audit.LayerModel, Method: "POST", Path: "/v1/messages", Verdict: "allowed", Count: 1, TokensIn: 50, TokensOut: 5},
		{Layer: audit.LayerModel, Method: "HEAD", Path: "/", Verdict: "allowed", Count: 1},
		{Layer: audit.LayerModel, Method: "POST", Path: "/v1/load_lora", Verdict: "denied", Count: 1},
		deniedAt(audit.LayerDNS, "api.example.com", 53, "203.0.113.53:53", 1),
		deniedAt(audit.LayerDNS, "API.example.com", 53, "203.0.113.54:53", 2),
		deniedAt(audit.LayerProxy, "api.example.com", 443, "", 2),
		deniedAt(audit.LayerPacket, "", 0, "203.0.113.9:443", 1),
		repeat, repeat, sctp,
		deniedAt(audit.LayerIntercept, "", 22, "203.0.113.10:22", 1),
		{Layer: audit.LayerPacket, Verdict: "denied", Rule: "lost", Lost: 120},
	})
	if s.ModelRequests != 2 || s.TokensIn != 150 || s.TokensOut != 25 || s.Attempts != 23 || s.Lost != 120 {
		t.Errorf("counted %+v", s)
	}
	want := []string{
		"15 × 203.0.113.9:443 (udp packets)",
		"3 × api.example.com (dns)",
		"2 × api.example.com:443 (proxy)",
		"1 × 203.0.113.10:22 (intercept)",
		"1 × 203.0.113.9 (protocol 132 packets)",
		"1 × POST /v1/load_lora (model)",
		"and 120 of which only the number is known",
	}
	if diff := cmp.Diff(want, s.Lines(99, 0)); diff != "" {
		t.Error(diff)
	}
	want = []string{want[0], want[1], "and 4 more (5 attempts)", want[6]}
	if diff := cmp.Diff(want, s.Lines(2, 0)); diff != "" {
		t.Error(diff)
	}
	if got := s.Lines(1, 20)[0]; Cells(got) > 20 {
		t.Errorf("cut to %q", got)
	}
	var none Summary
	if got := none.Lines(5, 80); got != nil {
		t.Errorf("of nothing: %q", got)
	}
}

// A sandbox that asks for ever new names does not fill the memory.
func TestSummaryBounded(t *testing.T) {
	var s Summary
	for i := range maxGroups + 1000 {
		s.Add(deniedAt(audit.LayerDNS, fmt.Sprintf("n%d.example", i), 0, "", 1))
	}
	if len(s.groups) != maxGroups || s.Attempts != maxGroups+1000 {
		t.Errorf("%d groups, %d attempts", len(s.groups), s.Attempts)
	}
	if got, want := s.Lines(1, 0)[1], "and more than 4095 others (5095 attempts)"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestSummaryPrintable(t *testing.T) {
	s := Summarize([]audit.Event{deniedAt("dns\n", "a\x1b[2Jb", 0, "", 1)})
	if got, want := s.Lines(1, 0)[0], `1 × a\x1b[2jb (dns\x0a)`; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
