package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
)

// typist is somebody at a terminal who runs a command.
type typist struct {
	t    *testing.T
	cmd  *exec.Cmd
	tty  *os.File
	from int // of what was seen; what lies before was expected already

	mu      sync.Mutex
	seen    []byte
	ended   bool
	changed chan struct{}
}

// at starts the launcher as the scripts' user, at a terminal, in a home of its own.
func at(t *testing.T, work string, args ...string) *typist {
	t.Helper()
	path := filepath.Join(work, "bin") + ":" + os.Getenv("PATH")
	typ := &typist{t: t, cmd: exec.Command("asuser", append([]string{"launcher"}, args...)...), changed: make(chan struct{})}
	typ.cmd.Env = []string{"PATH=" + path, "HOME=" + work + "/home", "USER=me", "TERM=dumb", "XDG_RUNTIME_DIR=" + work + "/run"}
	typ.cmd.Dir = work + "/project"
	tty, err := pty.StartWithSize(typ.cmd, &pty.Winsize{Cols: 200, Rows: 50})
	if err != nil {
		t.Fatal(err)
	}
	typ.tty = tty
	read := make(chan struct{})
	go func() {
		defer close(read)
		b := make([]byte, 4<<10)
		for err := error(nil); err == nil; {
			var n int
			n, err = tty.Read(b)
			typ.mu.Lock()
			typ.seen, typ.ended = append(typ.seen, b[:n]...), err != nil
			close(typ.changed)
			typ.changed = make(chan struct{})
			typ.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		_ = typ.cmd.Process.Kill() // it may have ended
		_ = typ.cmd.Wait()
		tty.Close()
		<-read
	})
	return typ
}

// expect waits for a pattern in what follows the last one that was expected.
func (typ *typist) expect(pattern string) string {
	typ.t.Helper()
	re := regexp.MustCompile(pattern)
	ctx, cancel := context.WithTimeout(typ.t.Context(), time.Minute)
	defer cancel()
	for {
		typ.mu.Lock()
		text, ended, changed := string(bytes.ReplaceAll(typ.seen, []byte("\r"), nil)), typ.ended, typ.changed
		typ.mu.Unlock()
		if m := re.FindStringIndex(text[min(typ.from, len(text)):]); m != nil {
			found := text[typ.from+m[0] : typ.from+m[1]]
			typ.from += m[1]
			return found
		}
		if ended {
			typ.t.Fatalf("it ended without %q:\n%s", pattern, text)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			typ.t.Fatalf("no %q:\n%s", pattern, text)
		}
	}
}

// answer waits for a question and types.
func (typ *typist) answer(question, text string) {
	typ.t.Helper()
	typ.expect(question)
	if _, err := typ.tty.WriteString(text); err != nil {
		typ.t.Fatal(err)
	}
}

// code waits for the end, and returns the exit code.
func (typ *typist) code() int {
	typ.t.Helper()
	hung := time.AfterFunc(time.Minute, func() { _ = typ.cmd.Process.Signal(syscall.SIGQUIT) }) // it says where
	err := typ.cmd.Wait()
	hung.Stop()
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		return exit.ExitCode()
	} else if err != nil {
		typ.t.Fatal(err)
	}
	return 0
}

// newWork is a folder with a home, and a vllm in its PATH.
func newWork(t *testing.T) string {
	t.Helper()
	work, err := os.MkdirTemp("/tmp", "s")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(work) })
	err = os.Chmod(work, 0o755)
	for _, dir := range []string{"home", "project", "run", "bin"} {
		err = errors.Join(err, os.Mkdir(filepath.Join(work, dir), 0o700))
	}
	err = errors.Join(err, os.WriteFile(filepath.Join(work, "bin/vllm"), []byte("#!/bin/sh\n"), 0o755), chownAll(work))
	if err != nil {
		t.Fatal(err)
	}
	return work
}

