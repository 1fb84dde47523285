package audit

import (
	"context"
	"fmt"
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
	return w.db.batch(ctx, func(int64) bool { return true })
}

func (d *database) pages(ctx context.Context) (pages, free, size int64, err error) {
	err = d.conn.QueryRowContext(ctx, "SELECT p.page_count, f.freelist_count, s.page_size "+
		"FROM pragma_page_count p, pragma_freelist_count f, pragma_page_size s").Scan(&pages, &free, &size)
	return pages, free, size, err
}

// oldest returns the last one of the oldest events, of the next batch, that are
// all older than keep; zero: none is. An event's time may be before that of one
// stored earlier, by a window of joined refusals. One that is a day in the future
// was made when the clock was wrong: it keeps no older ones.
func (d *database) oldest(ctx context.Context, now time.Time, keep time.Duration) (Head, error) {
	before, wrong := now.Add(-keep).UnixNano(), now.Add(24*time.Hour).UnixNano()
	return d.batch(ctx, func(at int64) bool { return at < before || at > wrong })
}

// batch returns the last of the oldest events, pruneBatch at most, of which old
// says that all are; zero: the first is not.
func (d *database) batch(ctx context.Context, old func(time int64) bool) (last Head, err error) {
	rows, err := d.conn.QueryContext(ctx, "SELECT seq, hash, time FROM events ORDER BY seq LIMIT ?", pruneBatch)
	if err != nil {
		return Head{}, err
	}
	defer rows.Close()
	for rows.Next() {
		var seq, at int64
		var hash []byte
		if err := rows.Scan(&seq, &hash, &at); err != nil {
			return Head{}, err
		}
		if !old(at) || len(hash) != len(last.Hash) {
			break
		}
		last.Seq = seq
		copy(last.Hash[:], hash)
	}
	return last, rows.Err()
}
