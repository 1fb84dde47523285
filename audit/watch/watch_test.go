package watch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/audit"
)

// session is a Run in a terminal.
type session struct {
	t      *testing.T
	master *os.File
	slave  *os.File
	output chan string // pieces, as the terminal got them
	seen   string
	events chan audit.Event
	ended  chan error
	before unix.Termios
}

// start runs in a terminal of 80 by 24. follow nil: events come from s.events.
func start(t *testing.T, ctx context.Context, follow func(context.Context, func(audit.Event) error) error) *session {
	t.Helper()
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	s := &session{t: t, master: master, slave: slave, output: make(chan string, 1024), events: make(chan audit.Event), ended: make(chan error, 1)}
	t.Cleanup(func() { master.Close(); slave.Close() })
	if err := pty.Setsize(master, &pty.Winsize{Rows: 24, Cols: 80}); err != nil {
		t.Fatal(err)
	}
	s.before = s.termios()
	go func() {
		defer close(s.output)
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			if err != nil {
				return
			}
			s.output <- string(buf[:n])
		}
	}()
	if follow == nil {
		follow = func(ctx context.Context, each func(audit.Event) error) error {
			for {
				select {
				case <-ctx.Done():
					return ctx.Err()
				case e := <-s.events:
					if err := each(e); err != nil {
						return err
					}
				}
			}
		}
	}
	go func() {
		defer func() {
			if r := recover(); r != nil {
				s.ended <- fmt.Errorf("panic: %v", r)
			}
		}()
		s.ended <- Run(ctx, Options{In: slave, Out: slave, Environ: []string{"TERM=xterm-256color"}, Follow: follow, Title: "gateway audit watch"})
	}()
	return s
}

func (s *session) termios() unix.Termios {
	s.t.Helper()
	got, err := unix.IoctlGetTermios(int(s.slave.Fd()), unix.TCGETS)
	if err != nil {
		s.t.Fatal(err)
	}
	return *got
}

// await waits until the terminal got a text, after what was awaited before.
func (s *session) await(text string) {
	s.t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		if _, after, ok := strings.Cut(s.seen, text); ok {
			s.seen = after
			return
		}
		select {
		case piece, ok := <-s.output:
			if !ok {
				s.t.Fatalf("the terminal ended before %q:\n%q", text, s.seen)
			}
			s.seen += piece
		case err := <-s.ended:
			s.t.Fatalf("it ended with %v before %q:\n%q", err, text, s.seen)
		case <-deadline:
			s.t.Fatalf("no %q:\n%q", text, s.seen)
		}
	}
}

func (s *session) press(keys string) {
	s.t.Helper()
	if _, err := s.master.WriteString(keys); err != nil {
		s.t.Fatal(err)
	}
}

// end waits for Run's end and looks at the terminal.
func (s *session) end() error {
	s.t.Helper()
	select {
	case err := <-s.ended:
		if got := s.termios(); got != s.before {
			s.t.Errorf("the terminal is not as it was:\n%+v\n%+v", got, s.before)
		}
		for drained := false; !drained; {
			select {
			case piece := <-s.output:
				s.seen += piece
			case <-time.After(100 * time.Millisecond): // what is on its way through the pty has come
				drained = true
			}
		}
		for what, mode := range map[string]string{"alternate screen": "\x1b[?1049l", "cursor": "\x1b[?25h"} {
			if !strings.Contains(s.seen, mode) {
				s.t.Errorf("the %s was not given back: %q", what, s.seen)
			}
		}
		return err
	case <-time.After(20 * time.Second):
		s.t.Fatal("it does not end")
	}
	return nil
}

// A user watches: rows come, a filter is typed, it is paused, an event is looked
// at, and the terminal is given back.
func TestInATerminal(t *testing.T) {
	s := start(t, t.Context(), nil)
	s.await("\x1b[?1049h")
	s.await("waiting")
	s.events <- refusal("1", "first.example")
	s.await("first.example")
	s.events <- refusal("2", "second.example")
	s.await("second.example")
	s.press("/fir")
	s.await("match")
	s.await("fir")
	s.press("\r")
	s.press(" ")
	s.await("PAUSED")
	s.events <- refusal("3", "fir2.example")
	s.press(" ")
	s.await("fir2.example")
	s.press("\r")
	s.await("executable")
	s.await("esc")
	s.press("q")
	if err := s.end(); err != nil {
		t.Error(err)
	}
}

func TestQuitAtOnce(t *testing.T) {
	s := start(t, t.Context(), nil)
	s.await("waiting")
	s.press("\x03")
	if err := s.end(); err != nil {
		t.Error(err)
	}
}

// The end of the context, as at SIGTERM, is a clean end.
func TestContextEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := start(t, ctx, nil)
	s.await("waiting")
	cancel()
	if err := s.end(); err != nil {
		t.Error(err)
	}
}

func TestFollowFails(t *testing.T) {
	fail := make(chan struct{})
	s := start(t, t.Context(), func(context.Context, func(audit.Event) error) error {
		<-fail
		return errors.New("the disk is gone")
	})
	s.await("waiting")
	close(fail)
	if err := s.end(); err == nil || err.Error() != "watch: the disk is gone" {
		t.Errorf("%v", err)
	}
}

// A panic in another goroutine than the program's goes on, but not before the
// terminal is as it was.
func TestFollowPanics(t *testing.T) {
	fail := make(chan struct{})
	s := start(t, t.Context(), func(context.Context, func(audit.Event) error) error {
		<-fail
		panic("a bug")
	})
	s.await("waiting")
	close(fail)
	if err := s.end(); err == nil || !strings.HasPrefix(err.Error(), "panic: a bug\n") || !strings.Contains(err.Error(), "watch_test.go") {
		t.Errorf("%v", err)
	}
}

// A flood that is faster than the screen is counted, not kept.
func TestFlood(t *testing.T) {
	s := start(t, t.Context(), func(ctx context.Context, each func(audit.Event) error) error {
		for i := range 10 * maxRows {
			if err := each(refusal(fmt.Sprint(i), "flood.example")); err != nil {
				return err
			}
		}
		<-ctx.Done()
		return ctx.Err()
	})
	s.await("flood.example")
	s.press("q")
	if err := s.end(); err != nil {
		t.Error(err)
	}
}

func TestRunNeedsATerminal(t *testing.T) {
	if err := Run(t.Context(), Options{}); err == nil {
		t.Error("no error")
	}
}