func (typ *typist) written(work string) string {
	typ.t.Helper()
	text, err := os.ReadFile(filepath.Join(work, "home/.config/sallyport/config.yaml"))
	if errors.Is(err, os.ErrNotExist) {
		return ""
	}
	if err != nil {
		typ.t.Fatal(err)
	}
	return string(text)
}

// allTheSame insists where this machine is too small for the model.
func (typ *typist) allTheSame(next string) {
	typ.t.Helper()
	if strings.HasPrefix(typ.expect(`Take it all the same\? \[y/N\] |`+next), "Take it") {
		if _, err := typ.tty.WriteString("y\n"); err != nil {
			typ.t.Fatal(err)
		}
		typ.expect(next)
	}
}

// Every question is answered wrongly once, and then rightly.
func TestInitAtTerminal(t *testing.T) {
	work := newWork(t)
	typ := at(t, work, "init")
	typ.answer(`1\. Where is the GPU\?.* \[local\]: `, "two words\n")
	typ.expect(`fail answer .*"two words" is no SSH destination`)
	typ.expect(`hint: user@host, user@host:port, or an alias`)
	typ.answer(`1\. Where is the GPU\?.* \[local\]: `, "\n")
	typ.expect(`ok   shell `)
	typ.expect(`ok   runtime `)
	typ.expect(`devices `)
	typ.expect(`2\. Which model\?\n`)
	typ.expect(`1\) gpt-oss-120b .* 65 GB to download`)
	typ.answer(`Its number or name.*: `, "gpt-5\n")
	typ.expect(`fail answer .*no known model is called "gpt-5"`)
	typ.expect(`hint: gpt-oss-120b, `)
	typ.answer(`Its number or name.*: `, "gpt-oss-20b\n")
	typ.allTheSame(`3\. Which folder for weights, on this machine\? \[.*/\.cache/huggingface\]: `)
	typ.from -= len("]: ")
	typ.answer(`\]: `, "weights\n")
	typ.expect(`"weights" is no absolute path\n`)
	typ.expect(`hint: start it with / or ~/`)
	typ.answer(`3\. Which folder.*: `, "~/hf\n")
	typ.allTheSame(`Write this to .*config\.yaml\? \[Y/n\] `)
	if got := typ.written(work); got != "" {
		t.Errorf("written before it was confirmed: %s", got)
	}
	typ.from -= len("[Y/n] ")
	typ.answer(`\[Y/n\] `, "maybe\n")
	typ.expect(`please answer yes or no`)
	typ.answer(`\[Y/n\] `, "y\n")
	typ.expect(`wrote .*/home/\.config/sallyport/config\.yaml`)
	typ.expect(`launcher pull gpt-oss-20b   downloads about 14 GB`)
	typ.expect(`launcher claude gpt-oss-20b`)
	if code := typ.code(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	const want = "# By launcher init. Every other key: config.example.yaml\nlocal: {weights: ~/hf}\nmodels:\n  - {name: gpt-oss-20b}\n"
	if got := typ.written(work); got != want {
		t.Errorf("wrote\n%s", got)
	}
}

// Ctrl-C at any question, and the end of input, write nothing.
func TestInitInterrupted(t *testing.T) {
	steps := []struct{ question, right string }{
		{`1\. Where is the GPU\?.*: `, "local\n"},
		{`Its number or name.*: `, "gpt-oss-20b\n"},
		{`3\. Which folder.*: `, "\n"},
		{`Write this to .* \[Y/n\] `, ""},
	}
	for _, tt := range []struct {
		name, typed string
		code        int
		says        string
	}{{"Ctrl-C", "\x03", exitInterrupted, "nothing was written"}, {"Ctrl-D", "\x04", exitUsage, "the input ended before the questions did: nothing was written; hint: "}} {
		for last := range steps {
			t.Run(fmt.Sprintf("%s at question %d", tt.name, last+1), func(t *testing.T) {
				work := newWork(t)
				typ := at(t, work, "init")
				for i, s := range steps[:last+1] {
					for strings.HasPrefix(typ.expect(`Take it all the same\? \[y/N\] |`+s.question), "Take it") {
						typ.answer("", "y\n")
					}
					if i < last {
						typ.answer("", s.right)
					}
				}
				typ.answer("", tt.typed)
				typ.expect(tt.says)
				if code := typ.code(); code != tt.code {
					t.Errorf("exit code %d, not %d", code, tt.code)
				}
				if _, err := os.Stat(filepath.Join(work, "home/.config")); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("something was written: %v", err)
				}
			})
		}
	}
}

