package terminal

import (
	"context"
	"errors"
	"os"
	"testing"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

func openPTY(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close(); slave.Close() })
	return master, slave
}

func localFlags(t *testing.T, f *os.File) uint32 {
	t.Helper()
	state, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return state.Lflag
}

func TestRawAndRestore(t *testing.T) {
	_, tty := openPTY(t)
	term, err := Open(tty, tty)
	if err != nil {
		t.Fatal(err)
	}
	before := localFlags(t, tty)
	restore, err := term.Raw()
	if err != nil {
		t.Fatal(err)
	}
	if localFlags(t, tty)&(unix.ECHO|unix.ICANON|unix.ISIG) != 0 {
		t.Error("not raw")
	}
	restore()
	if got := localFlags(t, tty); got != before {
		t.Errorf("restored to %#x, was %#x", got, before)
	}
	again, err := term.Raw()
	if err != nil {
		t.Fatal(err)
	}
	defer again()
	restore() // the old one must not undo the new
	if localFlags(t, tty)&unix.ICANON != 0 {
		t.Error("a second call of restore did something")
	}
}

// A terminal's late answer does not become input of the shell.
func TestRestoreDropsUnreadInput(t *testing.T) {
	master, tty := openPTY(t)
	term, err := Open(tty, tty)
	if err != nil {
		t.Fatal(err)
	}
	restore, err := term.Raw()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := master.WriteString("\x1b[1;1R"); err != nil {
		t.Fatal(err)
	}
	waitReadable(t, tty)
	restore()
	if n, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCINQ); err != nil || n != 0 {
		t.Errorf("%d bytes left to read, %v", n, err)
	}
}

func waitReadable(t *testing.T, f *os.File) {
	t.Helper()
	poll := []unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLIN}}
	n, err := unix.Poll(poll, 5000)
	for errors.Is(err, unix.EINTR) { // by a signal of the Go runtime's own
		n, err = unix.Poll(poll, 5000)
	}
	if err != nil || n != 1 {
		t.Fatalf("poll: %d, %v", n, err)
	}
}

func TestOpenRefusesFiles(t *testing.T) {
	_, tty := openPTY(t)
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for _, files := range [][2]*os.File{{null, tty}, {tty, null}, {nil, tty}, {tty, nil}} {
		if _, err := Open(files[0], files[1]); err == nil {
			t.Errorf("Open(%v, %v) succeeded", files[0], files[1])
		}
	}
}

func TestSizes(t *testing.T) {
	master, tty := openPTY(t)
	term, err := Open(tty, tty)
	if err != nil {
		t.Fatal(err)
	}
	resize := func(w, h uint16) {
		if err := pty.Setsize(master, &pty.Winsize{Cols: w, Rows: h}); err != nil {
			t.Fatal(err)
		}
	}
	resize(80, 24)
	ctx, cancel := context.WithCancel(t.Context())
	sizes := term.Sizes(ctx)
	if got := <-sizes; got != (Size{80, 24}) {
		t.Errorf("first size %v", got)
	}
	resize(132, 50)
	if err := unix.Kill(os.Getpid(), unix.SIGWINCH); err != nil {
		t.Fatal(err)
	}
	if got := <-sizes; got != (Size{132, 50}) {
		t.Errorf("second size %v", got)
	}
	cancel()
	for range sizes {
	}
}

func TestColours(t *testing.T) {
	tests := []struct {
		env  []string
		tty  bool
		want bool
	}{
		{nil, true, true},
		{nil, false, false},
		{[]string{"NO_COLOR=1"}, true, false},
		{[]string{"NO_COLOR="}, true, true},
		{[]string{"NO_COLOR=0", "CLICOLOR_FORCE=1"}, true, false},
		{[]string{"CLICOLOR_FORCE=1"}, false, true},
		{[]string{"CLICOLOR_FORCE=0"}, false, false},
		{[]string{"TERM=dumb"}, true, false},
		{[]string{"TERM=dumb", "TERM=xterm"}, true, true},
	}
	for _, tt := range tests {
		if got := colours(tt.env, tt.tty); got != tt.want {
			t.Errorf("colours(%q, %v) = %v", tt.env, tt.tty, got)
		}
	}
	if Colours(nil, nil) {
		t.Error("colours for no file")
	}
}
