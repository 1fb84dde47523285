package watch

import (
	"fmt"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/view"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func refusal(id, host string) audit.Event {
	return audit.Event{ID: id, Time: noon, Subject: audit.Subject{Sandbox: "k3f9", Project: "/p/shop"}, Layer: audit.LayerDNS, Method: "A",
		Host: host, Verdict: "denied", Reason: "names are not looked up", Count: 1, Process: &audit.Process{PID: 5, Exe: "/usr/bin/curl", Command: "curl " + host}}
}

// sized is a model on a screen of 80 by 12.
func sized(events ...audit.Event) *model {
	m := newModel(time.UTC, "watch")
	m.Update(tea.WindowSizeMsg{Width: 80, Height: 12})
	m.Update(batch{events: events})
	return m
}

// press types keys: names in angle brackets, else characters.
func press(t *testing.T, m *model, keys string) (quit bool) {
	t.Helper()
	for keys != "" {
		k := tea.Key{Code: rune(keys[0]), Text: keys[:1]}
		rest := keys[1:]
		if keys[0] == '<' {
			name, after, _ := strings.Cut(keys[1:], ">")
			k = map[string]tea.Key{"enter": {Code: tea.KeyEnter}, "esc": {Code: tea.KeyEscape}, "up": {Code: tea.KeyUp}, "down": {Code: tea.KeyDown},
				"space": {Code: tea.KeySpace, Text: " "}, "end": {Code: tea.KeyEnd}, "home": {Code: tea.KeyHome}, "back": {Code: tea.KeyBackspace},
				"pgup": {Code: tea.KeyPgUp}, "pgdown": {Code: tea.KeyPgDown}, "ctrl+c": {Code: 'c', Mod: tea.ModCtrl}, "ctrl+u": {Code: 'u', Mod: tea.ModCtrl}}[name]
			if k.Code == 0 {
				t.Fatalf("no key %q", name)
			}
			rest = after
		}
		if _, cmd := m.Update(tea.KeyPressMsg(k)); cmd != nil {
			_, quit = cmd().(tea.QuitMsg)
		}
		keys = rest
	}
	return quit
}

func has(t *testing.T, m *model, want ...string) {
	t.Helper()
	text := m.screen()
	for _, w := range want {
		if strings.HasPrefix(w, "!") == strings.Contains(text, strings.TrimPrefix(w, "!")) {
			t.Errorf("%q is wrong on the screen:\n%s", w, text)
		}
	}
	checkScreen(t, m)
}

// checkScreen fails unless the screen has its size, and no escape sequence but
// our own styles.
func checkScreen(t *testing.T, m *model) {
	t.Helper()
	lines := strings.Split(m.screen(), "\n")
	if m.height >= 5 && m.width >= 20 && len(lines) != m.height {
		t.Errorf("%d lines of %d:\n%s", len(lines), m.height, m.screen())
	}
	for _, l := range lines {
		l = strings.NewReplacer(bold, "", faint, "", reverse, "", plain, "").Replace(l)
		if audit.Printable(l) != l || view.Cells(l) > m.width {
			t.Errorf("%d cells of %d: %q", view.Cells(l), m.width, l)
		}
	}
}

func TestRowsComeAndScroll(t *testing.T) {
	m := newModel(nil, "watch")
	has(t, m, "")
	m.Update(tea.WindowSizeMsg{Width: 80, Height: 12})
	has(t, m, "nothing is recorded so far")
	for i := range 30 {
		m.Update(batch{events: []audit.Event{refusal(fmt.Sprintf("%02d", i), fmt.Sprintf("h%d.example", i))}})
	}
	has(t, m, "30 events", "h29.example", "!h20.example")
	press(t, m, "<up><up>")
	m.Update(batch{events: []audit.Event{refusal("30", "h30.example")}})
	has(t, m, "3 newer below", "31 events")
	if m.cursor != 27 {
		t.Errorf("the cursor went from its row to %d", m.cursor)
	}
	press(t, m, "<home>")
	has(t, m, "h0.example", "!h30.example")
	press(t, m, "<pgdown>")
	has(t, m, "h9.example")
	press(t, m, "<end>")
	m.Update(batch{events: []audit.Event{refusal("31", "h31.example")}})
	has(t, m, "h31.example", "!newer below")
}

