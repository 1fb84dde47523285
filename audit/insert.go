package audit

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
)

// rowsAtOnce is how many events one statement adds: to begin and end a statement
// costs about what a row does.
const rowsAtOnce = 16

// eventColumns are those of an event, in the order of inserts.add, and eventWidth
// their number.
const (
	eventColumns = "seq, id, body, hash, time, denied, layer, sandbox, agent, project, host, target, process, count, lost"
	eventWidth   = 15
)

// inserts adds events to the database. They go past database/sql, which copies
// and checks each of their values anew. Its zero value is closed.
type inserts struct {
	conn    *sql.Conn
	many    driver.StmtExecContext // adds rowsAtOnce events
	one     driver.StmtExecContext
	waiting []driver.NamedValue // the rows that are not in the database yet
}

func (in *inserts) open(ctx context.Context, conn *sql.Conn) (err error) {
	in.conn = conn
	if in.one, err = in.prepare(ctx, 1); err == nil {
		in.many, err = in.prepare(ctx, rowsAtOnce)
	}
	return err
}

func (in *inserts) prepare(ctx context.Context, rows int) (stmt driver.StmtExecContext, err error) {
	row := "(?" + strings.Repeat(", ?", eventWidth-1) + ")"
	// OR FAIL: after an error the whole transaction is rolled back, so SQLite need
	// not keep what would undo the statement alone.
	text := "INSERT OR FAIL INTO events(" + eventColumns + ") VALUES" + row + strings.Repeat(", "+row, rows-1)
	err = in.conn.Raw(func(conn any) error {
		preparer, ok := conn.(driver.ConnPrepareContext)
		if !ok {
			return fmt.Errorf("%T prepares no statements", conn)
		}
		prepared, err := preparer.PrepareContext(ctx, text)
		if err != nil {
			return err
		}
		if stmt, ok = prepared.(driver.StmtExecContext); !ok {
			return errors.Join(fmt.Errorf("%T cannot be executed", prepared), prepared.Close())
		}
		return nil
	})
	return stmt, err
}

func (in *inserts) close() error {
	if in.conn == nil {
		return nil
	}
	err := in.conn.Raw(func(any) error {
		var err error
		for _, stmt := range []driver.StmtExecContext{in.one, in.many} {
			if prepared, ok := stmt.(driver.Stmt); ok {
				err = errors.Join(err, prepared.Close())
			}
		}
		return err
	})
	*in = inserts{}
	return err
}

// begin forgets what an earlier transaction may have left.
func (in *inserts) begin() {
	clear(in.waiting) // for the garbage collector
	in.waiting = in.waiting[:0]
}

// add adds e, whose JSON is body, at the chain's end: at the latest when flush
// returns.
func (in *inserts) add(ctx context.Context, at Head, e *Event, body string) error {
	c := columnsOf(*e)
	denied := int64(0)
	if c.denied {
		denied = 1
	}
	for _, value := range [...]driver.Value{at.Seq, e.ID, body, at.Hash[:], c.time, denied, c.layer, c.sandbox, c.agent, c.project,
		c.host, c.target, c.process, c.count, c.lost} {
		in.waiting = append(in.waiting, driver.NamedValue{Ordinal: len(in.waiting) + 1, Value: value})
	}
	if len(in.waiting) < rowsAtOnce*eventWidth {
		return nil
	}
	err := in.exec(ctx, in.many, in.waiting)
	in.begin()
	return err
}

// flush adds what waits.
func (in *inserts) flush(ctx context.Context) error {
	defer in.begin()
	for row := in.waiting; len(row) > 0; row = row[eventWidth:] {
		values := row[:eventWidth]
		for i := range values {
			values[i].Ordinal = i + 1
		}
		if err := in.exec(ctx, in.one, values); err != nil {
			return err
		}
	}
	return nil
}

func (in *inserts) exec(ctx context.Context, stmt driver.StmtExecContext, values []driver.NamedValue) error {
	return in.conn.Raw(func(any) error {
		_, err := stmt.ExecContext(ctx, values)
		return err
	})
}
