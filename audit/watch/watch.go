// Package watch shows the record live, in a terminal that it takes over: rows as
// they come, a filter that is typed, one event with all that is known of it. It
// reads no record; a function gives it the events.
package watch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"sync"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/sallyport/sallyport/audit"
)

// Options say what is watched, and where.
type Options struct {
	In, Out *os.File // a terminal. Required
	Environ []string // as of os.Environ: TERM, NO_COLOR
	// Follow calls each for events as they come, until ctx ends. Repeats may come
	// again, under the same id, when their count has changed. Required
	Follow func(ctx context.Context, each func(audit.Event) error) error
	Loc    *time.Location // of times; nil: UTC
	Title  string         // what is followed; printable
}

const (
	maxRows = 10000 // events that are kept to scroll in; older ones are forgotten
	// frame is how long events are collected before the screen is drawn again.
	frame = 50 * time.Millisecond
)

// Run watches until the user quits or ctx ends, which is no error. However it
// ends, the terminal is as it was before.
func Run(ctx context.Context, o Options) error {
	if o.In == nil || o.Out == nil || o.Follow == nil {
		return errors.New("watch: no terminal, or no Follow function")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p := tea.NewProgram(newModel(o.Loc, o.Title), tea.WithInput(o.In), tea.WithOutput(o.Out), tea.WithEnvironment(o.Environ), tea.WithoutSignalHandler())
	defer context.AfterFunc(ctx, p.Quit)()
	f := &feed{follow: o.Follow, send: func(m tea.Msg) { p.Send(m) }, wake: make(chan struct{}, 1)}
	var tasks sync.WaitGroup
	tasks.Go(func() { f.collect(ctx) })
	tasks.Go(func() { f.deliver(ctx) })
	_, err := p.Run()
	cancel()
	tasks.Wait()
	if f.panicked != "" {
		panic(f.panicked) // now that the terminal is as it was
	}
	if err != nil {
		return fmt.Errorf("watch: %w", err)
	}
	return f.err
}

// batch are events for the model, in the order in which they came.
type batch struct {
	events  []audit.Event
	skipped int64 // more came than could be kept
}

// feed takes events from Follow and gives them to the program, some at a time.
type feed struct {
	follow func(context.Context, func(audit.Event) error) error
	send   func(tea.Msg)
	wake   chan struct{}

	mu      sync.Mutex
	waiting batch

	err      error  // of Follow; read once collect has ended
	panicked string // what Follow panicked with, and where
}

// collect runs Follow and ends the program with it. A panic is kept until the
// terminal is restored.
func (f *feed) collect(ctx context.Context) {
	defer f.send(tea.QuitMsg{})
	defer func() {
		if r := recover(); r != nil {
			f.panicked = fmt.Sprintf("%v\n\n%s", r, debug.Stack())
		}
	}()
	err := f.follow(ctx, func(e audit.Event) error {
		f.mu.Lock()
		defer f.mu.Unlock()
		if len(f.waiting.events) >= maxRows {
			f.waiting.skipped++
			return nil
		}
		f.waiting.events = append(f.waiting.events, e)
		select {
		case f.wake <- struct{}{}:
		default:
		}
		return nil
	})
	switch {
	case ctx.Err() != nil:
	case err == nil:
		f.err = errors.New("watch: the record is no longer followed")
	default:
		f.err = fmt.Errorf("watch: %w", err)
	}
}

// deliver sends what was collected, a frame apart.
func (f *feed) deliver(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.wake:
		}
		f.mu.Lock()
		b := f.waiting
		f.waiting = batch{}
		f.mu.Unlock()
		f.send(b)
		select {
		case <-ctx.Done():
			return
		case <-time.After(frame):
		}
	}
}
