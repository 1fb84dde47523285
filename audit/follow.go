package audit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

// How Follow looks: at most every so often while there is much to see. The
// kernel tells of a write a moment before the write can be read, so it looks
// again, ever later; and every now and then without being told, for file systems
// that tell nothing.
const (
	lookEvery  = 50 * time.Millisecond
	lookIdle   = 10 * time.Second
	lookSlower = 5 // times as late as the look before
)

// Follow calls each for every event that f chooses and that was stored after the
// one with the id after (empty: after now), as they are stored, until ctx ends,
// whose error it returns. Repeats that are being counted come again whenever
// their count has changed, with Open set, and a last time without it: they keep
// their id. An event that Events gave may come once more after its successor was
// stored late; tell them by their ids. If the store is set aside and begun anew,
// Follow goes over to the new one. An error of each ends it and is returned as it
// is. Events that cannot be read are left out: see Verify.
func (r *Reader) Follow(ctx context.Context, f Filter, after string, each func(Event) error) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("follow the audit store: %w", err)
	}
	defer w.Close() // it was only read
	if err := w.Add(filepath.Dir(r.path)); err != nil {
		return fmt.Errorf("follow the audit store: watch its folder: %w", err)
	}
	t, err := newTail(ctx, r)
	if err != nil {
		return fmt.Errorf("follow the audit store: %w", err)
	}
	fw := follower{watcher: w, path: r.path, tail: t, filter: f}
	fw.each = func(e Event) error {
		fw.stopped = each(e)
		return fw.stopped
	}
	defer func() { _ = fw.tail.close() }() // it was only read
	if err := t.start(ctx, after); err != nil {
		return fmt.Errorf("follow the audit store: %w", err)
	}
	return fw.run(ctx)
}

// follower is one run of Follow.
type follower struct {
	watcher *fsnotify.Watcher
	path    string
	tail    *tail
	filter  Filter
	each    func(Event) error
	stopped error     // what each returned
	failing time.Time // since when the file cannot be read; zero: it can
}

func (f *follower) run(ctx context.Context) error {
	wait := time.Duration(lookEvery)
	timer := time.NewTimer(0)
	defer timer.Stop()
	soon := true // timer is as early as it may be
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("follow the audit store: %w", ctx.Err())
		case e, ok := <-f.watcher.Events:
			if !ok {
				return errors.New("follow the audit store: the watch of its folder ended")
			}
			if strings.HasPrefix(filepath.Base(e.Name), filepath.Base(f.path)) && !soon {
				wait, soon = lookEvery, true
				timer.Reset(lookEvery)
			}
		case <-f.watcher.Errors: // more happened than it could tell
			wait, soon = lookEvery, true
			timer.Reset(lookEvery)
		case <-timer.C:
			if err := f.look(ctx); err != nil {
				return err
			}
			soon = false
			timer.Reset(wait)
			wait = min(wait*lookSlower, lookIdle)
		}
	}
}

// look gives what is new. A file that cannot be read is given some time to be
// set aside.
func (f *follower) look(ctx context.Context) error {
	err := f.tail.read(ctx, f.filter, f.each)
	switch {
	case f.stopped != nil:
		return f.stopped
	case ctx.Err() != nil:
		return fmt.Errorf("follow the audit store: %w", ctx.Err())
	case f.tail.reader.replaced():
		return f.reopen(ctx)
	case err == nil:
		f.failing = time.Time{}
		return nil
	case !damaged(err):
		return err
	case f.failing.IsZero():
		f.failing = time.Now()
	case time.Since(f.failing) > lookIdle:
		return err
	}
	return nil
}

// reopen goes over to the file that is at the path now, if there is one already.
func (f *follower) reopen(ctx context.Context) error {
	next, err := openTail(ctx, f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the next look will
	}
	if err != nil {
		return fmt.Errorf("follow the audit store: %w", err)
	}
	// What was stored between the last look and the replacement: as far as it can
	// be read.
	_ = f.tail.read(ctx, f.filter, f.each)
	_ = f.tail.close()
	f.tail, f.failing = next, time.Time{}
	if f.stopped != nil {
		return f.stopped
	}
	return f.look(ctx)
}
