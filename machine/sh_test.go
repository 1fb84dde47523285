package machine

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sallyport/sallyport/tunnel"
)

func TestSh(t *testing.T) {
	each(t, func(t *testing.T, m *Machine, s somebody) {
		for _, tt := range []struct {
			name, script, stdin string
			args                []string
			want                string
			fails               string // text of the error
		}{
			{name: "plain", script: "echo hello", want: "hello\n"},
			{name: "nothing", script: ""},
			{name: "lines", script: "a=1\nif [ $a = 1 ]\nthen echo one\nfi\n", want: "one\n"},
			{name: "its place", script: `pwd; echo "$HOME"; id -u`, want: s.home + "\n" + s.home + "\n" + itoa(s.uid) + "\n"},
			{name: "stdin", script: "cat", stdin: "in\x00out", want: "in\x00out"},
			{name: "no stdin", script: "cat"},
			{name: "arguments", script: `printf '%s|' "$#" "$@"`, args: []string{"", "a b", "-n", `\\`, `\`, "it's", "!x", "$HOME `id`", "*", "a\nb\n", "ü\xff\x1b"},
				want: "11||a b|-n|" + `\\|\|` + "it's|!x|$HOME `id`|*|a\nb\n|ü\xff\x1b|"},
			{name: "name", script: `echo "$0"`, want: "sallyport\n"},
			{name: "status", script: "echo part; echo why >&2; exit 7", want: "part\n", fails: "exit status 7: why"},
			{name: "signal", script: "kill -KILL $$", fails: "ended by signal KILL"},
			{name: "syntax", script: "if", fails: "yntax"},
			{name: "escapes", script: `printf 'a\033]52;c;x\007b\rc\td\302\233\n' >&2; exit 1`, fails: "exit status 1: a?]52;c;x?b; c d?"},
			{name: "much", script: "head -c 3000000 /dev/zero", fails: "more than 1024 KiB"},
			{name: "endless", script: "while echo y; do :; done", fails: "more than 1024 KiB"},
		} {
			t.Run(tt.name, func(t *testing.T) {
				var stdin io.Reader
				if tt.stdin != "" {
					stdin = strings.NewReader(tt.stdin)
				}
				out, err := m.Sh(testContext(t), tt.script, stdin, tt.args...)
				if tt.fails == "" && err != nil || tt.fails != "" && (err == nil || !strings.Contains(err.Error(), tt.fails) || !strings.Contains(err.Error(), m.String())) {
					t.Errorf("error %v, want %q", err, tt.fails)
				}
				if !strings.Contains(tt.fails, "KiB") && string(out) != tt.want || len(out) > maxOutput {
					t.Errorf("got %q, want %q", out[:min(len(out), 200)], tt.want)
				}
			})
		}
		var sh *ShError
		_, err := m.Sh(testContext(t), "i=0; while [ $i -lt 5000 ]; do echo line $i >&2; i=$((i+1)); done; exit 3", nil)
		if !errors.As(err, &sh) || sh.Code != 3 || sh.Machine != m.String() || len(sh.Stderr) > maxErrors || strings.Count(sh.Stderr, "\n") != maxLines-1 || !strings.HasSuffix(sh.Stderr, "line 4999") {
			t.Errorf("%+v", err)
		}
		if _, err := m.Sh(testContext(t), ":", nil, "a\x00b"); err == nil {
			t.Error("a NUL byte was passed")
		}
		if _, err := m.Sh(testContext(t), ":", nil, strings.Repeat("x", 200<<10)); err == nil {
			t.Error("an argument too long was passed")
		}
	})
}

// Login shells differ in their quoting, and some print what nobody asked for.
func TestLoginShells(t *testing.T) {
	dir, err := os.MkdirTemp("", "shells")
	ok(t, err)
	defer os.RemoveAll(dir)
	ok(t, os.Chmod(dir, 0o755))
	noisy := filepath.Join(dir, "noisy")
	ok(t, os.WriteFile(noisy, []byte("#!/bin/sh\necho Welcome to gpu\necho noise >&2\nexec /bin/sh \"$@\"\n"), 0o755))
	shells := []string{noisy}
	for _, name := range []string{"dash", "bash", "zsh", "ksh", "mksh", "fish", "tcsh", "csh"} {
		if path, err := exec.LookPath(name); err == nil {
			shells = append(shells, path)
		}
	}
	var all []byte
	for c := 1; c < 256; c++ {
		all = append(all, byte(c))
	}
	args := []string{string(all), `a\`, `\'\\'`, "'", "!!", "a\nb", "", "~", "$x `y` $(z)", "ü"}
	for _, shell := range shells {
		t.Run(filepath.Base(shell), func(t *testing.T) {
			m := newSomebody(t).there(t, login{shell: shell})
			out, err := m.Sh(testContext(t), `printf '%s\0' "$@"; cat`, strings.NewReader("stdin"), args...)
			if err != nil || string(out) != strings.Join(args, "\x00")+"\x00stdin" {
				t.Errorf("got %q, %v", out, err)
			}
		})
	}
}

// A login that may run nothing says so, and not what it prints instead.
func TestLoginRunsSomethingElse(t *testing.T) {
	other := filepath.Join(t.TempDir(), "shell")
	ok(t, os.WriteFile(other, []byte("#!/bin/sh\necho This account is '\033[31mclosed.'\n"), 0o755))
	ok(t, os.Chmod(filepath.Dir(filepath.Dir(other)), 0o755))
	m := newSomebody(t).there(t, login{shell: other})
	out, err := m.Sh(testContext(t), "echo hello", nil)
	if err == nil || len(out) > 0 || !strings.Contains(err.Error(), "This account is ?[31mclosed.") {
		t.Errorf("got %q, %v", out, err)
	}
}

// started tells when text was printed.
type started struct {
	text string
	came chan struct{}
	got  bytes.Buffer
}

func newStarted() *started { return &started{text: "started", came: make(chan struct{})} }

func (s *started) Write(p []byte) (int, error) {
	before := strings.Contains(s.got.String(), s.text)
	s.got.Write(p)
	if !before && strings.Contains(s.got.String(), s.text) {
		close(s.came)
	}
	return len(p), nil
}

// fifo is a pipe that a script of somebody's holds open; ended waits until none does.
func (s somebody) fifo(t *testing.T) (path string, ended func() string) {
	t.Helper()
	path = filepath.Join(s.home, "fifo")
	ok(t, syscall.Mkfifo(path, 0o600))
	ok(t, os.Lchown(path, s.uid, s.gid))
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
			t.Fatal("the script did not end")
			return ""
		}
	}
}

// The end of ctx ends the script and what it started, also where sshd passes no
// signals on: to root.
func TestCancel(t *testing.T) {
	check := func(t *testing.T, m *Machine, s somebody) {
		path, ended := s.fifo(t)
		ctx, cancel := context.WithCancelCause(testContext(t))
		why := errors.New("changed my mind")
		out := newStarted()
		go func() {
			<-out.came
			cancel(why)
		}()
		in, feed := io.Pipe()
		defer feed.Close()
		err := m.Stream(ctx, `exec 3>"$1"; trap 'echo got TERM >&3' TERM; sh -c "echo started; exec sleep 1000" & wait`, in, out, path)
		var sh *ShError
		if !errors.Is(err, why) || errors.As(err, &sh) {
			t.Errorf("error %v", err)
		}
		if got := ended(); !strings.HasPrefix(got, "got TERM\n") {
			t.Errorf("the script said %q", got)
		}
	}
	each(t, check)
	if os.Getuid() == 0 {
		t.Run("root", func(t *testing.T) {
			s := newSomebody(t)
			check(t, s.there(t, login{root: true}), s)
		})
	}
}

func TestZeroMachine(t *testing.T) {
	var m Machine
	ctx := testContext(t)
	_, sh := m.Sh(ctx, "true", nil)
	_, dial := m.Dial(ctx, "unix", "/x")
	_, listen := m.ListenUnix(ctx, "/x")
	_, facts := m.Facts(ctx)
	_, free := m.DiskFree(ctx, "/")
	for _, err := range []error{sh, dial, listen, facts, free, m.Put(ctx, "/x", nil, 0o600)} {
		if !errors.Is(err, errZero) {
			t.Errorf("got %v", err)
		}
	}
	if os.Getuid() != 0 {
		if _, err := Local(LocalOptions{Home: "/"}).Sh(ctx, "true", nil); err == nil {
			t.Error("the zero options ran something as root")
		}
	}
	if m := Remote("strix", nil); m.Name() != "strix" || m.String() != "strix" || Local(LocalOptions{}).String() != "this machine" {
		t.Error("names")
	}
}

func TestLinkLostIsSaid(t *testing.T) {
	c, err := tunnel.New(tunnel.Host{Name: "gpu", Addr: "127.0.0.1", Port: 1, User: "me", KnownHosts: "x"}, nil)
	if err == nil || c != nil {
		t.Fatal("a client without a logger")
	}
	m := newSomebody(t).there(t, login{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.Sh(ctx, "true", nil); err == nil || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestQuote(t *testing.T) {
	for _, args := range [][]string{{"a", "--b=c/d", "x y"}, {""}, {"it's", `\`, "$x", "a\nb", "*", "~", "=x", "ü"}} {
		out, err := exec.Command("sh", "-c", `printf '%s\0' `+Quote(args...)).Output()
		if err != nil || string(out) != strings.Join(args, "\x00")+"\x00" {
			t.Errorf("%q: %q, %v", args, out, err)
		}
	}
	if got := Quote("docker", "run", "--name=x", "a b"); got != "docker run --name=x 'a b'" {
		t.Errorf("got %s", got)
	}
}
