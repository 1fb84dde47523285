package main

import (
	"bufio"
	"context"
	"errors"
	"testing"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

func TestPassphrase(t *testing.T) {
	for _, interrupted := range []bool{false, true} {
		ours, tty, err := pty.Open()
		if err != nil {
			t.Fatal(err)
		}
		before, err := unix.IoctlGetTermios(int(ours.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		prompt := bufio.NewReader(ours)
		type result struct {
			line []byte
			err  error
		}
		done := make(chan result, 1)
		go func() {
			line, err := readPassphrase(ctx, tty, "/home/me/.ssh/id")
			done <- result{line, err}
		}()
		if shown, err := prompt.ReadString(':'); err != nil || shown != "passphrase of /home/me/.ssh/id:" {
			t.Fatalf("%q, %v", shown, err)
		}
		for echo := true; echo; { // until it is off, lest the answer be shown
			now, err := unix.IoctlGetTermios(int(ours.Fd()), unix.TCGETS)
			if err != nil {
				t.Fatal(err)
			}
			echo = now.Lflag&unix.ECHO != 0
		}
		if interrupted {
			cancel()
		} else if _, err := ours.WriteString("open sesame\n"); err != nil {
			t.Fatal(err)
		}
		r := <-done
		cancel()
		if interrupted && !errors.Is(r.err, context.Canceled) || !interrupted && (r.err != nil || string(r.line) != "open sesame") {
			t.Errorf("interrupted %t: %q, %v", interrupted, r.line, r.err)
		}
		if after, err := unix.IoctlGetTermios(int(ours.Fd()), unix.TCGETS); err != nil || after.Lflag != before.Lflag {
			t.Errorf("interrupted %t: the terminal is not as it was: %v", interrupted, err)
		}
		ours.Close()
	}
}
