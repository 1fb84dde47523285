package audit

import (
	"errors"
	"testing"
)

func TestEvent(t *testing.T) {
	events := timed(0, 3)
	for i, id := range []string{"01KJ0000000000000000000AAA", "01KJ0000000000000000000AAB", "01KJ0000000000000000000B", "01KJ0000000000000000000"} {
		events[i].ID = id
	}
	open := timed(9, 9)[0]
	open.ID, open.Open, open.RepeatOf = "01KJ1%", true, events[0].ID
	f := fill(t, append(events, open)...)
	r := f.reader()
	tests := []struct {
		id, host string
		seq      int64
		err      error
	}{
		{"01KJ0000000000000000000AAA", "n0.example", 1, nil},
		{"01KJ0000000000000000000AAB", "n1.example", 2, nil},
		{"01kj0000000000000000000aab", "n1.example", 2, nil},
		{"01KJ0000000000000000000B", "n2.example", 3, nil},
		{"01KJ0000000000000000000", "n3.example", 4, nil}, // whole, though others begin so
		{"01KJ1", "n9.example", 0, nil},
		{"01KJ0000000000000000000A", "", 0, ErrAmbiguous},
		{"0", "", 0, ErrAmbiguous},
		{"01KJ2", "", 0, ErrNotFound},
		{"%", "", 0, ErrNotFound},
		{"", "", 0, ErrNotFound},
	}
	for _, tt := range tests {
		e, head, err := r.Event(t.Context(), tt.id)
		if e.Host != tt.host || head.Seq != tt.seq || !errors.Is(err, tt.err) || e.Open != (tt.id == "01KJ1") {
			t.Errorf("%q: %q, %v, %v", tt.id, e.Host, head, err)
		}
	}
	if _, head, _ := r.Event(t.Context(), events[3].ID); head != f.head {
		t.Errorf("head %v, want %v", head, f.head)
	}
}

func TestNeighbours(t *testing.T) {
	events := timed(0, 9)
	for i := range events {
		events[i].ID = string(rune('A' + i))
	}
	r := fill(t, events...).reader()
	tests := []struct {
		id            string
		n             int
		before, after string
	}{
		{"E", 2, "CD", "FG"},
		{"A", 3, "", "BCD"},
		{"J", 3, "GHI", ""},
		{"E", 99, "ABCD", "FGHIJ"},
		{"E", 0, "", ""},
	}
	for _, tt := range tests {
		before, after, err := r.Neighbours(t.Context(), tt.id, tt.n)
		if err != nil || joined(before) != tt.before || joined(after) != tt.after {
			t.Errorf("%s: %s, %s, %v", tt.id, joined(before), joined(after), err)
		}
	}
	if _, _, err := r.Neighbours(t.Context(), "X", 1); !errors.Is(err, ErrNotFound) {
		t.Errorf("unknown: %v", err)
	}
}

func joined(events []Event) (ids string) {
	for _, e := range events {
		ids += e.ID
	}
	return ids
}
