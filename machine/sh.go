package machine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"

	"github.com/sallyport/sallyport/tunnel"
)

// Bounds of what is kept of a script's output, in bytes.
const (
	maxOutput = 1 << 20 // of Sh
	maxErrors = 4 << 10 // the end of stderr
	maxLines  = 10      // of that, in an error
)

// ShError says that a script ended, and not with exit status 0.
type ShError struct {
	Machine string // as messages name it
	Code    int    // exit status; -1 if none was told
	Signal  string // that ended it, without SIG; empty: none, or not told
	Stderr  string // its last lines: printable, bounded; may be empty
}

func (e *ShError) Error() string {
	s := (&tunnel.ExitError{Code: e.Code, Signal: e.Signal}).Error()
	if e.Stderr != "" {
		s += ": " + strings.ReplaceAll(e.Stderr, "\n", "; ")
	}
	return fmt.Sprintf("a command on %s failed: %s", e.Machine, s)
}

// Sh runs a POSIX sh script, args being its $1 and so on, and returns its
// stdout, 1 MiB at most. The script starts in the user's home. One that fails
// gives a *ShError; other errors are those of tunnel.Client.Exec. When ctx ends,
// or stdin fails, the script gets signal TERM with all that it started and that
// made no session of its own.
//
// A script must not take the end of its stdin for a sign that all of it came: a
// lost link looks the same. What it leaves running must not keep its stdout or
// stderr.
func (m *Machine) Sh(ctx context.Context, script string, stdin io.Reader, args ...string) ([]byte, error) {
	var out capped
	err := m.Stream(ctx, script, stdin, &out, args...)
	return out.b.Bytes(), err
}

// Stream is Sh for output of any length, passed on as it comes.
func (m *Machine) Stream(ctx context.Context, script string, stdin io.Reader, stdout io.Writer, args ...string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	out := &failing{w: stdout, fail: cancel}
	errs := &tail{max: maxErrors}
	var err error
	switch {
	case m.remote != nil:
		err = m.runThere(ctx, script, args, stdin, out, errs)
	case m.local != nil:
		err = m.runHere(ctx, cancel, script, args, stdin, out, errs)
	default:
		return errZero
	}
	var exit *tunnel.ExitError
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil && !errors.Is(err, tunnel.ErrLinkDown):
		return fmt.Errorf("run a command on %s: %w", m, context.Cause(ctx))
	case errors.As(err, &exit):
		return &ShError{Machine: m.String(), Code: exit.Code, Signal: exit.Signal, Stderr: lastLines(errs.data)}
	}
	return err
}

// runThere runs a script over SSH.
func (m *Machine) runThere(ctx context.Context, script string, args []string, stdin io.Reader, stdout io.Writer, stderr *tail) error {
	command, err := commandLine(markScript+script, args)
	if err != nil {
		return fmt.Errorf("run a command on %s: %w", m, err)
	}
	out := &afterMark{w: stdout}
	err = m.remote.Exec(ctx, tunnel.Exec{Command: command, Stdin: stdin, Stdout: out, Stderr: stderr})
	switch {
	case err != nil && ctx.Err() != nil:
		m.terminate(context.WithoutCancel(ctx), out)
	case !out.found && (err == nil || isExit(err)):
		stderr.Write(append([]byte("\n"), out.head...)) // e.g. nologin(8) says so on stdout
		return fmt.Errorf("run a command on %s: the login shell there, or a forced command, ran something else, which said: %q",
			m, lastLines(stderr.data))
	}
	return err
}

func isExit(err error) bool {
	var exit *tunnel.ExitError
	return errors.As(err, &exit)
}

// terminate ends the script of a cancelled call. OpenSSH itself does not pass
// signals on to what root runs.
func (m *Machine) terminate(ctx context.Context, out *afterMark) {
	if !out.root || !m.remote.State().Up {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, cleanupTime)
	defer cancel()
	// $$ leads a process group (sshd starts each command in a session), unless a forced command lies between.
	command, err := commandLine(`kill -s TERM -- "-$1" 2>/dev/null || kill -s TERM "$1"`, []string{strconv.Itoa(out.pid)})
	if err == nil {
		m.remote.Exec(ctx, tunnel.Exec{Command: command}) // it may have ended by itself
	}
}

// markScript separates a script's output from what the login shell's start-up
// files print, and tells who runs it.
const (
	markScript = `printf '\036sallyport %s %s\036' "$$" "$(id -u)"` + "\n"
	markStart  = "\x1esallyport "
	maxNoise   = 64 << 10 // bytes before the mark
)

// afterMark passes on what follows the mark.
type afterMark struct {
	w     io.Writer
	head  []byte // all so far, while the mark has not been found
	found bool
	pid   int // of the script's shell
	root  bool
}

func (a *afterMark) Write(p []byte) (int, error) {
	if a.found {
		return a.w.Write(p)
	}
	a.head = append(a.head, p...)
	_, rest, ok := bytes.Cut(a.head, []byte(markStart))
	mark, rest, whole := bytes.Cut(rest, []byte("\x1e"))
	if !ok || !whole {
		if len(a.head) > maxNoise {
			return 0, fmt.Errorf("more than %d KiB come from the login shell's start-up files", maxNoise>>10)
		}
		return len(p), nil
	}
	if n, err := fmt.Sscanf(string(mark), "%d", &a.pid); n != 1 || err != nil || a.pid <= 1 {
		return 0, errors.New("its answer is malformed")
	}
	a.found, a.root, a.head = true, bytes.HasSuffix(mark, []byte(" 0")), nil
	if len(rest) > 0 {
		if _, err := a.w.Write(rest); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// failing tells of the first failed write, so that the script ends.
type failing struct {
	w    io.Writer
	fail func(error)
}

func (f *failing) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	if err != nil {
		f.fail(err)
	}
	return n, err
}

// capped keeps maxOutput bytes and refuses more.
type capped struct{ b bytes.Buffer }

func (c *capped) Write(p []byte) (int, error) {
	if c.b.Len()+len(p) > maxOutput {
		return 0, fmt.Errorf("it printed more than %d KiB", maxOutput>>10)
	}
	return c.b.Write(p)
}

// tail keeps the last max bytes.
type tail struct {
	max  int
	data []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.data = append(t.data, p[max(0, len(p)-t.max):]...)
	t.data = t.data[max(0, len(t.data)-t.max):]
	return len(p), nil
}

// lastLines is the end of a command's output, safe for a terminal.
func lastLines(text []byte) string {
	var lines []string
	for line := range strings.FieldsFuncSeq(string(text), func(r rune) bool { return r == '\n' || r == '\r' }) {
		if line = strings.TrimSpace(printable(line)); line != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines[max(0, len(lines)-maxLines):], "\n")
}

// printable makes another machine's words safe for a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, s)
}
