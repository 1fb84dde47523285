package audit

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
)

// ErrNotFound says that no event has the id.
var ErrNotFound = errors.New("no such event")

// ErrAmbiguous says that the ids of several events begin so.
var ErrAmbiguous = errors.New("several events' ids begin so")

// readers is how many queries of one Reader run at the same time; others wait.
const readers = 4

// Reader reads a store, also while another process writes it. It is safe for
// concurrent use. It stays with the file that was at the path when it was
// opened, but for Follow.
type Reader struct {
	path string
	info os.FileInfo // of the file
	db   *sql.DB
}

// OpenReader opens the store at path for reading. One that does not exist, or
// that no writer has finished to make, is an error (fs.ErrNotExist); nothing is
// made. Close releases it.
func OpenReader(path string) (*Reader, error) {
	r, err := openReader(path)
	if err != nil {
		return nil, fmt.Errorf("read the audit store: %w", err)
	}
	return r, nil
}

func openReader(path string) (*Reader, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	// Not opened: closing any descriptor of a database drops the locks that this
	// process has on it.
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	r, err := connect(path, false)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && noLog(path) {
		// In a folder that we cannot write to SQLite needs the log's files, which a
		// writer that has ended took with it: then nothing changes meanwhile.
		if still, errStill := connect(path, true); errStill == nil {
			r, err = still, nil
		}
	}
	if err != nil {
		return nil, err
	}
	r.info = info
	if r.replaced() {
		return nil, errors.Join(fmt.Errorf("%s was replaced: %w", path, fs.ErrNotExist), r.Close())
	}
	return r, nil
}

// replaced says whether another file is at the path now, or none.
func (r *Reader) replaced() bool {
	now, err := os.Stat(r.path)
	return err != nil || !os.SameFile(r.info, now)
}

// noLog says that no writer has the database open: it would have a log.
func noLog(path string) bool {
	info, err := os.Stat(path + "-wal")
	return errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0
}

// connect opens the database. immutable: nobody writes it.
func connect(path string, immutable bool) (*Reader, error) {
	db, err := sql.Open("sqlite", readerDSN(path, immutable))
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(readers)
	r := &Reader{path: path, db: db}
	fresh, err := checkVersion(context.Background(), db)
	if err == nil && fresh {
		err = fmt.Errorf("%s is empty: %w", path, fs.ErrNotExist)
	} else if err != nil {
		err = fmt.Errorf("%s: %w", path, err)
	}
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// readerDSN names the database at path to read it. What does not fit into the
// cache of a query goes to a temporary file, not to memory.
func readerDSN(path string, immutable bool) string {
	q := url.Values{
		"mode": {"ro"},
		"_dqs": {"0"},
		"_pragma": {
			"busy_timeout(5000)", "query_only(1)", "cache_size(-8000)", "temp_store(FILE)",
			"trusted_schema(OFF)", "cell_size_check(ON)", "mmap_size(0)",
		},
	}
	if immutable {
		q.Set("immutable", "1")
	}
	return (&url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}).String()
}

// Close releases what r holds. Queries that run meanwhile fail.
func (r *Reader) Close() error {
	if err := r.db.Close(); err != nil {
		return fmt.Errorf("close the audit store: %w", err)
	}
	return nil
}

// view calls use with one consistent state of the database, for as short as
// use takes: a writer cannot clear its log meanwhile.
func (r *Reader) view(ctx context.Context, use func(*sql.Tx) error) error {
	return view(ctx, r.db, use)
}

// beginner is a *sql.DB or *sql.Conn.
type beginner interface {
	BeginTx(ctx context.Context, opts *sql.TxOptions) (*sql.Tx, error)
}

func view(ctx context.Context, from beginner, use func(*sql.Tx) error) error {
	tx, err := from.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err == nil {
		err = errors.Join(use(tx), done(tx.Rollback()))
	}
	if err != nil {
		return fmt.Errorf("read the audit store: %w", err)
	}
	return nil
}

// done leaves out that a transaction had ended by itself.
func done(err error) error {
	if errors.Is(err, sql.ErrTxDone) {
		return nil
	}
	return err
}

// Head is the chain's last event; zero: there is none.
func (r *Reader) Head(ctx context.Context) (Head, error) {
	var h Head
	err := r.view(ctx, func(tx *sql.Tx) error {
		var hash []byte
		err := tx.QueryRowContext(ctx, `SELECT seq, hash FROM (
			SELECT seq, hash FROM events UNION ALL SELECT seq, hash FROM checkpoints
		) ORDER BY seq DESC LIMIT 1`).Scan(&h.Seq, &hash)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		copy(h.Hash[:], hash)
		return err
	})
	return h, err
}
