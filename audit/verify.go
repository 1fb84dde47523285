package audit

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
)

// maxProblems bounds a Report's list.
const maxProblems = 100

// Problem is one thing that Verify found.
type Problem struct {
	Seq  int64  // the event's number; zero: it is not of one event
	ID   string // empty: not known. It may hold any character
	What string // one line, printable
}

// Report is what Verify found.
type Report struct {
	Events      int64     // that were read
	First, Head Head      // of the events that are there; zero: none
	Open        int       // repeats that are being counted, not part of the chain yet
	OpenCount   int64     // their attempts
	Checkpoints int       // how often old events were deleted
	Problems    []Problem // the first 100
	OK          bool      // there is none
}

// Verify checks the store at path, also while it is written: the file itself,
// that every event is there and as it was chained, that the columns say what the
// events do, that the noted end is the end, and that head, as Head.String gives
// it, is in the chain (empty: nothing to compare). What it finds is in the
// report; an error means that it could not look.
func Verify(ctx context.Context, path, head string) (Report, error) {
	v := &verifier{}
	if head != "" {
		want, err := ParseHead(head)
		if err != nil {
			return Report{}, err
		}
		v.want = &want
	}
	r, err := openReader(path)
	if damaged(err) {
		v.problem(0, "", "damaged: %v", err)
		return v.report, nil
	}
	if err != nil {
		return Report{}, fmt.Errorf("verify the audit store: %w", err)
	}
	defer r.Close() // it was only read
	v.db = r.db
	for _, step := range []func(context.Context) error{v.file, v.ends, v.chain, v.open, v.sums} {
		if err := step(ctx); damaged(err) {
			v.problem(0, "", "damaged: %v", err)
		} else if err != nil {
			return Report{}, fmt.Errorf("verify the audit store %s: %w", path, err)
		}
	}
	v.compareHead()
	v.report.OK = len(v.report.Problems) == 0
	return v.report, nil
}

type verifier struct {
	db     *sql.DB
	report Report
	more   int   // problems that are not in the list
	want   *Head // nil: none
	found  bool  // want is in the chain
	link   link
}

func (v *verifier) problem(seq int64, id, format string, args ...any) {
	p := Problem{Seq: seq, ID: id, What: Printable(fmt.Sprintf(format, args...))}
	if len(v.report.Problems) < maxProblems {
		v.report.Problems = append(v.report.Problems, p)
		return
	}
	v.more++
	v.report.Problems[maxProblems-1] = Problem{What: fmt.Sprintf("and %d more", v.more+1)}
}

// file has SQLite look through its file.
func (v *verifier) file(ctx context.Context) error {
	rows, err := v.db.QueryContext(ctx, "PRAGMA integrity_check(20)")
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var what string
		if err := rows.Scan(&what); err != nil {
			return err
		}
		if what != "ok" {
			v.problem(0, "", "damaged: %s", what)
		}
	}
	return rows.Err()
}

// ends compares the last event with the note of it, and finds where the chain
// begins.
func (v *verifier) ends(ctx context.Context) error {
	tx, err := v.db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return err
	}
	defer tx.Rollback() // it was only read
	last, noted, err := heads(ctx, tx)
	if err != nil {
		return err
	}
	if noted.Seq > last.Seq {
		v.problem(last.Seq+1, "", "cut: the last event is %d, and it was noted that %d is", last.Seq, noted.Seq)
	} else if noted != last {
		v.problem(last.Seq, "", "changed: the last event is %s, and it was noted that %s is", last, noted)
	}
	if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM checkpoints").Scan(&v.report.Checkpoints); err != nil {
		return err
	}
	v.link.prev, v.link.known = Head{}, true
	begin, err := v.checkpoint(ctx, tx)
	if begin.Seq > 0 {
		v.link.prev = begin
	}
	v.report.Head = v.link.prev
	if err != nil {
		return err
	}
	return v.before(ctx, tx, begin)
}

