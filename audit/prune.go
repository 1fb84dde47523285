package audit

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"time"
)

// Old events are deleted pruneBatch at a time, between others' transactions.
// Size is looked at pruneEvery, and after sizeEvery events.
const (
	pruneBatch = 500
	pruneEvery = time.Hour
	sizeEvery  = 250
	// maxCheckpoints is how many checkpoints are kept, the last.
	maxCheckpoints = 1000
	// vacuumPages is how many free pages stay in the file, and how many are given
	// back at once beyond them.
	vacuumPages = 1000
	// longLog (bytes) is a write-ahead log that a reader keeps from ending. To
	// delete would make it longer.
	longLog = 64 << 20
)

// pruning is the deletion of old events.
type pruning struct {
	next    time.Time // when to look again
	since   int       // events since the size was looked at
	row     int64     // number of the checkpoint that this run has written; zero: none yet
	deleted int64     // by the transaction
}

func (p *pruning) due(now time.Time) bool {
	return !now.Before(p.next) || p.since >= sizeEvery
}

// pruneStep deletes some of the oldest events if they are too old or the store
// is too large. It is a part of a transaction.
func (w *writer) pruneStep(ctx context.Context) error {
	p, o := &w.prune, w.s.opts
	p.deleted = 0
	if o.Max > 0 {
		p.since += len(w.chained)
	}
	now := time.Now()
	if !p.due(now) {
		return nil
	}
	p.next, p.since = now.Add(pruneEvery), 0
	last, why := Head{}, "age"
	var err error
	if o.Keep > 0 {
		last, err = w.db.oldest(ctx, o.Now(), o.Keep)
	}
	if err == nil && last.Seq == 0 && o.Max > 0 {
		why = "size"
		last, err = w.tooLarge(ctx)
	}
	if err != nil || last.Seq == 0 {
		p.row = 0
		return err
	}
	p.next = now // there may be more
	return w.deleteUpTo(ctx, last, why)
}

// deleteUpTo deletes the events up to last and notes where the chain begins now.
func (w *writer) deleteUpTo(ctx context.Context, last Head, why string) error {
	p := &w.prune
	result, err := w.db.conn.ExecContext(ctx, "DELETE FROM events WHERE seq<=?", last.Seq)
	if err != nil {
		return err
	}
	if p.deleted, err = result.RowsAffected(); err != nil {
		return err
	}
	now := w.s.opts.Now().UnixNano()
	if p.row > 0 {
		err = w.db.exec(ctx, "UPDATE checkpoints SET seq=?, hash=?, time=?, events=events+?, why=? WHERE seq=?", last.Seq, last.Hash[:], now, p.deleted, why, p.row)
	} else {
		err = w.db.exec(ctx, "INSERT INTO checkpoints(seq, hash, time, events, why) VALUES(?, ?, ?, ?, ?)", last.Seq, last.Hash[:], now, p.deleted, why)
	}
	if err != nil {
		return err
	}
	p.row = last.Seq
	if err := w.db.exec(ctx, "DELETE FROM checkpoints WHERE seq < (SELECT min(seq) FROM (SELECT seq FROM checkpoints ORDER BY seq DESC LIMIT ?))", maxCheckpoints); err != nil {
		return err
	}
	return w.vacuum(ctx)
}

// vacuum gives free pages back to the file system: those beyond vacuumPages, or
// all if the store is too large.
func (w *writer) vacuum(ctx context.Context) error {
	pages, free, size, err := w.db.pages(ctx)
	if err != nil {
		return err
	}
	give := min(free-vacuumPages, vacuumPages)
	if w.s.opts.Max > 0 && pages*size > w.room() {
		give = min(free, vacuumPages)
	}
	if give <= 0 {
		return nil
	}
	return w.db.exec(ctx, fmt.Sprintf("PRAGMA incremental_vacuum(%d)", give))
}

// room is what the database may take, beside its write-ahead log.
func (w *writer) room() int64 {
	return w.s.opts.Max - min(walKept, w.s.opts.Max/4)
}

// tooLarge returns the last event that goes, of the next batch, if the store is
// too large, or was and has not become a tenth smaller than it may be.
func (w *writer) tooLarge(ctx context.Context) (last Head, err error) {
	pages, free, size, err := w.db.pages(ctx)
	if err != nil {
		return Head{}, err
	}
	limit := w.room()
	if w.prune.row > 0 {
		limit -= limit / 10
	}
	if (pages-free)*size <= limit {
		return Head{}, nil
	}
	if fileSize(w.s.path+"-wal") > longLog {
		w.prune.next = time.Now().Add(time.Minute)
		w.s.opts.Log.Warn("the audit store is too large, and a reader keeps it from becoming smaller", "path", w.s.path)
		return Head{}, nil
	}
	last, _, err = w.db.batch(ctx, math.MaxInt64, math.MinInt64) // whatever their time
	return last, err
}

func (d *database) pages(ctx context.Context) (pages, free, size int64, err error) {
	err = d.conn.QueryRowContext(ctx, "SELECT p.page_count, f.freelist_count, s.page_size "+
		"FROM pragma_page_count p, pragma_freelist_count f, pragma_page_size s").Scan(&pages, &free, &size)
	return pages, free, size, err
}

// oldest returns the last one of the oldest events, of the next batch, that are
// all older than keep; zero: none is. An event's time may be before that of one
// stored earlier, by a window of joined refusals. One that is a day in the future
// was made when the clock was wrong, or the clock is wrong now: it goes with one
// that was stored after it and is too old, never by itself.
func (d *database) oldest(ctx context.Context, now time.Time, keep time.Duration) (Head, error) {
	before, wrong := now.Add(-keep).UnixNano(), now.Add(24*time.Hour).UnixNano()
	last, certain, err := d.batch(ctx, before, wrong)
	if err != nil || certain.Seq > 0 || last.Seq == 0 {
		return certain, err
	}
	if goes, err := d.oldAfter(ctx, last.Seq, before, wrong); err != nil || !goes {
		return Head{}, err
	}
	return last, nil
}

// oldAfter says whether the first event after seq whose time is not after wrong
// is from before.
func (d *database) oldAfter(ctx context.Context, seq, before, wrong int64) (old bool, err error) {
	// Most often there is none at all, and the index tells.
	err = d.conn.QueryRowContext(ctx, "SELECT EXISTS(SELECT 1 FROM events WHERE time < ?)", before).Scan(&old)
	if err != nil || !old {
		return false, err
	}
	err = d.conn.QueryRowContext(ctx, "SELECT time < ? FROM events NOT INDEXED WHERE seq > ? AND time <= ? ORDER BY seq LIMIT 1", before, seq, wrong).Scan(&old)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return old, err
}

// batch looks at the oldest events, pruneBatch at most, as long as they are from
// before, or after wrong. It returns the last of them and the last from before;
// zero: there is none.
func (d *database) batch(ctx context.Context, before, wrong int64) (last, certain Head, err error) {
	rows, err := d.conn.QueryContext(ctx, "SELECT seq, hash, time FROM events ORDER BY seq LIMIT ?", pruneBatch)
	if err != nil {
		return Head{}, Head{}, err
	}
	defer rows.Close()
	for rows.Next() {
		var seq, at int64
		var hash []byte
		if err := rows.Scan(&seq, &hash, &at); err != nil {
			return Head{}, Head{}, err
		}
		if at >= before && at <= wrong || len(hash) != len(last.Hash) {
			break
		}
		last.Seq = seq
		copy(last.Hash[:], hash)
		if at < before {
			certain = last
		}
	}
	return last, certain, rows.Err()
}
