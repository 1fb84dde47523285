package audit

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"strconv"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// What marks a database as ours, and the form of its tables.
const (
	applicationID = 0x53414c59 // "SALY"
	schemaVersion = 2
	// oldestForm can still be read, and is made schemaVersion's by a writer.
	oldestForm = 1
)

// schema is the database's. Column hash of an event is the chain's at it: see
// Head. Those after it are read out of body (columnsOf), for queries alone;
// Verify compares them.
const schema = `
CREATE TABLE events(
	seq INTEGER PRIMARY KEY,
	id TEXT NOT NULL UNIQUE,
	body TEXT NOT NULL,
	hash BLOB NOT NULL,
	time INTEGER NOT NULL,
	denied INTEGER NOT NULL,
	layer TEXT NOT NULL,
	sandbox TEXT NOT NULL,
	agent TEXT NOT NULL,
	project TEXT NOT NULL,
	host TEXT NOT NULL,
	target TEXT NOT NULL,
	process TEXT NOT NULL,
	count INTEGER NOT NULL,
	lost INTEGER NOT NULL
) STRICT;
CREATE INDEX events_time ON events(time, id);
CREATE TABLE open(
	key BLOB PRIMARY KEY,
	id TEXT NOT NULL,
	repeat_of TEXT NOT NULL,
	body TEXT NOT NULL,
	count INTEGER NOT NULL,
	first INTEGER NOT NULL,
	last INTEGER NOT NULL,
	time INTEGER NOT NULL,
	denied INTEGER NOT NULL,
	layer TEXT NOT NULL,
	sandbox TEXT NOT NULL,
	agent TEXT NOT NULL,
	project TEXT NOT NULL,
	host TEXT NOT NULL,
	target TEXT NOT NULL,
	process TEXT NOT NULL,
	lost INTEGER NOT NULL
) STRICT;
CREATE TABLE checkpoints(
	seq INTEGER PRIMARY KEY,
	hash BLOB NOT NULL,
	time INTEGER NOT NULL,
	events INTEGER NOT NULL,
	why TEXT NOT NULL
) STRICT;
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
`

// writerDSN names the database at path for its one writer. NORMAL syncs at
// checkpoints only: the store syncs the log by itself (see syncer). The log
// is begun anew after a checkpoint, so that without a reader in its way it stays
// at some MB.
func writerDSN(path string) string {
	q := url.Values{
		"mode":         {"rwc"},
		"_txlock":      {"immediate"},
		"_defensive":   {"1"},
		"_dqs":         {"0"},
		"_auto_vacuum": {"INCREMENTAL"},
		"_pragma": {
			"busy_timeout(5000)", "journal_mode(WAL)", "synchronous(NORMAL)", "wal_autocheckpoint(1000)",
			"journal_size_limit(" + strconv.Itoa(walKept) + ")", "cache_size(-8000)", "temp_store(MEMORY)",
			"trusted_schema(OFF)", "cell_size_check(ON)", "mmap_size(0)",
		},
	}
	return (&url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}).String()
}

// queryer is a *sql.DB, *sql.Conn or *sql.Tx.
type queryer interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// checkVersion says whether the database is ours and of a form that is known;
// fresh: it is empty.
func checkVersion(ctx context.Context, q queryer) (fresh bool, err error) {
	var id, version, tables int64
	err = q.QueryRowContext(ctx, "SELECT a.application_id, v.user_version, (SELECT count(*) FROM sqlite_schema) "+
		"FROM pragma_application_id a, pragma_user_version v").Scan(&id, &version, &tables)
	switch {
	case err != nil:
		return false, err
	case id == 0 && version == 0 && tables == 0:
		return true, nil
	case id != applicationID:
		return false, errors.New("it is another program's database\nhint: move it away")
	case version > schemaVersion:
		return false, fmt.Errorf("it was written by a newer version (form %d; this one knows up to %d)\nhint: use that version, or move the file away", version, schemaVersion)
	case version < oldestForm:
		return false, fmt.Errorf("its form %d is unknown\nhint: move it away", version)
	}
	return false, nil
}

// create makes the tables, all or none.
func create(ctx context.Context, c *sql.Conn) error {
	return apply(ctx, c, schema+rollupSchema+fmt.Sprintf("PRAGMA application_id=%d;", applicationID))
}

// upgrade gives the database the newest form, or leaves it as it is.
func upgrade(ctx context.Context, c *sql.Conn) error {
	of, err := form(ctx, c)
	if err != nil || of == schemaVersion {
		return err
	}
	if err := apply(ctx, c, rollupUpgrade); err != nil {
		return fmt.Errorf("upgrade from form %d to %d: %w", of, schemaVersion, err)
	}
	return nil
}

// apply makes a change after which the database has the newest form.
func apply(ctx context.Context, c *sql.Conn, change string) error {
	tx, err := c.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, change+fmt.Sprintf("PRAGMA user_version=%d;", schemaVersion)); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

// damaged says whether err means that the file itself is broken.
func damaged(err error) bool {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		code := e.Code() & 0xff
		return code == sqlite3.SQLITE_CORRUPT || code == sqlite3.SQLITE_NOTADB
	}
	return errors.Is(err, errDamaged)
}

// full says whether err means that there is no room left.
func full(err error) bool {
	e, ok := errors.AsType[*sqlite.Error](err)
	return ok && e.Code()&0xff == sqlite3.SQLITE_FULL
}

// errDamaged is for what the database's own checks do not see.
var errDamaged = errors.New("the file is damaged")