// checkpoint returns the last event that was deleted.
func (v *verifier) checkpoint(ctx context.Context, q queryer) (at Head, err error) {
	var hash []byte
	err = q.QueryRowContext(ctx, "SELECT seq, hash FROM checkpoints ORDER BY seq DESC LIMIT 1").Scan(&at.Seq, &hash)
	if errors.Is(err, sql.ErrNoRows) {
		return Head{}, nil
	}
	if err != nil {
		return Head{}, err
	}
	if copy(at.Hash[:], hash) != len(hash) || len(hash) != len(at.Hash) {
		return Head{}, fmt.Errorf("%w: checkpoint %d has no hash", errDamaged, at.Seq)
	}
	v.compare(at)
	return at, nil
}

// open checks the repeats that are being counted.
func (v *verifier) open(ctx context.Context) error {
	rows, err := v.db.QueryContext(ctx, "SELECT id, "+columnNames+", body FROM open")
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var body []byte
		got := newValues()
		if err := rows.Scan(append(got.pointers(), &body)...); err != nil {
			return err
		}
		e, what := got.compare(body)
		v.report.Open++
		v.report.OpenCount = sum(v.report.OpenCount, e.Count)
		if what == "" && e.RepeatOf == "" {
			what = "it does not say of what"
		}
		if what != "" {
			v.problem(0, e.ID, "changed: of repeats that are being counted, %s", what)
		}
	}
	return rows.Err()
}

// sums checks what is summed up by the hour.
func (v *verifier) sums(ctx context.Context) error {
	err := checkRollup(ctx, v.db)
	if err == nil || ctx.Err() != nil || damaged(err) {
		return err
	}
	v.problem(0, "", "changed: %v", err)
	return nil
}

// compare looks whether at is the head that was asked for.
func (v *verifier) compare(at Head) {
	if v.want != nil && v.want.Hash == at.Hash && (v.want.Seq == 0 || v.want.Seq == at.Seq) {
		v.found = true
	}
}

// compareHead says what it means that the head was not in the chain.
func (v *verifier) compareHead() {
	r := v.report
	first := r.First.Seq
	if r.Events == 0 {
		first = r.Head.Seq // all were deleted, and of the last one the hash is known
	}
	switch w := v.want; {
	case w == nil || v.found || *w == Head{}:
	case w.Seq > r.Head.Seq:
		v.problem(w.Seq, "", "cut: the head is event %d, and the last one is %d", w.Seq, r.Head.Seq)
	case w.Seq > 0 && w.Seq < first:
		v.problem(w.Seq, "", "cannot be compared: the head is event %d, and those before %d were deleted for their age or the store's size", w.Seq, first)
	case w.Seq > 0:
		v.problem(w.Seq, "", "changed: the chain at event %d is not the head's; that one or any before it is another", w.Seq)
	default:
		v.problem(0, "", "cut or changed: the head is not in the chain; it may also be of an event that was deleted for its age or the store's size")
	}
}

// columnNames are those of what columnsOf gives, in the order of values.
const columnNames = "time, denied, layer, sandbox, agent, project, host, target, process, count, lost"

// values are an event's id and columns as a row has them.
type values [12]any

func newValues() *values { return new(values) }

func (v *values) pointers() []any {
	all := make([]any, len(v))
	for i := range v {
		all[i] = &v[i]
	}
	return all
}

// compare decodes body and says in what the row differs from it; empty: in
// nothing.
func (v *values) compare(body []byte) (e Event, what string) {
	if err := json.Unmarshal(body, &e); err != nil {
		return Event{}, "its content cannot be read"
	}
	c, denied := columnsOf(e), int64(0)
	if c.denied {
		denied = 1
	}
	names := [...]string{"id", "time", "denied", "layer", "sandbox", "agent", "project", "host", "target", "process", "count", "lost"}
	for i, want := range (values{e.ID, c.time, denied, c.layer, c.sandbox, c.agent, c.project, c.host, c.target, c.process, c.count, c.lost}) {
		got := v[i]
		if _, blob := got.([]byte); blob || got != want {
			return e, "its column " + names[i] + " is another than its content says"
		}
	}
	return e, ""
}
