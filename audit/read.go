package audit

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"
)

// maxLine bounds a line (bytes): all strings of an event at their longest, every
// character escaped, are less.
const maxLine = 1 << 20

// start is how every line starts. Inside of a line's strings it cannot occur,
// since its quotes would be escaped there.
const start = `{"time":"`

// Filter chooses events. Its zero value chooses all.
type Filter struct {
	Since, Until time.Time // events from Since on and before Until; zero: no bound
	Sandbox      string    // empty: all
	Project      string    // empty: all
	Layer        Layer     // empty: all
	Denied       bool      // only what was refused
	NotAgents    []string  // leaves out these agents' events
}

// Match says whether f chooses e.
func (f Filter) Match(e Event) bool {
	switch {
	case !f.matchTime(e.Time):
	case f.Sandbox != "" && e.Sandbox != f.Sandbox:
	case f.Project != "" && e.Project != f.Project:
	case f.Layer != "" && e.Layer != f.Layer:
	case f.Denied && !e.denied():
	case slices.Contains(f.NotAgents, e.Agent):
	default:
		return true
	}
	return false
}

func (f Filter) matchTime(t time.Time) bool {
	return (f.Since.IsZero() || !t.Before(f.Since)) && (f.Until.IsZero() || t.Before(f.Until))
}

// skip says, without decoding it, that a line holds one event only and f's times
// leave it out: most lines, when the last ten minutes of a year are asked for.
func (f Filter) skip(line []byte) bool {
	if f.Since.IsZero() && f.Until.IsZero() || bytes.LastIndex(line, []byte(start)) != 0 || line[len(line)-1] != '}' {
		return false
	}
	text, _, _ := bytes.Cut(line[len(start):], []byte{'"'})
	t, err := time.Parse(time.RFC3339Nano, string(text))
	return err == nil && !f.matchTime(t)
}

// DamagedError says that lines of the log could not be read, after all others
// were: a crash or a full disk cuts a line, an editor worse.
type DamagedError struct {
	Path  string
	Lines int // how many
	First int // the first one's number, from 1
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("audit log %s: %d unreadable line(s), the first is line %d; all others were read", e.Path, e.Lines, e.First)
}

// Read calls each for every event in the file at path that f chooses, in the
// file's order. An error of each ends it and is returned as it is. If lines were
// unreadable, all others are still given and the error is a *DamagedError at the
// end. A file that does not exist is an error (fs.ErrNotExist).
func Read(ctx context.Context, path string, f Filter, each func(Event) error) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("read audit log: %w", err)
	}
	defer file.Close() // it was only read
	return read(ctx, path, file, f, each)
}

func read(ctx context.Context, path string, from io.Reader, f Filter, each func(Event) error) error {
	r := bufio.NewReaderSize(from, 64<<10)
	damaged := &DamagedError{Path: path}
	var line []byte
	for number := 1; ; number++ {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("read audit log: %w", err)
		}
		var err error
		line, err = readLine(r, line[:0])
		if err != nil && err != io.EOF {
			return fmt.Errorf("read audit log: %w", err)
		}
		whole, eachErr := give(line, f, each)
		if eachErr != nil {
			return eachErr
		}
		if !whole {
			if damaged.Lines++; damaged.Lines == 1 {
				damaged.First = number
			}
		}
		if err == io.EOF {
			break
		}
	}
	if damaged.Lines > 0 {
		return damaged
	}
	return nil
}

// readLine appends the next line to buf, without its newline; of one that is
// longer than maxLine its end. io.EOF comes with the last line.
func readLine(r *bufio.Reader, buf []byte) ([]byte, error) {
	for {
		part, err := r.ReadSlice('\n')
		buf = append(buf, part...)
		if err == bufio.ErrBufferFull {
			if len(buf) > maxLine {
				buf = append(buf[:0], buf[len(buf)-maxLine/2:]...)
			}
			continue
		}
		return bytes.TrimSuffix(buf, []byte{'\n'}), err
	}
}

// give decodes one line and calls each if f chooses it. A line that was glued to
// a torn one is found by its start. whole is false if there was more than one
// event or blank.
func give(line []byte, f Filter, each func(Event) error) (whole bool, err error) {
	line = bytes.TrimSpace(line)
	if len(line) == 0 {
		return true, nil
	}
	if f.skip(line) {
		return true, nil
	}
	e, ok := decode(line)
	whole = ok
	if !ok {
		if i := bytes.LastIndex(line, []byte(start)); i > 0 {
			e, ok = decode(line[i:])
		}
	}
	if !ok || !f.Match(e) {
		return whole, nil
	}
	return whole, each(e)
}

func decode(line []byte) (Event, bool) {
	var e Event
	if err := json.Unmarshal(line, &e); err != nil || e.Time.IsZero() {
		return Event{}, false
	}
	return e, true
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
