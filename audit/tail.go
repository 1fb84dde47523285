package audit

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// tail reads what is added to one database file.
type tail struct {
	reader  *Reader
	owned   bool      // reader is closed with it
	conn    *sql.Conn // data_version is a connection's
	version int64     // data_version when all was read; negative: it never was
	seq     int64     // what was stored up to here was read
	open    map[string]int64
}

// newTail begins before the first event of r's file.
func newTail(ctx context.Context, r *Reader) (*tail, error) {
	conn, err := r.db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	return &tail{reader: r, conn: conn, version: -1}, nil
}

// openTail begins before the first event of the file that is at path now.
func openTail(ctx context.Context, path string) (*tail, error) {
	r, err := openReader(path)
	if err != nil {
		return nil, err
	}
	t, err := newTail(ctx, r)
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	t.owned = true
	return t, nil
}

func (t *tail) close() error {
	err := t.conn.Close()
	if t.owned {
		err = errors.Join(err, t.reader.Close())
	}
	return err
}

// start leaves out what was stored up to the event with the id after; empty: all
// that is there.
func (t *tail) start(ctx context.Context, after string) error {
	return view(ctx, t.conn, func(tx *sql.Tx) (err error) {
		if after != "" {
			t.seq, err = position(ctx, tx, after)
			return err
		}
		if err := tx.QueryRowContext(ctx, "SELECT coalesce(max(seq), 0) FROM events").Scan(&t.seq); err != nil {
			return err
		}
		_, err = t.counts(ctx, tx, Filter{})
		return err
	})
}

// position is the number of the last event that was stored before, or as, the one
// with this id. Of repeats that are being counted it is the event they repeat; of
// what is not there any more it is found by the order of ids.
func position(ctx context.Context, tx *sql.Tx, id string) (seq int64, err error) {
	err = tx.QueryRowContext(ctx, `SELECT seq FROM events WHERE id = ?1
		UNION ALL SELECT seq FROM events WHERE id IN (SELECT repeat_of FROM open WHERE id = ?1)`, id).Scan(&seq)
	if !errors.Is(err, sql.ErrNoRows) {
		return seq, err
	}
	if _, ok := idTime(id); !ok {
		return 0, fmt.Errorf("event %.40q: %w", id, ErrNotFound)
	}
	err = tx.QueryRowContext(ctx, `SELECT coalesce((SELECT min(seq) - 1 FROM events WHERE id > ?), max(seq), 0) FROM events`, id).Scan(&seq)
	return seq, err
}

// read gives what was added since the last read.
func (t *tail) read(ctx context.Context, f Filter, each func(Event) error) error {
	var version int64
	if err := t.conn.QueryRowContext(ctx, "PRAGMA data_version").Scan(&version); err != nil {
		return fmt.Errorf("follow the audit store: %w", err)
	}
	for more := version != t.version; more; {
		var rows []row
		err := view(ctx, t.conn, func(tx *sql.Tx) (err error) {
			rows, more, err = t.added(ctx, tx, f)
			return err
		})
		if err != nil {
			return err
		}
		for _, row := range rows {
			e, ok := row.event()
			if !ok {
				continue
			}
			if err := each(e); err != nil {
				return err
			}
		}
	}
	t.version = version
	return nil
}

// added returns the next events, and after the last of them the repeats whose
// count has changed; more: there are others.
func (t *tail) added(ctx context.Context, tx *sql.Tx, f Filter) (rows []row, more bool, err error) {
	var head, deleted int64
	err = tx.QueryRowContext(ctx, `SELECT coalesce(max(seq), 0), (SELECT coalesce(max(seq), 0) FROM checkpoints) FROM events`).Scan(&head, &deleted)
	if err != nil {
		return nil, false, err
	}
	if t.version >= 0 && deleted > t.seq {
		return nil, false, fmt.Errorf("%d events were deleted before they were read\nhint: start again", deleted-t.seq)
	}
	w := f.whereWithTimes()
	w.add("seq > ? AND seq <= ?", t.seq, head)
	w.args = append(w.args, batch)
	found, err := tx.QueryContext(ctx, "SELECT seq, time, id, body, count FROM events NOT INDEXED"+w.sql()+" ORDER BY seq LIMIT ?", w.args...)
	if err != nil {
		return nil, false, err
	}
	if rows, err = scanRows(found); err != nil {
		return nil, false, err
	}
	if len(rows) == batch {
		t.seq = rows[batch-1].seq
		return rows, true, nil
	}
	t.seq = max(t.seq, head)
	changed, err := t.counts(ctx, tx, f)
	return append(rows, changed...), false, err
}

// counts returns the repeats that f chooses and that were counted on since they
// were returned last.
func (t *tail) counts(ctx context.Context, tx *sql.Tx, f Filter) ([]row, error) {
	w := f.whereWithTimes()
	found, err := tx.QueryContext(ctx, "SELECT 0, time, id, body, count FROM open"+w.sql()+" ORDER BY time, id", w.args...)
	if err != nil {
		return nil, err
	}
	all, err := scanRows(found)
	if err != nil {
		return nil, err
	}
	var changed []row
	now := make(map[string]int64, len(all))
	for _, row := range all {
		if now[row.id] = row.count; t.open[row.id] != row.count {
			changed = append(changed, row)
		}
	}
	t.open = now
	return changed, nil
}
