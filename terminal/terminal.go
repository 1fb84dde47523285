// Package terminal is the user's end of an agent's session: raw mode and its
// undoing, window sizes, whether to use colour, and the filter that keeps an
// agent's output on the screen. It knows nothing of containers or engines; the
// command connects it to them.
package terminal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// Size is a window's size in character cells.
type Size struct {
	Width, Height uint
}

// Terminal is an open terminal. It owns neither of its files.
type Terminal struct {
	in, out *os.File
}

// Open checks that in and out are both terminals. in is the one that Raw
// changes, out the one whose size counts.
func Open(in, out *os.File) (*Terminal, error) {
	if in == nil || out == nil {
		return nil, errors.New("open terminal: no file given")
	}
	for _, f := range []*os.File{in, out} {
		if !IsTerminal(f) {
			return nil, fmt.Errorf("open terminal: %s is not a terminal", f.Name())
		}
	}
	return &Terminal{in: in, out: out}, nil
}

// IsTerminal says whether f is a terminal. A nil file is none.
func IsTerminal(f *os.File) bool {
	return f != nil && term.IsTerminal(int(f.Fd()))
}

// Raw puts the terminal into raw mode: every key, Ctrl-C included, becomes a
// byte to read. The restore function puts it back as it was; it may be called
// any number of times, from any goroutine, and works once.
//
// Restoring throws away what was typed or answered and not yet read: a
// terminal's late answer to an agent's question must not become a command line
// of the user's shell.
func (t *Terminal) Raw() (restore func(), err error) {
	fd := int(t.in.Fd())
	before, err := term.MakeRaw(fd)
	if err != nil {
		return nil, fmt.Errorf("set %s to raw mode: %w", t.in.Name(), err)
	}
	// Both calls fail only when the terminal is gone; nobody is left to tell.
	return sync.OnceFunc(func() {
		_ = unix.IoctlSetInt(fd, unix.TCFLSH, unix.TCIFLUSH)
		_ = term.Restore(fd, before)
	}), nil
}

// Size returns the present size.
func (t *Terminal) Size() (Size, error) {
	w, h, err := term.GetSize(int(t.out.Fd()))
	if err != nil {
		return Size{}, fmt.Errorf("read the size of %s: %w", t.out.Name(), err)
	}
	return Size{Width: uint(w), Height: uint(h)}, nil
}

// Sizes gives the present size and then each new one. A reader that is slow
// misses sizes in between, never the last. The channel is closed when ctx is
// done; its goroutine has then nothing left to do.
func (t *Terminal) Sizes(ctx context.Context) <-chan Size {
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, unix.SIGWINCH) // before the first read: no change is missed
	sizes := make(chan Size)
	go func() {
		defer close(sizes)
		defer signal.Stop(changed)
		t.watch(ctx, changed, sizes)
	}()
	return sizes
}

func (t *Terminal) watch(ctx context.Context, changed <-chan os.Signal, sizes chan<- Size) {
	for {
		var to chan<- Size // nil while the size cannot be read
		size, err := t.Size()
		if err == nil {
			to = sizes
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
			continue // the newest size replaces one that nobody took
		case to <- size:
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}
