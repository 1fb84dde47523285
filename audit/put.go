package audit

import (
	"context"
	"time"
)

// fill puts everything into the transaction.
func (w *writer) fill(ctx context.Context, batch []*request, closing bool) error {
	before, now := w.head, time.Now()
	if err := w.putFirst(ctx); err != nil {
		return err
	}
	if err := w.endWindows(ctx, now, false); err != nil {
		return err
	}
	for _, r := range batch {
		for i := range r.entries {
			if err := w.put(ctx, &r.events[i], &r.entries[i], now); err != nil {
				return err
			}
		}
	}
	if err := w.endWindows(ctx, now, closing); err != nil {
		return err
	}
	if err := w.db.events.flush(ctx); err != nil {
		return err
	}
	for _, d := range w.dirty {
		if d.ended {
			continue
		}
		if err := w.db.putRow(ctx, d); err != nil {
			return err
		}
	}
	if err := w.sumStep(ctx); err != nil {
		return err
	}
	if err := w.pruneStep(ctx); err != nil {
		return err
	}
	if w.head != before || w.failing { // failing: something must show that it writes again
		return w.db.putHead(ctx, w.head)
	}
	return nil
}

// putFirst stores what was left open, and what there is to say of the store
// itself.
func (w *writer) putFirst(ctx context.Context) error {
	for _, row := range w.left {
		if err := w.chain(ctx, row.event); err != nil {
			return err
		}
		if err := w.db.deleteRow(ctx, row.key); err != nil {
			return err
		}
	}
	for _, note := range w.notes {
		if err := w.chainNew(ctx, &note); err != nil {
			return err
		}
	}
	if w.unkept.total() == 0 {
		return nil
	}
	note := w.unkept.event(w.s.opts.Now())
	return w.chainNew(ctx, &note)
}

// put stores one event, or counts it among the repeats of an earlier one.
func (w *writer) put(ctx context.Context, e *Event, to *entry, now time.Time) error {
	to.in = nil // it may be the second try
	if to.join {
		if win := w.windows.find(to.key); win != nil {
			to.in = win
			return w.join(e, win)
		}
	}
	if err := w.chainNew(ctx, e); err != nil {
		return err
	}
	if to.join {
		w.windows.begin(to.key, e.ID, now)
	}
	return nil
}

func (w *writer) join(e *Event, win *window) error {
	var id string
	if win.repeats == nil {
		var err error
		if id, err = w.ids.next(w.s.opts.Now()); err != nil {
			return err
		}
	}
	if !win.dirty {
		w.dirty = append(w.dirty, win)
	}
	w.windows.add(win, *e, id)
	w.joined = sum(w.joined, e.Count)
	return nil
}

// chainNew gives e its id and makes it the chain's next event.
func (w *writer) chainNew(ctx context.Context, e *Event) error {
	id, err := w.ids.next(w.s.opts.Now())
	if err != nil {
		return err
	}
	e.ID = id
	return w.chain(ctx, *e)
}

func (w *writer) chain(ctx context.Context, e Event) error {
	hashed, err := appendBody(w.head.prefix(w.hashed[:0]), &e)
	if err != nil {
		return err
	}
	w.hashed = hashed
	head := w.head.nextOf(hashed)
	if err := w.db.events.add(ctx, head, &e, string(hashed[prefixSize:])); err != nil {
		return err
	}
	w.head = head
	w.chained = append(w.chained, e)
	return nil
}

// endWindows chains the repeats of windows whose time is up; of all, if all is
// set.
func (w *writer) endWindows(ctx context.Context, now time.Time, all bool) error {
	for {
		win := w.windows.over(now)
		if win == nil && all {
			win = w.windows.pop()
		}
		if win == nil {
			return nil
		}
		win.ended, win.dirty = true, false
		if win.repeats == nil {
			continue
		}
		if err := w.chain(ctx, *win.repeats); err != nil {
			return err
		}
		if win.stored {
			if err := w.db.deleteRow(ctx, win.key); err != nil {
				return err
			}
		}
	}
}
