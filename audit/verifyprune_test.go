package audit

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"strings"
	"testing"
)

// spied is a connection that calls before with the text of each query.
type spied struct {
	driver.Conn
	before func(query string)
}

func (c spied) BeginTx(ctx context.Context, o driver.TxOptions) (driver.Tx, error) {
	return c.Conn.(driver.ConnBeginTx).BeginTx(ctx, o)
}

func (c spied) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	c.before(query)
	return c.Conn.(driver.QueryerContext).QueryContext(ctx, query, args)
}

// spiedDriver opens the database at path.
type spiedDriver struct {
	driver driver.Driver
	path   string
	before func(query string)
}

func (d *spiedDriver) Driver() driver.Driver { return d.driver }

func (d *spiedDriver) Connect(context.Context) (driver.Conn, error) {
	c, err := d.driver.Open(d.path)
	return spied{Conn: c, before: func(query string) { d.before(query) }}, err
}

// Events that are deleted for their age between two looks of Verify are no
// problem, also if that is between the look at the first of them and the one at
// the checkpoint; a checkpoint before which there are events still is.
func TestVerifyWhileItIsPruned(t *testing.T) {
	for upTo, want := range map[int64]string{5: "", 6: "", 10: "", 18: "", 20: ""} {
		verifyWhile(t, `DELETE FROM events WHERE seq <= ?1`, upTo, want)
	}
	verifyWhile(t, `DELETE FROM events WHERE seq <= ?1 AND seq <> 9`, 10, "reordered: 1 events")
}

// verifyWhile verifies a store of 20 events, of which five are deleted after the
// look at its ends, and more, up to upTo, before the next look at checkpoints.
func verifyWhile(t *testing.T, prune string, upTo int64, want string) {
	t.Helper()
	path := storePath(t)
	s := openStore(t, path)
	store(t, s, old(20, 1))
	closeStore(t, s)
	db := openSQL(t, path)
	deleteTo := func(seq int64) {
		mustExec(t, db, `INSERT OR IGNORE INTO checkpoints SELECT seq, hash, 0, 5, 'age' FROM events WHERE seq=?`, seq)
		mustExec(t, db, prune, seq)
	}
	spy := &spiedDriver{driver: db.Driver(), path: path, before: func(string) {}}
	v := &verifier{db: sql.OpenDB(spy)}
	defer v.db.Close()
	if err := v.ends(t.Context()); err != nil {
		t.Fatal(err)
	}
	deleteTo(5)
	spy.before = func(query string) {
		if strings.Contains(query, "FROM checkpoints") {
			spy.before = func(string) {}
			deleteTo(upTo)
		}
	}
	if err := v.chain(t.Context()); err != nil {
		t.Fatal(err)
	}
	problems := v.report.Problems
	if want == "" && len(problems) > 0 || want != "" && (len(problems) != 1 || !strings.Contains(problems[0].What, want)) {
		t.Errorf("deleted up to %d: %+v, want %q", upTo, problems, want)
	}
}
