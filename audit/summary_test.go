package audit

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func deniedAt(layer Layer, host string, port uint16, dst string, count int64) Event {
	return Event{Time: noon, Layer: layer, Host: host, Port: port, Dst: dst, Count: count, Verdict: "denied", Proto: "udp"}
}

func TestSummary(t *testing.T) {
	repeat := deniedAt(LayerPacket, "", 0, "203.0.113.9:443", 7)
	repeat.RepeatOf = "X"
	sctp := deniedAt(LayerPacket, "", 0, "203.0.113.9", 1)
	sctp.Proto = "132"
	s := Summarize([]Event{
		{Layer: LayerModel, Method: "POST", Path: "/v1/messages", Verdict: "allowed", Count: 1, TokensIn: 100, TokensOut: 20},
		{Layer: LayerModel, Method: "POST", Path: "/v1/messages", Verdict: "allowed", Count: 1, TokensIn: 50, TokensOut: 5},
		{Layer: LayerModel, Method: "HEAD", Path: "/", Verdict: "allowed", Count: 1},
		{Layer: LayerModel, Method: "POST", Path: "/v1/load_lora", Verdict: "denied", Count: 1},
		deniedAt(LayerDNS, "api.example.com", 53, "203.0.113.53:53", 1),
		deniedAt(LayerDNS, "API.example.com", 53, "203.0.113.54:53", 2),
		deniedAt(LayerProxy, "api.example.com", 443, "", 2),
		deniedAt(LayerPacket, "", 0, "203.0.113.9:443", 1),
		repeat, repeat, sctp,
		deniedAt(LayerIntercept, "", 22, "203.0.113.10:22", 1),
	})
	if s.ModelRequests != 2 || s.TokensIn != 150 || s.TokensOut != 25 || s.Attempts != 9 {
		t.Errorf("counted %+v", s)
	}
	want := []string{
		"3 × api.example.com (dns)",
		"2 × api.example.com:443 (proxy)",
		"1 × 203.0.113.9:443 (udp, 15 packets)",
		"1 × 203.0.113.9 (protocol 132)",
		"1 × 203.0.113.10:22 (intercept)",
		"1 × POST /v1/load_lora (model)",
	}
	if diff := cmp.Diff(want, s.Lines(99, 0)); diff != "" {
		t.Error(diff)
	}
	want = []string{want[0], want[1], "and 4 more (4 attempts)"}
	if diff := cmp.Diff(want, s.Lines(2, 0)); diff != "" {
		t.Error(diff)
	}
	if got := s.Lines(1, 20)[0]; got != "3 × api…e.com (dns)" && columns(got) > 20 {
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
		s.Add(deniedAt(LayerDNS, fmt.Sprintf("n%d.example", i), 0, "", 1))
	}
	if len(s.groups) != maxGroups || s.Attempts != maxGroups+1000 {
		t.Errorf("%d groups, %d attempts", len(s.groups), s.Attempts)
	}
	if got, want := s.Lines(1, 0)[1], "and more than 4095 others (5095 attempts)"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestSummaryPrintable(t *testing.T) {
	s := Summarize([]Event{deniedAt("dns\n", "a\x1b[2Jb", 0, "", 1)})
	if got, want := s.Lines(1, 0)[0], `1 × a\x1b[2jb (dns\x0a)`; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func tableEvents() []Event {
	return []Event{
		{Time: noon, Subject: Subject{Sandbox: "k3f9", Project: "/home/u/shop"}, Layer: LayerDNS, Verdict: "denied", Host: "api.example.com", Method: "A", Reason: "names are not looked up", Count: 1},
		{Time: noon, Subject: Subject{Sandbox: "k3f9"}, Layer: LayerProxy, Verdict: "denied", Method: "CONNECT", Host: "api.example.com", Port: 443, Reason: "not on the allow list", Count: 3},
		{Time: noon, Subject: Subject{Sandbox: "k3f9"}, Layer: LayerModel, Verdict: "allowed", Method: "POST", Path: "/v1/messages", Dst: "10.213.0.1:8000", Count: 1},
		{Time: noon, Subject: Subject{Sandbox: "k3f9"}, Layer: LayerIntercept, Verdict: "denied", Dst: "203.0.113.10:443", SNI: "x.example", Count: 1},
		{Time: noon, Subject: Subject{Sandbox: "k3f9"}, Layer: LayerIntercept, Verdict: "denied", Dst: "203.0.113.10:80", Host: "x.example", Method: "GET", Path: "/p", Count: 1},
		{Time: noon, Subject: Subject{Sandbox: "k3f9"}, Layer: LayerPacket, Verdict: "denied", Proto: "udp", Dst: "[2001:db8::9]:443", Count: 12},
	}
}

func TestWriteTable(t *testing.T) {
	var b bytes.Buffer
	if err := WriteTable(&b, tableEvents(), 0, time.FixedZone("", 3600)); err != nil {
		t.Fatal(err)
	}
	want := `TIME                 SANDBOX    LAYER      VERDICT  WHAT                            REASON                   ×
2026-03-01 13:00:00  k3f9/shop  dns        denied   api.example.com A               names are not looked up
2026-03-01 13:00:00  k3f9       proxy      denied   CONNECT api.example.com:443     not on the allow list    ×3
2026-03-01 13:00:00  k3f9       model      allowed  POST /v1/messages
2026-03-01 13:00:00  k3f9       intercept  denied   203.0.113.10:443 (x.example)
2026-03-01 13:00:00  k3f9       intercept  denied   GET 203.0.113.10:80/p (x.example)
2026-03-01 13:00:00  k3f9       packet     denied   udp [2001:db8::9]:443                                    ×12
`
	if got := squeeze(b.String()); got != squeeze(want) {
		t.Error(cmp.Diff(squeeze(want), got))
	}
}

// squeeze leaves the columns' exact widths out of a comparison.
func squeeze(s string) string {
	for strings.Contains(s, "   ") {
		s = strings.ReplaceAll(s, "   ", "  ")
	}
	return s
}

func TestWriteTableWidths(t *testing.T) {
	events := tableEvents()
	events[0].Host = strings.Repeat("a-long-label.", 18) + "example"
	events[1].Host = "日本\x1b[2J\n\u202e"
	for _, width := range []int{1, 2, 20, 40, 80, 100, 132, 200} {
		var b bytes.Buffer
		if err := WriteTable(&b, events, width, nil); err != nil {
			t.Fatal(err)
		}
		rows := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
		if len(rows) != len(events)+1 {
			t.Errorf("width %d: %d lines", width, len(rows))
		}
		for _, row := range rows {
			if columns(row) > width || Printable(row) != row {
				t.Errorf("width %d: %d cells: %q", width, columns(row), row)
			}
		}
		if width >= 80 && (!strings.HasSuffix(rows[2], "×3") || !strings.Contains(rows[1], "e A  ")) {
			t.Errorf("width %d: lost a count or the end of a name:\n%s", width, b.String())
		}
	}
}

type fullWriter struct{}

func (fullWriter) Write([]byte) (int, error) { return 0, fmt.Errorf("full") }

func TestWriteTableError(t *testing.T) {
	if err := WriteTable(fullWriter{}, tableEvents(), 80, nil); err == nil {
		t.Error("no error")
	}
}
