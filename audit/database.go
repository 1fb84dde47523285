package audit

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"
)

// walKept (bytes) is how much of the write-ahead log's file stays once all of it
// is in the database.
const walKept = 8 << 20

// database is the writer's connection. Its zero value is closed.
type database struct {
	path string
	pool *sql.DB
	conn *sql.Conn // nil: closed
	file uint64    // inode of the database
	wal  uint64    // inode of its write-ahead log

	events inserts

	begin, commit, insertRow, updateRow, removeRow, setHead *sql.Stmt
}

// openRow is a row of table open.
type openRow struct {
	key   joinKey
	event Event
}

// open opens the database at path, and makes it if there is none.
func (d *database) open(ctx context.Context, path string) (err error) {
	if err := prepareFile(path); err != nil {
		return err
	}
	d.path = path
	if d.pool, err = sql.Open("sqlite", writerDSN(path)); err != nil {
		return err
	}
	d.pool.SetMaxOpenConns(1)
	if d.conn, err = d.pool.Conn(ctx); err != nil {
		return errors.Join(err, d.close())
	}
	fresh, err := checkVersion(ctx, d.conn)
	if err == nil && fresh {
		err = create(ctx, d.conn)
	} else if err == nil {
		err = upgrade(ctx, d.conn)
	}
	if err == nil {
		err = d.prepare(ctx)
	}
	if err != nil {
		return errors.Join(err, d.close())
	}
	d.file, d.wal = inode(path), inode(path+"-wal")
	return nil
}

func (d *database) prepare(ctx context.Context) error {
	for stmt, text := range d.statements() {
		var err error
		if *stmt, err = d.conn.PrepareContext(ctx, text); err != nil {
			return err
		}
	}
	return d.events.open(ctx, d.conn)
}

func (d *database) statements() map[**sql.Stmt]string {
	return map[**sql.Stmt]string{
		&d.begin:  "BEGIN IMMEDIATE",
		&d.commit: "COMMIT",
		&d.insertRow: "INSERT INTO open(key, id, repeat_of, body, count, first, last, time, denied, layer, sandbox, agent, project, host, target, process, lost) " +
			"VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
		&d.updateRow: "UPDATE open SET body=?, count=?, first=?, last=?, time=?, host=?, target=? WHERE key=?",
		&d.removeRow: "DELETE FROM open WHERE key=?",
		&d.setHead:   "INSERT INTO meta(key, value) VALUES('head', ?) ON CONFLICT(key) DO UPDATE SET value=excluded.value",
	}
}

// stale says whether another file has come in the place of one that is open, or
// none: what is written would be lost in silence.
func (d *database) stale() bool {
	return inode(d.path) != d.file || inode(d.path+"-wal") != d.wal
}

func (d *database) close() error {
	if d.pool == nil {
		return nil
	}
	err := d.events.close()
	for stmt := range d.statements() {
		if *stmt != nil { // one that is left open would keep SQLite from closing its files
			err = errors.Join(err, (*stmt).Close())
		}
	}
	if d.conn != nil {
		err = errors.Join(err, d.conn.Close())
	}
	err = errors.Join(err, d.pool.Close())
	*d = database{}
	return err
}

func (d *database) exec(ctx context.Context, text string, args ...any) error {
	_, err := d.conn.ExecContext(ctx, text, args...)
	return err
}

func (d *database) run(ctx context.Context, stmt *sql.Stmt) error {
	_, err := stmt.ExecContext(ctx)
	return err
}

// putRow writes w's repeats.
func (d *database) putRow(ctx context.Context, w *window) error {
	e := *w.repeats
	line, err := Encode(e)
	if err != nil {
		return err
	}
	c, body := columnsOf(e), string(line[:len(line)-1])
	if w.stored {
		_, err = d.updateRow.ExecContext(ctx, body, c.count, e.First.UnixNano(), e.Last.UnixNano(), c.time, c.host, c.target, w.key[:])
		return err
	}
	_, err = d.insertRow.ExecContext(ctx, w.key[:], e.ID, e.RepeatOf, body, c.count, e.First.UnixNano(), e.Last.UnixNano(),
		c.time, c.denied, c.layer, c.sandbox, c.agent, c.project, c.host, c.target, c.process, c.lost)
	return err
}

func (d *database) deleteRow(ctx context.Context, key joinKey) error {
	_, err := d.removeRow.ExecContext(ctx, key[:])
	return err
}

// putHead notes the chain's end beside it, so that a cut tail shows.
func (d *database) putHead(ctx context.Context, h Head) error {
	_, err := d.setHead.ExecContext(ctx, h.String())
	return err
}

// heads returns the last event's head, or the last checkpoint's if there is no
// event, and the noted one; zero: none.
func heads(ctx context.Context, q queryer) (last, noted Head, err error) {
	var hash []byte
	var text string
	err = q.QueryRowContext(ctx, "SELECT seq, hash FROM events ORDER BY seq DESC LIMIT 1").Scan(&last.Seq, &hash)
	if errors.Is(err, sql.ErrNoRows) {
		err = q.QueryRowContext(ctx, "SELECT seq, hash FROM checkpoints ORDER BY seq DESC LIMIT 1").Scan(&last.Seq, &hash)
	}
	switch {
	case errors.Is(err, sql.ErrNoRows):
	case err != nil:
		return Head{}, Head{}, err
	case len(hash) != sha256.Size || last.Seq < 1:
		return Head{}, Head{}, fmt.Errorf("%w: the last event has no hash", errDamaged)
	}
	copy(last.Hash[:], hash)
	err = q.QueryRowContext(ctx, "SELECT value FROM meta WHERE key='head'").Scan(&text)
	if errors.Is(err, sql.ErrNoRows) {
		return last, Head{}, nil
	}
	if err != nil {
		return Head{}, Head{}, err
	}
	if noted, err = ParseHead(text); err != nil {
		return Head{}, Head{}, fmt.Errorf("%w: its note of the last event cannot be read", errDamaged)
	}
	return last, noted, nil
}

// rows returns what table open holds, the oldest first.
func (d *database) rows(ctx context.Context) ([]openRow, error) {
	rows, err := d.conn.QueryContext(ctx, "SELECT key, body FROM open ORDER BY first, id")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []openRow
	for rows.Next() {
		var key, body []byte
		if err := rows.Scan(&key, &body); err != nil {
			return nil, err
		}
		var r openRow
		if err := json.Unmarshal(body, &r.event); err != nil || len(key) != len(r.key) || r.event.ID == "" {
			return nil, fmt.Errorf("%w: repeats of it cannot be read", errDamaged)
		}
		copy(r.key[:], key)
		all = append(all, r)
	}
	return all, rows.Err()
}

// checkpointAll brings the whole write-ahead log into the database file and that
// to the disk.
func (d *database) checkpointAll(ctx context.Context) error {
	var busy, frames, done int64
	if err := d.conn.QueryRowContext(ctx, "PRAGMA wal_checkpoint(PASSIVE)").Scan(&busy, &frames, &done); err != nil {
		return err
	}
	if busy != 0 || done < frames {
		return fmt.Errorf("%d of %d pages are in the database yet", done, frames)
	}
	return nil
}

// openWAL opens the write-ahead log to sync it. (Closing such a descriptor drops
// no lock: SQLite's are on the other files.)
func (d *database) openWAL() (*os.File, error) {
	return os.Open(d.path + "-wal")
}

// nameOfTime is now as a part of a file's name.
func nameOfTime(now time.Time) string {
	return now.UTC().Format("20060102T150405.000Z")
}
