package watch

import (
	"slices"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/view"
)

// maxFilter bounds what can be typed, in bytes.
const maxFilter = 200

// model is what is on the screen. Its methods run in the program's one loop.
type model struct {
	loc           *time.Location
	title         string
	width, height int

	rows  []*row // all that are kept, the oldest first
	byID  map[string]*row
	shown []*row // those that the filter chooses

	cursor int  // into shown
	newest bool // the cursor stays at the newest

	filter string
	typing bool

	paused    bool
	waiting   batch // came while it was paused
	skipped   int64
	forgotten int64

	expanded *row // nil: the list is on the screen
	offset   int  // lines of the expanded one above the screen
}

// row is an event; of repeats the newest that is known of them.
type row struct{ event audit.Event }

func newModel(loc *time.Location, title string) *model {
	return &model{loc: loc, title: title, byID: map[string]*row{}, newest: true}
}

// Init implements tea.Model.
func (m *model) Init() tea.Cmd { return nil }

// Update implements tea.Model.
func (m *model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case batch:
		m.take(msg)
	case tea.PasteMsg:
		if m.typing {
			m.write(msg.Content)
		}
	case tea.KeyPressMsg:
		return m, m.key(msg)
	}
	return m, nil
}

// take adds events, or keeps them aside while it is paused.
func (m *model) take(b batch) {
	if m.paused {
		m.waiting.skipped += b.skipped
		room := max(maxRows-len(m.waiting.events), 0)
		m.waiting.skipped += int64(max(len(b.events)-room, 0))
		m.waiting.events = append(m.waiting.events, b.events[:min(room, len(b.events))]...)
		return
	}
	m.skipped += b.skipped
	filter := audit.Filter{Text: m.filter}
	for _, e := range b.events {
		if known := m.byID[e.ID]; known != nil && e.ID != "" {
			known.event = e
			continue
		}
		r := &row{e}
		m.rows = append(m.rows, r)
		m.byID[e.ID] = r
		if filter.Match(e) {
			m.shown = append(m.shown, r)
		}
	}
	m.forget()
	m.settle()
}

// forget drops the oldest rows, many at a time.
func (m *model) forget() {
	if len(m.rows) <= maxRows+maxRows/10 {
		return
	}
	n := len(m.rows) - maxRows
	for _, r := range m.rows[:n] {
		delete(m.byID, r.event.ID)
	}
	m.rows = slices.Clone(m.rows[n:])
	m.forgotten += int64(n)
	m.choose()
}

// choose applies the filter anew. The cursor stays at its row if that is chosen.
func (m *model) choose() {
	var at *row
	if m.cursor < len(m.shown) {
		at = m.shown[m.cursor]
	}
	filter := audit.Filter{Text: m.filter}
	m.shown = nil
	for _, r := range m.rows {
		if filter.Match(r.event) {
			m.shown = append(m.shown, r)
		}
	}
	if i := slices.Index(m.shown, at); i >= 0 {
		m.cursor = i
	}
	m.settle()
}

// settle keeps the cursor within the rows.
func (m *model) settle() {
	last := max(len(m.shown)-1, 0)
	if m.cursor = min(max(m.cursor, 0), last); m.newest {
		m.cursor = last
	}
}

// key does what a key is for.
func (m *model) key(k tea.KeyPressMsg) tea.Cmd {
	switch k.String() {
	case "ctrl+c":
		return tea.Quit
	case "ctrl+z":
		return tea.Suspend
	}
	switch {
	case m.typing:
		m.typed(k)
	case m.expanded != nil:
		return m.inExpanded(k.String())
	default:
		return m.inList(k.String())
	}
	return nil
}

// typed edits the filter.
func (m *model) typed(k tea.KeyPressMsg) {
	switch k.String() {
	case "enter":
		m.typing = false
	case "esc":
		m.typing, m.filter = false, ""
		m.choose()
	case "backspace":
		if runes := []rune(m.filter); len(runes) > 0 {
			m.filter = string(runes[:len(runes)-1])
			m.choose()
		}
	case "ctrl+u":
		m.filter = ""
		m.choose()
	default:
		m.write(k.Text)
	}
}

// write adds to the filter what can be seen.
func (m *model) write(text string) {
	if text == "" || audit.Printable(text) != text || len(m.filter)+len(text) > maxFilter {
		return
	}
	m.filter += text
	m.choose()
}

func (m *model) inList(key string) tea.Cmd {
	switch key {
	case "q":
		return tea.Quit
	case "/":
		m.typing = true
	case "esc":
		m.filter = ""
		m.choose()
	case "space", "p":
		m.pause()
	case "enter", "right":
		if m.cursor < len(m.shown) {
			m.expanded, m.offset = m.shown[m.cursor], 0
		}
	case "up", "k":
		m.move(-1)
	case "down", "j":
		m.move(1)
	case "pgup":
		m.move(-m.listHeight())
	case "pgdown":
		m.move(m.listHeight())
	case "home", "g":
		m.move(-len(m.shown))
	case "end", "G":
		m.move(len(m.shown))
	}
	return nil
}

func (m *model) inExpanded(key string) tea.Cmd {
	page := max(m.height-3, 1)
	switch key {
	case "q":
		return tea.Quit
	case "esc", "enter", "left", "backspace":
		m.expanded = nil
		return nil
	case "space", "p":
		m.pause()
	case "up", "k":
		m.offset--
	case "down", "j":
		m.offset++
	case "pgup":
		m.offset -= page
	case "pgdown":
		m.offset += page
	case "home", "g":
		m.offset = 0
	}
	m.offset = max(0, min(m.offset, len(m.details())-page))
	return nil
}

// pause stops the list, or lets what has come since into it.
func (m *model) pause() {
	if m.paused = !m.paused; m.paused {
		return
	}
	b := m.waiting
	m.waiting = batch{}
	m.take(b)
}

func (m *model) move(by int) {
	m.cursor += by
	m.newest = m.cursor >= len(m.shown)-1
	m.settle()
}

// details are the lines of the expanded event.
func (m *model) details() []string {
	e := m.expanded.event
	rows := view.Details(e, m.loc)
	x := view.Explain(e)
	rows = append(rows, [2]string{"", ""}, [2]string{"decided", x.Rule}, [2]string{"because", x.Text})
	if x.Never != "" {
		rows = append(rows, [2]string{"allow it", "nothing would: " + x.Never})
	}
	lines := view.Wrapped(rows, m.width)
	if len(x.Config) > 0 {
		lines = append(append(lines, "", "To allow it, in config.yaml:", ""), x.Config...)
	}
	return lines
}
