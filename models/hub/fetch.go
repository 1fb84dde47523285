package hub

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	maxTries   = 5                // without a byte in between
	maxCuts    = 1000             // of one file, with bytes in between
	parallel   = 4                // files at once
	idle       = 60 * time.Second // without a byte
	firstPause = time.Second      // before the second try; doubled for each further one
	maxPause   = 2 * time.Minute  // whatever the hub asks for
	spare      = 64 << 20         // bytes that must stay free on the disk
)

// Options is what a Fetch needs beside its job. All may be left out.
type Options struct {
	Token  string                                // HF_TOKEN; empty: none. Only the hub's own host gets it
	Proxy  func(*http.Request) (*url.URL, error) // for every connection; nil: none
	Report func(Progress)                        // is told what happens, by one goroutine at a time

	wait func(context.Context, time.Duration) error // between tries; nil: sleeps
	free func(*store) (int64, error)                // bytes on the disk; nil: asks it
}

// fetcher is a Fetch at work.
type fetcher struct {
	Options
	ctx    context.Context
	job    Job
	client *client
	store  *store
	meter  *meter
	commit string
}

// Fetch downloads what the job wants into the cache, goes on where an earlier one
// stopped, and checks each file's hash. What is there already is left alone. An
// error is an *Error; the token is in none.
func Fetch(ctx context.Context, j Job, o Options) (r Result, err error) {
	j, err = j.check()
	if err != nil {
		return r, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	f := &fetcher{Options: o, ctx: ctx, job: j}
	if f.wait == nil {
		f.wait = sleep
	}
	if f.free == nil {
		f.free = (*store).free
	}
	if f.client, err = newClient(j, o.Token, o.Proxy); err != nil {
		return r, err
	}
	defer f.client.close()
	f.meter = newMeter(o.Report)
	defer f.meter.close()
	if f.store, err = openStore(j); err != nil {
		return r, f.explain("open the weights' folder", err)
	}
	defer f.store.close()
	files, err := f.ask()
	if err != nil {
		return r, err
	}
	r = Result{Revision: f.commit, Snapshot: f.store.path(snapshot(f.commit)), Files: len(files)}
	for _, file := range files {
		r.Bytes += file.Size
	}
	err = f.all(files)
	r.Downloaded = f.meter.downloaded()
	return r, err
}

// ask finds the commit and the wanted files of it. A hub that does not answer the
// first question is not asked again.
func (f *fetcher) ask() ([]File, error) {
	f.meter.stage(StageAsk)
	what := "ask the hub for " + f.job.Repo
	err := f.retry(what, false, func() (err error) {
		f.commit, err = f.client.revision(f.ctx, f.job.Want)
		return err
	})
	if err != nil {
		return nil, err
	}
	var all []File
	err = f.retry("list the files of "+f.job.Repo, true, func() (err error) {
		all, err = f.client.tree(f.ctx, f.job.Want, f.commit)
		return err
	})
	if err != nil {
		return nil, err
	}
	wanted := slices.DeleteFunc(slices.Clone(all), func(file File) bool { return !f.job.includes(file.Path) })
	if len(wanted) == 0 {
		return nil, fail(KindUsage, "are its patterns right?", "none of the %d files of %s is wanted", len(all), f.job.Repo)
	}
	f.store.tree = all
	return wanted, nil
}

// all downloads the files, and then says in the cache that they are there.
func (f *fetcher) all(files []File) error {
	f.meter.stage(StageCheck)
	var need int64
	for i := range files {
		have, partial, err := f.store.have(f.commit, files[i])
		if err != nil {
			return f.explain("look for "+files[i].Path, err)
		}
		f.meter.add(files[i].Size, have)
		if !have {
			need += files[i].Size - partial
			f.meter.found(partial)
		}
	}
	if err := f.room(need); err != nil {
		return err
	}
	f.meter.stage(StageDownload)
	for _, v := range f.job.vocabularies() {
		if err := f.vocabulary(v); err != nil {
			return err
		}
	}
	// The small ones first: they are soon there, and a shard that fails is the last.
	slices.SortFunc(files, func(a, b File) int { return cmp.Or(cmp.Compare(a.Size, b.Size), cmp.Compare(a.Path, b.Path)) })
	tasks, ctx := errgroup.WithContext(f.ctx)
	tasks.SetLimit(parallel)
	for _, file := range files {
		tasks.Go(func() error { return f.file(ctx, file) })
	}
	if err := tasks.Wait(); err != nil {
		return err
	}
	f.meter.stage(StageEnd)
	return f.explainNil("write down what is here", f.store.finish(f.job.Want, f.commit))
}

func (f *fetcher) explainNil(what string, err error) error {
	if err == nil {
		return nil
	}
	return f.explain(what, err)
}

// room refuses to start what the disk cannot hold.
func (f *fetcher) room(need int64) error {
	if need == 0 {
		return nil
	}
	free, err := f.free(f.store)
	if err != nil {
		return f.explain("look how much of the disk is free", err)
	}
	if need+spare > free {
		return fail(KindDisk, "make room, or set weights to a folder on another disk", "not enough room in %s: %s are needed, %s are free",
			f.job.shown(), Size(need+spare), Size(free))
	}
	return nil
}

// retry does what fails for a moment again. connect: a host that cannot be
// reached is tried again too.
func (f *fetcher) retry(what string, connect bool, do func() error) error {
	for try := 1; ; try++ {
		err := do()
		if err == nil {
			return nil
		}
		_, answered := err.(*statusError)
		if !transient(err) || f.ctx.Err() != nil || try == maxTries || !connect && !answered {
			return f.explain(what, err)
		}
		if err := f.pause(f.ctx, try, err); err != nil {
			return f.explain(what, err)
		}
	}
}

// pause waits before the next try, and says so.
func (f *fetcher) pause(ctx context.Context, try int, why error) error {
	d := firstPause << (try - 1)
	if e, ok := errors.AsType[*statusError](why); ok {
		d = max(d, min(e.after, maxPause))
	}
	f.meter.note("%s; trying again in %s (%d of %d)", printable(why.Error()), d, try+1, maxTries)
	return f.wait(ctx, d)
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
