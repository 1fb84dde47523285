package audit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

// asideEvery is how often a damaged file may be set aside while the store runs:
// a broken disk must not fill with them.
const asideEvery = time.Minute

// begin opens the store for the first time.
func (w *writer) begin() error {
	w.failing = true // so that it writes at once, and we see whether it can
	w.prune.next = time.Now()
	w.loadedAt = -1
	err := w.transact(nil, false)
	if damaged(err) {
		if err = w.setAside(err); err == nil {
			err = w.transact(nil, false)
		}
	}
	if err != nil && w.db.conn != nil && w.s.opts.OnFailure == FailContinue {
		w.s.opts.Log.Error("the audit store cannot be written yet", "path", w.s.path, "err", err)
		w.finish(nil, err)
		return nil
	}
	return err
}

// ready makes the database one that can be written, and the writer's state the
// database's.
func (w *writer) ready(ctx context.Context) error {
	if w.db.conn != nil && w.db.stale() {
		if err := w.replaced(ctx); err != nil {
			return err
		}
	}
	if w.db.conn == nil {
		if err := w.open(ctx); err != nil {
			return err
		}
	}
	if !w.loaded {
		if err := w.load(ctx); err != nil {
			return err
		}
	}
	if err := w.sync.failing(); err != nil {
		if again := w.db.checkpointAll(ctx); again != nil {
			return fmt.Errorf("%w (%w)", err, again)
		}
		w.sync.recovered()
	}
	return nil
}

func (w *writer) open(ctx context.Context) error {
	w.loaded = false
	if err := w.orphan(); err != nil {
		return err
	}
	if err := w.db.open(ctx, w.s.path); err != nil {
		return err
	}
	wal, err := w.db.openWAL()
	if err != nil {
		return errors.Join(err, w.db.close())
	}
	return w.sync.use(wal)
}

// load reads the state out of the database. Repeats that are open in it are
// chained by the next transaction.
func (w *writer) load(ctx context.Context) error {
	last, noted, err := heads(ctx, w.db.conn)
	if err != nil {
		return err
	}
	left, err := w.db.rows(ctx)
	if err != nil {
		return err
	}
	if err := w.db.conn.QueryRowContext(ctx, "SELECT seq FROM summed").Scan(&w.summed); err != nil {
		return err
	}
	if w.summed > last.Seq { // the record was cut; what comes now has those numbers again
		w.summed = last.Seq
		if err := w.db.exec(ctx, "UPDATE summed SET seq = ?", w.summed); err != nil {
			return err
		}
	}
	w.head, w.left, w.windows, w.loaded = last, left, windows{}, true
	if w.loadedAt < 0 {
		w.loadedAt = last.Seq
	}
	if noted.Seq > last.Seq || noted.Seq == last.Seq && noted != last {
		w.say(RuleCut, fmt.Sprintf("the record ended with event %s, and it was noted that %s is the last", last, noted))
	}
	s := w.s
	s.mu.Lock()
	s.health.Head, s.health.Open = w.head, 0
	s.mu.Unlock()
	if s.sink != nil {
		s.sink.begin(last)
	}
	return nil
}

// replaced closes a database of which a file was deleted or replaced, so that it
// is opened again. What is in a deleted write-ahead log comes into the database
// by that.
func (w *writer) replaced(ctx context.Context) error {
	gone := inode(w.s.path) != w.db.file
	err := w.db.checkpointAll(ctx)
	err = errors.Join(err, w.sync.use(nil), w.db.close())
	w.s.opts.Log.Warn("the audit store's file was deleted or replaced; opening it again", "path", w.s.path, "err", err)
	w.loaded = false
	if gone {
		w.restartSink()
		w.say(RuleSetAside, "the record that was in use until now was deleted or replaced")
	}
	return nil
}

// restartSink has the sink wait until the file that comes is loaded.
func (w *writer) restartSink() {
	if w.s.sink != nil {
		w.s.sink.restart()
	}
}

func (w *writer) maySetAside() bool {
	return w.asideTime.IsZero() || time.Since(w.asideTime) >= asideEvery
}

// setAside moves a damaged database out of the way, all its files under one
// name, and has the next one begin with an event that says so.
func (w *writer) setAside(cause error) error {
	w.asideTime = time.Now()
	// Renamed while it is open: else SQLite would write to it as it closes it.
	to, err := moveAside(w.s.path, w.s.opts.Now())
	if err != nil {
		return fmt.Errorf("%w; it cannot be set aside: %w", cause, err)
	}
	if err := errors.Join(w.sync.use(nil), w.db.close()); err != nil {
		w.s.opts.Log.Warn("close the damaged audit store", "path", to, "err", err)
	}
	w.s.opts.Log.Error("the audit store was damaged; a new one begins", "path", w.s.path, "aside", to, "err", cause)
	w.loaded, w.left, w.loadedAt = false, nil, -1
	w.restartSink()
	w.say(RuleSetAside, fmt.Sprintf("the record before this one was damaged (%v) and is kept as %s", cause, to))
	s := w.s
	s.mu.Lock()
	s.health.SetAside = to
	s.mu.Unlock()
	return nil
}

// moveAside renames the files of the database at path to path.corrupt-TIME.
func moveAside(path string, now time.Time) (to string, err error) {
	to = path + ".corrupt-" + nameOfTime(now)
	for i := 1; inode(to) != 0; i++ {
		to = fmt.Sprintf("%s.corrupt-%s.%d", path, nameOfTime(now), i)
	}
	for _, suffix := range []string{"", "-wal", "-shm", "-journal"} {
		if err := os.Rename(path+suffix, to+suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	return to, syncDir(path)
}

// orphan sets aside what is left of a database that is gone itself: SQLite would
// delete it.
func (w *writer) orphan() error {
	if inode(w.s.path) != 0 {
		return nil
	}
	var left bool
	for _, suffix := range []string{"-wal", "-journal"} {
		exists, err := checkFile(w.s.path + suffix)
		if err != nil {
			return err
		}
		left = left || exists && fileSize(w.s.path+suffix) > 0
	}
	if !left {
		return nil
	}
	to, err := moveAside(w.s.path, w.s.opts.Now())
	if err == nil {
		w.s.opts.Log.Warn("a write-ahead log without its audit store was set aside", "path", w.s.path, "aside", to)
		w.say(RuleSetAside, "the record before this one is gone; what it had not taken in yet is kept as "+to+"-wal")
	}
	return err
}

// close closes the database, with all of it on the disk.
func (w *writer) close() error {
	w.sync.run()
	err := w.sync.failing()
	return errors.Join(err, w.sync.use(nil), w.db.close())
}
