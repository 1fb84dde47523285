package audit

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
)

// Export writes the events that f chooses to w as JSON Lines, by time, as they
// are stored. On a *DamagedError the others were written.
func Export(ctx context.Context, r *Reader, w io.Writer, f Filter) error {
	b := bufio.NewWriter(w)
	err := r.Events(ctx, f, Page{}, func(e Event) error {
		line, err := Encode(e)
		if err != nil {
			return err
		}
		if _, err := b.Write(line); err != nil {
			return fmt.Errorf("export events: %w", err)
		}
		return nil
	})
	if _, damaged := errors.AsType[*DamagedError](err); err != nil && !damaged {
		return err
	}
	if errFlush := b.Flush(); errFlush != nil {
		return fmt.Errorf("export events: %w", errFlush)
	}
	return err
}

// Read calls each for every event in the store at path that f chooses: see
// OpenReader and Reader.Events.
func Read(ctx context.Context, path string, f Filter, each func(Event) error) (err error) {
	r, err := OpenReader(path)
	if err != nil {
		return err
	}
	defer func() {
		if errClose := r.Close(); err == nil {
			err = errClose
		}
	}()
	return r.Events(ctx, f, Page{}, each)
}

// ReadAll returns the events that f chooses. On a *DamagedError the events are
// returned too.
func ReadAll(ctx context.Context, path string, f Filter) ([]Event, error) {
	var events []Event
	err := Read(ctx, path, f, func(e Event) error {
		events = append(events, e)
		return nil
	})
	if _, damaged := errors.AsType[*DamagedError](err); err != nil && !damaged {
		return nil, err
	}
	return events, err
}
