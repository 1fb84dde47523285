package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"sync"

	"github.com/creack/pty"
)

// Terminal is a command of the user at a terminal of their own.
type Terminal struct {
	*Cmd

	pty  *os.File
	read chan struct{} // closed when everything was read

	mu      sync.Mutex
	changed chan struct{} // closed and replaced whenever seen grows
	seen    []byte
	done    bool
}

// CommandPTY is Command at a terminal of 80 columns and 24 rows. Start it by
// Open. Fields of the command may be set before that, but for its standard
// input and outputs.
func (h *Host) CommandPTY(ctx context.Context, name string, args ...string) *Terminal {
	return &Terminal{
		Cmd:     h.Command(ctx, name, args...),
		read:    make(chan struct{}),
		changed: make(chan struct{}),
	}
}

// Open starts the command. Close must follow.
func (t *Terminal) Open() error {
	master, slave, err := pty.Open()
	if err != nil {
		return fmt.Errorf("lab: open a terminal: %w", err)
	}
	defer func() { _ = slave.Close() }()
	if err := pty.Setsize(master, &pty.Winsize{Cols: 80, Rows: 24}); err != nil {
		return errors.Join(err, master.Close())
	}
	t.Stdin, t.Stdout, t.Stderr = slave, slave, slave
	t.SysProcAttr.Setctty = true
	if err := t.Start(); err != nil {
		return errors.Join(err, master.Close())
	}
	t.pty = master
	go t.follow()
	return nil
}

// follow keeps what the command prints until every holder of the terminal's
// other side has closed it.
func (t *Terminal) follow() {
	defer close(t.read)
	chunk := make([]byte, 32<<10)
	for {
		n, err := t.pty.Read(chunk)
		t.mu.Lock()
		t.seen = append(t.seen, chunk[:n]...)
		t.done = err != nil
		close(t.changed)
		t.changed = make(chan struct{})
		t.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// Send types text.
func (t *Terminal) Send(text string) error {
	_, err := io.WriteString(t.pty, text)
	return err
}

// Resize changes the terminal's size, in cells.
func (t *Terminal) Resize(columns, rows uint16) error {
	return pty.Setsize(t.pty, &pty.Winsize{Cols: columns, Rows: rows})
}

// File is the terminal's own side, for asking about its modes.
func (t *Terminal) File() *os.File { return t.pty }

// Seen is everything that was printed so far, escape sequences included.
func (t *Terminal) Seen() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.seen)
}

// Text is Seen without escape sequences and carriage returns.
func (t *Terminal) Text() string { return plain(t.Seen()) }

// Expect waits until what was printed after the first from bytes of Text
// matches the pattern, and returns the length of Text up to the match's end: the
// from of the next call. It fails when ctx or the command ends first.
func (t *Terminal) Expect(ctx context.Context, from int, pattern string) (int, error) {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return from, err
	}
	for {
		t.mu.Lock()
		text, done, changed := plain(string(t.seen)), t.done, t.changed
		t.mu.Unlock()
		if from <= len(text) {
			if at := re.FindStringIndex(text[from:]); at != nil {
				return from + at[1], nil
			}
		}
		if done {
			return from, fmt.Errorf("lab: the command ended without %q; its terminal shows:\n%s", pattern, text)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return from, fmt.Errorf("lab: no %q: %w; the terminal shows:\n%s", pattern, ctx.Err(), text)
		}
	}
}

// Close ends the command, if it still runs, and the terminal.
func (t *Terminal) Close() error {
	if t.pty == nil {
		return nil
	}
	_ = t.Process.Kill() // it may have ended
	_ = t.Wait()
	// Reading ends by itself when the last holder is gone; a daemon may stay.
	err := t.pty.Close()
	<-t.read
	return err
}

// escapes are the control sequences of terminals: CSI, OSC and the other strings,
// and the short ones.
var escapes = regexp.MustCompile(`\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[ -/]*[0-~]|\r`)

func plain(s string) string {
	return string(bytes.ToValidUTF8(escapes.ReplaceAll([]byte(s), nil), []byte("?")))
}
