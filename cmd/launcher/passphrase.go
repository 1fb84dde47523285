package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/sallyport/sallyport/terminal"
	"golang.org/x/sys/unix"
)

// askPassphrase asks for the passphrase of a key, on the terminal. Ctrl-C ends it.
func askPassphrase(ctx context.Context, path string) ([]byte, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, errors.New("there is no terminal to ask for its passphrase; hint: ssh-add it to your SSH agent")
	}
	return readPassphrase(ctx, tty, path)
}

// readPassphrase reads from tty and closes it.
func readPassphrase(ctx context.Context, tty *os.File, path string) ([]byte, error) {
	fd := int(tty.Fd())
	before, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("look at the terminal: %w", err), tty.Close())
	}
	fmt.Fprintf(tty, "passphrase of %s: ", path)
	type answer struct {
		line []byte
		err  error
	}
	answered := make(chan answer, 1)
	go func() {
		line, err := terminal.ReadPassword(tty)
		answered <- answer{line, err}
	}()
	select {
	case a := <-answered:
		fmt.Fprintln(tty)
		return a.line, errors.Join(a.err, tty.Close())
	case <-ctx.Done():
		// The read cannot be woken; it ends with the program, and the terminal
		// is as it was.
		return nil, errors.Join(ctx.Err(), unix.IoctlSetTermios(fd, unix.TCSETSF, before))
	}
}
