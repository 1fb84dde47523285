package audit

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/sallyport/sallyport/policy"
)

// copy copies all that there is.
func (s *sink) copy() error {
	s.mu.Lock()
	era, waits := s.era, s.waits
	s.mu.Unlock()
	if waits {
		return nil // wake comes after begin
	}
	r, err := openReader(s.store)
	if err != nil {
		return err
	}
	defer r.Close() // it was only read
	ctx := context.Background()
	if err := s.resume(ctx, r.db, era); err != nil {
		return err
	}
	for {
		n, err := s.page(ctx, r.db, era)
		if err != nil || n == 0 {
			return err
		}
	}
}

// resume opens the file if it is not, and finds where it ends in the store's
// file of era.
func (s *sink) resume(ctx context.Context, db *sql.DB, era int) error {
	opened, err := s.file.open()
	if err != nil {
		return err
	}
	if opened {
		s.seen = -1
	}
	if s.seen == era {
		return nil
	}
	id, err := s.file.lastID()
	if err != nil {
		return err
	}
	var seq int64
	err = db.QueryRowContext(ctx, "SELECT seq FROM events WHERE id=?", id).Scan(&seq)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	s.seen = era
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil && s.era == era {
		s.written, s.skipped = seq, 0 // the rest of them, if any, is in this one
	}
	return nil
}

// page copies the next events of era and returns how many there were.
func (s *sink) page(ctx context.Context, db *sql.DB, era int) (int, error) {
	from, dropped, ok := s.next(era)
	if !ok {
		return 0, nil
	}
	rows, err := db.QueryContext(ctx, "SELECT seq, body FROM events WHERE seq > ? ORDER BY seq LIMIT ?", from, sinkPage)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	last, size := from, 0
	var lines [][]byte
	for rows.Next() {
		var seq int64
		var body []byte
		if err := rows.Scan(&seq, &body); err != nil {
			return 0, err
		}
		dropped += seq - last - 1 // deleted before they were copied
		last = seq
		lines = append(lines, append(body, '\n'))
		if size += len(body); size > sinkBytes {
			break
		}
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil || len(lines) == 0 {
		return 0, err
	}
	copied := len(lines)
	if dropped > 0 {
		line, err := droppedLine(dropped)
		if err != nil {
			return 0, err
		}
		lines = append([][]byte{line}, lines...)
	}
	if err := s.file.write(lines); err != nil {
		return 0, err
	}
	s.advance(era, last, dropped, int64(copied))
	return copied, nil
}

// next is the number after which to go on in era, and how many events that leaves
// out; ok is false if era is over.
func (s *sink) next(era int) (from, dropped int64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.era != era {
		return 0, 0, false
	}
	from = max(s.written, s.head-int64(s.o.Queue))
	return from, sum(from-s.written, s.skipped), true
}

// advance says that the events of era up to last are in the file, copied of them
// and a line that tells of the dropped ones.
func (s *sink) advance(era int, last, dropped, copied int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropped = sum(s.dropped, dropped)
	if s.era == era {
		s.written, s.skipped = last, 0
		return
	}
	s.skipped = max(s.skipped-dropped-copied, 0) // restart took them for skipped
}

func droppedLine(n int64) ([]byte, error) {
	e := note(RuleSinkDropped, fmt.Sprintf("%d events are not in this copy: it was too far behind the store, which has them", n), time.Now())
	e.Layer, e.Verdict = LayerControl, policy.Deny.String()
	return Encode(e)
}