func TestFilterAsYouType(t *testing.T) {
	m := sized(refusal("1", "api.example"), refusal("2", "hub.example"), refusal("3", "other.example"))
	press(t, m, "/h")
	has(t, m, "filter: h", "3 match \"h\"") // the project's name has one too
	press(t, m, "ub")
	has(t, m, "1 match \"hub\"", "!other.example")
	m.Update(batch{events: []audit.Event{refusal("4", "hub2.example"), refusal("5", "x.example")}})
	has(t, m, "2 match", "hub2.example", "!x.example")
	press(t, m, "<back><back><back>API<enter>")
	has(t, m, "api.example", "1 match", "/ filter")
	press(t, m, "<esc>")
	has(t, m, "5 events", "!match")
	press(t, m, "/nosuch")
	has(t, m, "nothing matches")
	press(t, m, "<ctrl+u>")
	m.Update(tea.PasteMsg{Content: "evil\x1b[2J"})
	m.Update(tea.PasteMsg{Content: strings.Repeat("x", maxFilter+1)})
	m.Update(tea.PasteMsg{Content: "other"})
	has(t, m, "filter: other", "1 match")
	press(t, m, "q")
	has(t, m, "filter: otherq")
	press(t, m, "<esc>")
	has(t, m, "!filter: ")
}

func TestPause(t *testing.T) {
	m := sized(refusal("1", "a.example"))
	press(t, m, "<space>")
	m.Update(batch{events: []audit.Event{refusal("2", "b.example")}})
	has(t, m, "PAUSED, 1 more", "!b.example", "space go on")
	press(t, m, "p")
	has(t, m, "b.example", "!PAUSED")
	press(t, m, "<space>")
	for i := range maxRows/100 + 2 {
		events := make([]audit.Event, 100)
		for j := range events {
			events[j] = refusal(fmt.Sprint(i, "-", j), "x.example")
		}
		m.Update(batch{events: events})
	}
	has(t, m, fmt.Sprintf("PAUSED, %d more", maxRows), "200 came too fast")
}

func TestExpand(t *testing.T) {
	e := refusal("01ABC", "api.example.com")
	m := sized(refusal("1", "x.example"), e)
	press(t, m, "<enter>")
	has(t, m, "01ABC", "verdict", "esc back", "!x.example")
	press(t, m, "<pgdown><pgdown><pgdown><pgdown>")
	has(t, m, `- {host: "api.example.com", ports: [443]`)
	press(t, m, "<home>")
	has(t, m, "01ABC")
	press(t, m, "<esc>")
	has(t, m, "x.example")
	if quit := press(t, m, "<enter>q"); !quit {
		t.Error("q in an event does not quit")
	}
}

// Repeats that are being counted change in their row.
func TestRepeatsKeepTheirRow(t *testing.T) {
	e := refusal("1", "a.example")
	e.RepeatOf, e.Open, e.Count = "0", true, 1
	m := sized(e)
	has(t, m, "+1…")
	e.Count, e.Open = 1800, false
	m.Update(batch{events: []audit.Event{e}})
	has(t, m, "+1800", "1 events", "!…+")
}

func TestForget(t *testing.T) {
	m := sized()
	for i := range maxRows + maxRows/10 + 1 {
		m.take(batch{events: []audit.Event{refusal(fmt.Sprint(i), "h.example")}})
	}
	has(t, m, fmt.Sprintf("%d events", maxRows), "older forgotten")
	if len(m.byID) != maxRows || len(m.shown) != maxRows {
		t.Errorf("%d ids, %d shown", len(m.byID), len(m.shown))
	}
}

func TestQuit(t *testing.T) {
	for _, keys := range []string{"q", "<ctrl+c>", "/abc<ctrl+c>", "<enter>q"} {
		if !press(t, sized(refusal("1", "a")), keys) {
			t.Errorf("%s does not quit", keys)
		}
	}
}

// Nothing that a container named reaches the terminal as such, at any size.
func TestHostileNames(t *testing.T) {
	const hostile = "evil\x1b[2J\x1b]0;x\a\r\n\u009b31m\u202e\u200b日本.example"
	e := audit.Event{ID: hostile, Time: noon, Subject: audit.Subject{Sandbox: hostile, Project: hostile, Agent: hostile, Model: hostile}, Layer: hostile, Proto: hostile,
		Src: hostile, Dst: hostile, Host: hostile, Port: 1, SNI: hostile, Method: hostile, Path: hostile, Verdict: hostile, Rule: hostile, Reason: hostile, Session: hostile,
		RepeatOf: hostile, Count: 3, Process: &audit.Process{PID: 1, Exe: "/" + hostile, Command: hostile, Parents: []audit.Parent{{Name: hostile}}, Unknown: hostile}}
	for _, layer := range []audit.Layer{hostile, audit.LayerDNS, audit.LayerIntercept, audit.LayerPacket, audit.LayerModel, audit.LayerProxy, audit.LayerControl} {
		e.Layer = layer
		m := sized(e, refusal("2", "b.example"), e)
		for _, size := range []tea.WindowSizeMsg{{Width: 1, Height: 1}, {Width: 20, Height: 5}, {Width: 40, Height: 12}, {Width: 80, Height: 24}, {Width: 200, Height: 50}} {
			m.Update(size)
			checkScreen(t, m)
			press(t, m, "<home><enter>")
			checkScreen(t, m)
			press(t, m, "<pgdown><esc>")
			checkScreen(t, m)
		}
	}
}
