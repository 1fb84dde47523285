package audit

import (
	"context"
	"database/sql"
	"encoding/json"
	"net/url"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)

func openStore(t testing.TB, path string) *Store {
	t.Helper()
	return openWith(t, path, Options{Now: func() time.Time { return noon }})
}

func openWith(t testing.TB, path string, o Options) *Store {
	t.Helper()
	s, err := Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func closeStore(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func storePath(t testing.TB) string {
	return filepath.Join(t.TempDir(), "audit.db")
}

func mustAppend(t testing.TB, s *Store, e Event) Event {
	t.Helper()
	e, err := s.Append(e)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// copyStore copies the files of a store as they are now, and returns the copy's
// path.
func copyStore(t testing.TB, path string) string {
	t.Helper()
	to := storePath(t)
	for _, suffix := range []string{"", "-wal"} {
		// cp, since closing a descriptor of ours would drop SQLite's locks.
		if out, err := exec.Command("cp", path+suffix, to+suffix).CombinedOutput(); err != nil && suffix == "" {
			t.Fatalf("cp: %v, %s", err, out)
		}
	}
	return to
}

// openSQL opens the database at path past the store, to look or to do harm.
func openSQL(t testing.TB, path string) *sql.DB {
	t.Helper()
	name := url.URL{Scheme: "file", Path: path, RawQuery: "_pragma=busy_timeout(5000)"}
	db, err := sql.Open("sqlite", name.String())
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	t.Cleanup(func() { db.Close() })
	return db
}

func mustExec(t testing.TB, db *sql.DB, text string, args ...any) {
	t.Helper()
	if _, err := db.ExecContext(context.Background(), text, args...); err != nil {
		t.Fatal(text, err)
	}
}

// chained returns the events of the chain, in its order.
func chained(t testing.TB, path string) []Event {
	t.Helper()
	return decodeAll(t, path, "SELECT body FROM events ORDER BY seq")
}

// opened returns the repeats that are being counted.
func opened(t testing.TB, path string) []Event {
	t.Helper()
	return decodeAll(t, path, "SELECT body FROM open ORDER BY id")
}

func decodeAll(t testing.TB, path, query string) []Event {
	t.Helper()
	db := openSQL(t, path)
	defer db.Close()
	rows, err := db.QueryContext(context.Background(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var all []Event
	for rows.Next() {
		var body []byte
		var e Event
		if err := rows.Scan(&body); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(body, &e); err != nil {
			t.Fatalf("not JSON: %s", body)
		}
		all = append(all, e)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}
