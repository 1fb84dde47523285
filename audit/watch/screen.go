package watch

import (
	"fmt"
	"strings"

	tea "charm.land/bubbletea/v2"

	"github.com/sallyport/sallyport/audit/view"
)

// Styles, as escape sequences: what an event holds never is one.
const (
	bold    = "\x1b[1m"
	faint   = "\x1b[2m"
	reverse = "\x1b[7m"
	plain   = "\x1b[m"
)

// View implements tea.Model.
func (m *model) View() tea.View {
	v := tea.NewView(m.screen())
	v.AltScreen = true
	return v
}

func (m *model) screen() string {
	switch {
	case m.width <= 0 || m.height <= 0: // not known yet
		return ""
	case m.width < 20 || m.height < 5:
		return view.Shorten("too small", m.width)
	}
	lines := []string{bold + m.cut(m.head()) + plain}
	if m.expanded != nil {
		lines = append(lines, m.detailLines()...)
	} else {
		lines = append(lines, m.listLines()...)
	}
	for len(lines) < m.height-1 {
		lines = append(lines, "")
	}
	return strings.Join(append(lines, faint+m.cut(m.help())+plain), "\n")
}

func (m *model) cut(text string) string { return view.Shorten(text, m.width) }

// head says what is shown, and what is not.
func (m *model) head() string {
	parts := []string{m.title, fmt.Sprintf("%d events", len(m.rows))}
	if m.filter != "" || m.typing {
		parts = append(parts, fmt.Sprintf("%d match %q", len(m.shown), m.filter))
	}
	if m.paused {
		parts = append([]string{fmt.Sprintf("PAUSED, %d more", len(m.waiting.events))}, parts...)
	}
	if below := len(m.shown) - 1 - m.cursor; below > 0 {
		parts = append(parts, fmt.Sprintf("%d newer below", below))
	}
	if m.forgotten > 0 {
		parts = append(parts, fmt.Sprintf("%d older forgotten", m.forgotten))
	}
	if n := m.skipped + m.waiting.skipped; n > 0 {
		parts = append(parts, fmt.Sprintf("%d came too fast to show", n))
	}
	return strings.Join(parts, " · ")
}

func (m *model) help() string {
	switch {
	case m.typing:
		return "filter: " + m.filter + "▏ enter keep · esc clear"
	case m.expanded != nil:
		return "esc back · ↑↓ scroll · space pause · q quit"
	case m.paused:
		return "space go on · / filter · enter expand · ↑↓ move · end newest · q quit"
	}
	return "/ filter · space pause · enter expand · ↑↓ move · end newest · q quit"
}

// listHeight is how many rows the list has: all but its head's two lines and the
// help.
func (m *model) listHeight() int { return max(m.height-3, 1) }

func (m *model) listLines() []string {
	rows := view.NewRows(view.Screen{Width: m.width, Loc: m.loc})
	lines := []string{faint + rows.Head() + plain}
	if len(m.shown) == 0 {
		if m.filter != "" {
			return append(lines, m.cut("nothing matches so far"))
		}
		return append(lines, m.cut("nothing is recorded so far; waiting"))
	}
	first := max(0, min(m.cursor-m.listHeight()/2, len(m.shown)-m.listHeight()))
	for i := first; i < min(first+m.listHeight(), len(m.shown)); i++ {
		text := rows.Line(m.shown[i].event)
		switch {
		case i == m.cursor:
			text = reverse + text + plain
		case !m.shown[i].event.Denied():
			text = faint + text + plain
		}
		lines = append(lines, text)
	}
	return lines
}

func (m *model) detailLines() []string {
	all := m.details()
	height := max(m.height-2, 1)
	first := max(0, min(m.offset, len(all)-height))
	lines := make([]string, 0, height)
	for _, text := range all[first:min(first+height, len(all))] {
		lines = append(lines, m.cut(text))
	}
	return lines
}
