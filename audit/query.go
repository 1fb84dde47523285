package audit

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// batch is how many events are read at once. Between batches nothing of the
// database is held: who reads slowly does not keep the writer from clearing its
// log.
const batch = 256

// Page chooses some of the events that a Filter chooses.
type Page struct {
	After  string // only what comes after the event with this id; empty: from the first
	Before string // only what comes before the event with this id; empty: to the last
	Limit  int    // how many at most; zero: all
	Newest bool   // the newest ones, and those first; else the oldest
}

// row is an event as it is stored, and where it comes in the order of time.
type row struct {
	seq   int64 // zero: repeats that are still being counted
	time  int64
	id    string
	body  string
	count int64
}

// event is what the row holds; ok is false: it cannot be read.
func (a row) event() (e Event, ok bool) {
	if err := json.Unmarshal([]byte(a.body), &e); err != nil || e.Time.IsZero() {
		return Event{}, false
	}
	e.Open = a.seq == 0
	return e, true
}

// order is by time, then by id.
func (a row) order(b row) int {
	return cmp.Or(cmp.Compare(a.time, b.time), cmp.Compare(a.id, b.id))
}

// Events calls each for every event of the page, by time; repeats that are still
// being counted are among them, by their first. What is stored after the call
// began is not. An error of each ends it and is returned as it is. If events were
// unreadable, the others are still given, and the error is a *DamagedError at the
// end.
func (r *Reader) Events(ctx context.Context, f Filter, p Page, each func(Event) error) error {
	c := cursor{reader: r, filter: f, page: p}
	if err := r.view(ctx, func(tx *sql.Tx) error { return c.begin(ctx, tx) }); err != nil {
		return err
	}
	damaged := &DamagedError{Path: r.path}
	for given := 0; ; {
		rows, err := c.next(ctx)
		if err != nil || len(rows) == 0 {
			return cmp.Or(err, damaged.orNil())
		}
		for _, row := range rows {
			e, ok := row.event()
			if !ok {
				damaged.add(row.seq)
				continue
			}
			if err := each(e); err != nil {
				return err
			}
			if given++; given == p.Limit {
				return damaged.orNil()
			}
		}
	}
}

// cursor reads a page, batch by batch.
type cursor struct {
	reader   *Reader
	filter   Filter
	page     Page
	low      row   // what is read comes after it
	high     row   // and before it
	head     int64 // and was stored up to this one
	open     []row // in the order of reading
	finished bool  // there is nothing more but open
}

func (c *cursor) begin(ctx context.Context, tx *sql.Tx) error {
	c.low = row{time: math.MinInt64}
	c.high = row{time: math.MaxInt64, id: "\U0010FFFF"}
	for _, end := range []struct {
		id string
		at *row
	}{{c.page.After, &c.low}, {c.page.Before, &c.high}} {
		if end.id == "" {
			continue
		}
		at, err := place(ctx, tx, end.id)
		if err != nil {
			return err
		}
		*end.at = at
	}
	if since := (row{time: nanos(c.filter.Since)}); !c.filter.Since.IsZero() && since.order(c.low) > 0 {
		c.low = since
	}
	if until := (row{time: nanos(c.filter.Until)}); !c.filter.Until.IsZero() && until.order(c.high) < 0 {
		c.high = until
	}
	if err := tx.QueryRowContext(ctx, "SELECT coalesce(max(seq), 0) FROM events").Scan(&c.head); err != nil {
		return err
	}
	w := c.where()
	rows, err := tx.QueryContext(ctx, "SELECT 0, time, id, body, count FROM open"+w.sql(), w.args...)
	if err != nil {
		return err
	}
	c.open, err = scanRows(rows)
	slices.SortFunc(c.open, c.order)
	return err
}

// place is where the event with this id comes. Of one that is not there any more
// its id tells when it was recorded.
func place(ctx context.Context, tx *sql.Tx, id string) (row, error) {
	at := row{id: id}
	err := tx.QueryRowContext(ctx, "SELECT time FROM events WHERE id = ?1 UNION ALL SELECT time FROM open WHERE id = ?1", id).Scan(&at.time)
	if errors.Is(err, sql.ErrNoRows) {
		recorded, ok := idTime(id)
		if !ok {
			return row{}, fmt.Errorf("event %.40q: %w", id, ErrNotFound)
		}
		at.time, err = nanos(recorded), nil
	}
	return at, err
}

func (c *cursor) order(a, b row) int {
	if c.page.Newest {
		return b.order(a)
	}
	return a.order(b)
}

func (c *cursor) where() where {
	w := c.filter.where()
	w.add("(time, id) > (?, ?)", c.low.time, c.low.id)
	w.add("(time, id) < (?, ?)", c.high.time, c.high.id)
	return w
}

// next returns the next rows; none: that was all.
func (c *cursor) next(ctx context.Context) ([]row, error) {
	if c.finished {
		return nil, nil
	}
	limit, direction := batch, "ASC"
	if c.page.Limit > 0 {
		limit = min(limit, c.page.Limit)
	}
	if c.page.Newest {
		direction = "DESC"
	}
	w := c.where()
	w.add("+seq <= ?", c.head) // not by the index of seq: it has another order
	var got []row
	err := c.reader.view(ctx, func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, "SELECT seq, time, id, body, count FROM events INDEXED BY events_time"+w.sql()+
			" ORDER BY time "+direction+", id "+direction+" LIMIT "+strconv.Itoa(limit), w.args...)
		if err != nil {
			return err
		}
		got, err = scanRows(rows)
		return err
	})
	if err != nil {
		return nil, err
	}
	if c.finished = len(got) < limit; !c.finished {
		if last := got[len(got)-1]; c.page.Newest {
			c.high = last
		} else {
			c.low = last
		}
	}
	return c.merge(got), nil
}

// merge puts the open rows into the stored ones where they belong.
func (c *cursor) merge(got []row) []row {
	n := len(c.open)
	if !c.finished {
		n, _ = slices.BinarySearchFunc(c.open, got[len(got)-1], c.order)
	}
	got = append(got, c.open[:n]...)
	c.open = c.open[n:]
	slices.SortFunc(got, c.order)
	return got
}

func scanRows(rows *sql.Rows) ([]row, error) {
	defer rows.Close() // Err has the error
	var all []row
	for rows.Next() {
		var r row
		if err := rows.Scan(&r.seq, &r.time, &r.id, &r.body, &r.count); err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, rows.Err()
}

// idTime is when an id was made.
func idTime(id string) (time.Time, bool) {
	if len(id) != 26 {
		return time.Time{}, false
	}
	var millis int64
	for i := range 10 {
		digit := strings.IndexByte(crockford, id[i])
		if digit < 0 {
			return time.Time{}, false
		}
		millis = millis<<5 | int64(digit)
	}
	return time.UnixMilli(millis), true
}
