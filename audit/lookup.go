package audit

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
)

// Event returns the event whose id is id, or the only one whose id begins so, and
// its place in the chain (zero: repeats that are still being counted, not part of
// it). Other than that, it is an error (ErrNotFound, ErrAmbiguous).
func (r *Reader) Event(ctx context.Context, id string) (Event, Head, error) {
	var found []row
	var head Head
	err := r.view(ctx, func(tx *sql.Tx) (err error) {
		if found, err = begun(ctx, tx, id); err != nil {
			return err
		}
		if len(found) == 0 {
			if found, err = begun(ctx, tx, strings.ToUpper(id)); err != nil {
				return err
			}
		}
		if len(found) != 1 || found[0].seq == 0 {
			return nil
		}
		head.Seq = found[0].seq
		var hash []byte
		err = tx.QueryRowContext(ctx, "SELECT hash FROM events WHERE seq = ?", head.Seq).Scan(&hash)
		copy(head.Hash[:], hash)
		return err
	})
	switch {
	case err != nil:
		return Event{}, Head{}, err
	case len(found) == 0:
		return Event{}, Head{}, fmt.Errorf("event %.40q: %w\nhint: it may have been deleted for its age; `gateway audit --json` shows ids", id, ErrNotFound)
	case len(found) > 1:
		return Event{}, Head{}, fmt.Errorf("event %.40q: %w\nhint: give more of the id", id, ErrAmbiguous)
	}
	e, ok := found[0].event()
	if !ok {
		return Event{}, Head{}, &DamagedError{Path: r.path, Events: 1, First: head.Seq}
	}
	return e, head, nil
}

// begun returns up to two events whose ids begin so, or the one whose id it is.
func begun(ctx context.Context, tx *sql.Tx, id string) ([]row, error) {
	if id == "" {
		return nil, nil
	}
	rows, err := tx.QueryContext(ctx, `SELECT seq, time, id, body, count FROM events WHERE id >= ?1 AND id < ?1 || char(0x10FFFF)
		UNION ALL SELECT 0, time, id, body, count FROM open WHERE id >= ?1 AND id < ?1 || char(0x10FFFF)
		ORDER BY id LIMIT 2`, id)
	if err != nil {
		return nil, err
	}
	found, err := scanRows(rows)
	if len(found) > 1 && found[0].id == id {
		found = found[:1]
	}
	return found, err
}

// Neighbours returns up to n events right before the one with this id (or the
// beginning of one), and up to n right after it, both in the order of time.
func (r *Reader) Neighbours(ctx context.Context, id string, n int) (before, after []Event, err error) {
	e, _, err := r.Event(ctx, id)
	if err != nil || n <= 0 {
		return nil, nil, err
	}
	if before, err = r.page(ctx, Page{Before: e.ID, Limit: n, Newest: true}); err != nil {
		return nil, nil, err
	}
	slices.Reverse(before)
	after, err = r.page(ctx, Page{After: e.ID, Limit: n})
	return before, after, err
}

func (r *Reader) page(ctx context.Context, p Page) ([]Event, error) {
	var events []Event
	err := r.Events(ctx, Filter{}, p, func(e Event) error {
		events = append(events, e)
		return nil
	})
	return events, err
}
