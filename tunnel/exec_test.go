package tunnel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/crypto/ssh"
)

// output runs a command to its end.
func output(t *testing.T, c *Client, command string, stdin io.Reader) (stdout, stderr string, err error) {
	t.Helper()
	var out, errs strings.Builder
	err = c.Exec(testContext(t), Exec{Command: command, Stdin: stdin, Stdout: &out, Stderr: &errs})
	return out.String(), errs.String(), err
}

func TestExec(t *testing.T) {
	s := startUserSSHD(t)
	c := start(t, s.host(t, s.port))
	for _, tt := range []struct {
		name, command, stdin string
		stdout, stderr       string
		want                 string // of the error
	}{
		{name: "both outputs", command: "echo out; echo err >&2", stdout: "out\n", stderr: "err\n"},
		{name: "exit status", command: "echo out; exit 3", stdout: "out\n", want: "exit status 3"},
		{name: "exit status 255", command: "exit 255", want: "exit status 255"},
		{name: "signal", command: "kill -KILL $$", want: "ended by signal KILL"},
		{name: "stdin to its end", command: "cat", stdin: "in", stdout: "in"},
		{name: "stdin that nobody reads", command: "exit 0", stdin: strings.Repeat("x", 8<<20)},
		{name: "no such command", command: "/no/such/thing 2>/dev/null", want: "exit status 127"},
		{name: "weird characters", command: `printf '%s|' 'a b' "\$x" '*' 'ü'`, stdout: "a b|$x|*|ü|"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			stdout, stderr, err := output(t, c, tt.command, strings.NewReader(tt.stdin))
			var exit *ExitError
			switch {
			case tt.want == "" && err != nil, tt.want != "" && (!errors.As(err, &exit) || err.Error() != tt.want):
				t.Errorf("error %v, want %q", err, tt.want)
			case stdout != tt.stdout || stderr != tt.stderr:
				t.Errorf("stdout %q, stderr %q", stdout, stderr)
			}
		})
	}
	if out, _, err := output(t, c, "cat", nil); err != nil || out != "" {
		t.Errorf("no stdin: %q, %v", out, err)
	}
	if st := c.State(); !st.Up || st.Reconnects != 0 {
		t.Errorf("state %+v", st)
	}
}

// Nothing is lost, however much goes both ways and to stderr at the same time.
func TestExecBulk(t *testing.T) {
	s := startUserSSHD(t)
	c := start(t, s.host(t, s.port))
	sent := make([]byte, 4<<20+7) // more than a channel's window, which is 2 MiB
	for i := range sent {
		sent[i] = byte(i * 31 >> 3)
	}
	var out, errs bytes.Buffer
	ok(t, c.Exec(testContext(t), Exec{Command: "tee /dev/stderr", Stdin: bytes.NewReader(sent), Stdout: &out, Stderr: &errs}))
	if !bytes.Equal(out.Bytes(), sent) || !bytes.Equal(errs.Bytes(), sent) {
		t.Errorf("%d and %d of %d bytes came back", out.Len(), errs.Len(), len(sent))
	}
	ok(t, c.Exec(testContext(t), Exec{Command: "tee /dev/stderr", Stdin: bytes.NewReader(sent)})) // output that nobody wants does not block
}

// waitFor is a writer that tells when text came.
type waitFor struct {
	text string
	came chan struct{}
	got  bytes.Buffer
}

func newWaitFor(text string) *waitFor { return &waitFor{text: text, came: make(chan struct{})} }

func (w *waitFor) Write(p []byte) (int, error) {
	w.got.Write(p)
	if !done(w.came) && strings.Contains(w.got.String(), w.text) {
		close(w.came)
	}
	return len(p), nil
}

// fifo is a pipe by name, which tells of the end of a command that has it open.
func fifo(t *testing.T) (path string, ended func() string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "fifo")
	ok(t, syscall.Mkfifo(path, 0o600))
	ok(t, os.Chmod(path, 0o666))
	ok(t, os.Chmod(filepath.Dir(filepath.Dir(path)), 0o755))
	text := make(chan string, 1)
	go func() {
		b, _ := os.ReadFile(path)
		text <- string(b)
	}()
	return path, func() string {
		t.Helper()
		select {
		case s := <-text:
			return s
		case <-testContext(t).Done():
			t.Fatal("the command did not end")
			return ""
		}
	}
}

// The end of ctx ends the command, not merely the wait for it.
func TestExecCancel(t *testing.T) {
	s := startUserSSHD(t)
	c := start(t, s.host(t, s.port))
	path, ended := fifo(t)
	ctx, cancel := context.WithCancelCause(testContext(t))
	why := errors.New("changed my mind")
	started := newWaitFor("started")
	go func() {
		<-started.came
		cancel(why)
	}()
	in, feed := io.Pipe() // a stdin that blocks does not keep Exec
	defer feed.Close()
	err := c.Exec(ctx, Exec{Command: "exec 3>" + path + "; trap 'echo got TERM >&3; exit' TERM; sleep 1000 3>&- >&- & echo started; wait", Stdin: in, Stdout: started})
	if !errors.Is(err, why) || errors.Is(err, ErrLinkDown) {
		t.Errorf("Exec: %v", err)
	}
	if got := ended(); got != "got TERM\n" {
		t.Errorf("the command said %q", got)
	}
	if _, _, err := output(t, c, "true", nil); err != nil || c.State().Reconnects != 0 {
		t.Errorf("the next one: %v, %+v", err, c.State())
	}
}

