package audit

import (
	"context"
	"errors"
	"runtime"
	"time"
)

// writer is the one goroutine that changes the database, and its state.
type writer struct {
	s        *Store
	db       database
	sync     *syncer
	ids      ids
	loaded   bool  // what follows is as in the database
	loadedAt int64 // number of the last event when this file was first loaded; -1: it was not
	head     Head
	summed   int64     // number of the last event that is among the hourly sums
	left     []openRow // repeats that an earlier process, or a failure, left open
	windows  windows

	notes     []Event   // about the store itself, to be stored first
	unkept    unkept    // what could not be stored, to be told
	chained   []Event   // by the transaction, or by the last one
	joined    int64     // by the transaction
	hashed    []byte    // of the last event, to use again
	dirty     []*window // with rows to be written
	prune     pruning
	failing   bool      // the last transaction failed
	told      time.Time // when subscribers were last told of repeats
	asideTime time.Time // when a file was last set aside
}

// run stores what is asked for, until Close.
func (w *writer) run() error {
	timer := time.NewTimer(w.next(time.Now()))
	defer timer.Stop()
	for {
		stopping := false
		select {
		case <-w.s.wake:
		case <-timer.C:
		case <-w.s.stop:
			stopping = true
		}
		runtime.Gosched() // whoever can run now may have something to store as well
		batch := w.s.take()
		err := w.store(batch, stopping)
		w.finish(batch, err)
		if stopping {
			if w.s.sink != nil { // it reads what we close
				w.s.sink.close()
			}
			return errors.Join(err, w.close())
		}
		w.tell(time.Now())
		timer.Reset(w.next(time.Now()))
	}
}

// next is when the writer has something to do by itself.
func (w *writer) next(now time.Time) time.Duration {
	at := w.prune.next
	if len(w.windows.order) > 0 {
		at = earlier(at, w.windows.order[0].opened.Add(joinWindow))
	}
	if w.windows.rows > 0 && w.s.subscribed() {
		at = earlier(at, w.told.Add(tellEvery))
	}
	if w.failing {
		return max(earlier(at, now.Add(retryAfter)).Sub(now), 0)
	}
	if w.unsummed() {
		at = now
	}
	return max(at.Sub(now), 0)
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// store stores batch and all that is due. closing: repeats end whatever their
// time.
func (w *writer) store(batch []*request, closing bool) error {
	err := w.transact(batch, closing)
	if damaged(err) && w.maySetAside() {
		if err = w.setAside(err); err == nil {
			err = w.transact(batch, closing)
		}
	}
	return err
}

// transact is one transaction. After an error the writer's state is that of the
// database, once it is read again.
func (w *writer) transact(batch []*request, closing bool) error {
	ctx := context.Background()
	w.chained, w.dirty, w.joined = w.chained[:0], w.dirty[:0], 0
	if err := w.ready(ctx); err != nil {
		return err
	}
	if len(batch) == 0 && !w.due(closing) {
		return nil
	}
	w.db.events.begin()
	err := w.db.run(ctx, w.db.begin)
	if err != nil {
		return w.failed(err)
	}
	if err = w.fill(ctx, batch, closing); err == nil {
		w.sync.wait()
		err = w.db.run(ctx, w.db.commit)
	}
	if err != nil {
		w.db.exec(ctx, "ROLLBACK") // it may be over already
		return w.failed(err)
	}
	w.sync.committed(time.Now())
	w.committed()
	return nil
}

// failed forgets what the database may not have, and has it opened again if it
// is not just full: it may have been opened when it could only be read.
func (w *writer) failed(err error) error {
	w.loaded, w.prune.row, w.prune.deleted = false, 0, 0
	w.windows = windows{} // they have counted what was not stored
	if !full(err) && !damaged(err) {
		err = errors.Join(err, w.sync.use(nil), w.db.close())
	}
	return err
}

// due says whether there is something to store although nothing was asked for.
func (w *writer) due(closing bool) bool {
	now := time.Now()
	expired := len(w.windows.order) > 0 && now.Sub(w.windows.order[0].opened) >= joinWindow
	return expired || closing && len(w.windows.order) > 0 ||
		len(w.left) > 0 || len(w.notes) > 0 || w.failing || w.unsummed() || w.prune.due(now)
}

// committed tells everybody of what the transaction stored.
func (w *writer) committed() {
	w.left, w.notes, w.unkept, w.failing = nil, nil, unkept{}, false
	for _, d := range w.dirty {
		d.dirty, d.stored = false, true
	}
	s := w.s
	s.mu.Lock()
	s.health.Head, s.health.Open, s.health.Failing = w.head, w.windows.rows, ""
	s.health.Appended += int64(len(w.chained))
	s.health.Joined = sum(s.health.Joined, w.joined)
	s.health.Pruned += w.prune.deleted
	s.mu.Unlock()
	w.prune.deleted = 0
	s.publish(w.chained)
	if s.sink != nil && len(w.chained) > 0 {
		s.sink.wake(w.head)
	}
}

// finish answers the requests of batch; err: that they were not stored.
func (w *writer) finish(batch []*request, err error) {
	if err != nil {
		w.failing = true
		w.countUnkept(batch, err)
	}
	s := w.s
	s.mu.Lock()
	if err != nil {
		s.health.Failing = err.Error()
	} else if len(batch) > 0 {
		s.health.CommitLag = time.Since(batch[0].asked)
	}
	s.mu.Unlock()
	for _, r := range batch {
		r.settle(err == nil)
		if s.opts.OnFailure != FailContinue {
			r.err = err
		}
		close(r.done)
	}
}