// A GPU host whose key is not known: it is added only once the user has compared it.
func TestInitHostKeyAtTerminal(t *testing.T) {
	work := newWork(t)
	h, err := startGPUHost(work)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.stop)
	if err := chownAll(work); err != nil {
		t.Fatal(err)
	}
	known := filepath.Join(work, "home/.ssh/known_hosts")
	unknown := func() {
		t.Helper()
		if text, err := os.ReadFile(known); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("known_hosts holds %q, %v", text, err)
		}
	}
	typ := at(t, work, "init")
	for _, refusal := range []string{"", "y", "SHA256:AAAA", "no"} { // as ssh does, it wants the whole word
		typ.answer(`1\. Where is the GPU\?.*: `, h.login+"\n")
		typ.expect(`fail hostkey   the host key of .* is not known: ssh-ed25519 ` + regexp.QuoteMeta(h.print))
		typ.expect(`then: ssh-keyscan -p [0-9]+ -t ed25519 127\.0\.0\.1 >> ` + known)
		typ.answer(`I compared it: `, refusal+"\n")
		typ.expect(`nothing was added`)
		unknown()
	}
	typ.answer(`1\. Where is the GPU\?.*: `, h.login+"\n")
	typ.answer(`I compared it: `, h.print+"\n")
	typ.expect(`added to `)
	typ.expect(`ok   hostkey `)
	typ.expect(`ok   login     accepted`)
	typ.expect(`ok   dial `)
	text, err := os.ReadFile(known)
	if err != nil || string(text) != h.known+"\n" {
		t.Errorf("known_hosts: %q, %v; want %q", text, err, h.known)
	}
	if info, err := os.Stat(known); err != nil || info.Mode().Perm() != 0o600 || int(info.Sys().(*syscall.Stat_t).Uid) != max(os.Geteuid(), map[bool]int{true: scriptUser}[os.Geteuid() == 0]) {
		t.Errorf("known_hosts: %v, %v", info, err)
	}
	typ.answer(`Its number or name.*: `, "gpt-oss llama.cpp\n")
	typ.expect(`llama-server is not in the PATH of the login on gpu`)
	typ.answer(`Its number or name.*: `, "2\n")
	typ.allTheSame(`3\. Which folder for weights, on gpu\? `)
	typ.answer(`: `, "\n")
	typ.allTheSame(`Write this to .* \[Y/n\] `)
	typ.answer("", "n\n")
	typ.expect("nothing was written")
	if code := typ.code(); code != exitFailed {
		t.Errorf("exit code %d", code)
	}
	if got := typ.written(work); got != "" {
		t.Errorf("wrote %s", got)
	}
}

// doctor shows at a terminal what it looks at, and takes it away again.
func TestDoctorAtTerminal(t *testing.T) {
	work := newWork(t)
	typ := at(t, work, "doctor")
	typ.expect(`doctor    (configuration|this machine): `)
	typ.expect(`\x1b\[K`)
	typ.expect(`(?m)^(.*\x1b\[K)?configuration\n`)
	typ.expect(`(?m)this machine\n`)
	typ.expect(`(ok|fail) +engine `)
	typ.expect(`[0-9]+ ok, `)
	typ.code() // whether there is an engine is not this test's
}