// What cannot be read or passed on ends the command: input that was cut short
// must not look complete.
func TestExecStreamsFail(t *testing.T) {
	s := startUserSSHD(t)
	c := start(t, s.host(t, s.port))
	broken := errors.New("broken")
	path, ended := fifo(t)
	started := newWaitFor("half")
	err := c.Exec(testContext(t), Exec{Command: "exec 3>" + path + "; cat; echo complete >&3", Stdout: started,
		Stdin: io.MultiReader(strings.NewReader("half"), failingReader{started.came, broken})})
	if !errors.Is(err, broken) {
		t.Errorf("stdin: %v", err)
	}
	if got := ended(); got != "" {
		t.Errorf("after half of its stdin the command said %q", got)
	}
	path, ended = fifo(t)
	err = c.Exec(testContext(t), Exec{Command: "exec 3>" + path + "; while echo y; do :; done", Stdout: failingWriter{broken}})
	if !errors.Is(err, broken) {
		t.Errorf("stdout: %v", err)
	}
	ended()
}

// failingReader fails once it may.
type failingReader struct {
	when <-chan struct{}
	err  error
}

func (f failingReader) Read([]byte) (int, error) {
	<-f.when
	return 0, f.err
}

type failingWriter struct{ err error }

func (f failingWriter) Write([]byte) (int, error) { return 0, f.err }

func TestExecLinkLost(t *testing.T) {
	s := startUserSSHD(t)
	r := newRelay(t, fmt.Sprintf("127.0.0.1:%d", s.port))
	c := start(t, s.host(t, r.port))
	path, ended := fifo(t)
	started := newWaitFor("started")
	go func() {
		<-started.came
		r.drop()
	}()
	in, feed := io.Pipe()
	defer feed.Close()
	err := c.Exec(testContext(t), Exec{Command: "exec 3>" + path + "; echo started; cat", Stdin: in, Stdout: started})
	var exit *ExitError
	if !errors.Is(err, ErrLinkDown) || errors.As(err, &exit) {
		t.Errorf("Exec: %v", err)
	}
	ended()
	if out, _, err := output(t, c, "echo again", nil); err != nil || out != "again\n" {
		t.Errorf("over the next link: %q, %v", out, err)
	}
}

// A link that is lost before a command's output has ended is told, though the
// exit status has come: it is not known what is missing.
func TestExecLinkLostAfterStatus(t *testing.T) {
	c := start(t, newRogue(t, "").host(t))
	for range 10 {
		var out strings.Builder
		err := c.Exec(testContext(t), Exec{Command: "true", Stdout: &out})
		if !errors.Is(err, ErrLinkDown) {
			t.Fatalf("Exec: %q, %v", out.String(), err)
		}
	}
}

// diesAfterStatus is a server that runs a command, tells that all went well, and
// is gone before it said that this was all.
func diesAfterStatus(conn ssh.Conn, c ssh.NewChannel) {
	ch, reqs, err := c.Accept()
	if err != nil {
		return
	}
	for r := range reqs {
		if r.Type == "exec" {
			r.Reply(true, nil)
			io.WriteString(ch, "half of it")
			ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Code uint32 }{0}))
			conn.Close()
		}
	}
}

// An Exec without a link waits for one; it gives up when ctx ends.
func TestExecWithoutLink(t *testing.T) {
	s := newSSHD(t, []string{"ed25519"})
	c, err := New(s.host(t, 1), testLogger(t))
	ok(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Exec(ctx, Exec{Command: "true"}); !errors.Is(err, ErrLinkDown) || !errors.Is(err, context.Canceled) {
		t.Errorf("Exec: %v", err)
	}
}

// sshd allows 10 commands at a time: more are refused, which harms nothing.
func TestExecMaxSessions(t *testing.T) {
	s := startUserSSHD(t, "MaxSessions 3")
	c := start(t, s.host(t, s.port))
	var wg sync.WaitGroup
	var stop []io.Closer
	for range 3 {
		started := newWaitFor("started")
		in, feed := io.Pipe()
		stop = append(stop, feed)
		wg.Go(func() {
			if err := c.Exec(testContext(t), Exec{Command: "echo started; cat", Stdin: in, Stdout: started}); err != nil {
				t.Error(err)
			}
		})
		<-started.came
	}
	if _, _, err := output(t, c, "true", nil); err == nil || !strings.Contains(err.Error(), "MaxSessions") {
		t.Errorf("a command too many: %v", err)
	}
	conn, err := c.Dial(testContext(t), "tcp", listenTCP(t, echo))
	ok(t, err)
	roundTrip(t, conn, "streams are no sessions")
	conn.Close()
	for _, s := range stop {
		s.Close()
	}
	wg.Wait()
	if _, _, err := output(t, c, "true", nil); err != nil || c.State().Reconnects != 0 {
		t.Errorf("afterwards: %v, %+v", err, c.State())
	}
}

// One command after the other needs no more than one session at a time, also where
// the end of one and the beginning of the next reach sshd together.
func TestExecOneAfterTheOther(t *testing.T) {
	s := startUserSSHD(t, "MaxSessions 1")
	c := start(t, s.host(t, s.port))
	for i := range 200 {
		if _, _, err := output(t, c, "true", nil); err != nil {
			t.Fatalf("command %d: %v", i, err)
		}
	}
}

func TestExitErrorText(t *testing.T) {
	for want, e := range map[string]ExitError{
		"exit status 2":                {Code: 2},
		"ended by signal TERM":         {Code: -1, Signal: "TERM"},
		"ended without an exit status": {Code: -1},
	} {
		if got := e.Error(); got != want {
			t.Errorf("%+v: %q", e, got)
		}
	}
}
