package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/sallyport/sallyport/confine"
	"golang.org/x/sys/unix"
)

// scriptUser is whom scripts run their commands as where the tests run as root.
const scriptUser = 12001

func TestMain(m *testing.M) {
	testscript.Main(openBin{m}, map[string]func(){"gateway": main, "asuser": asUserMain, "trygateway": tryGatewayMain})
}

// openBin lets the scripts' user find the programs that testscript has put into
// a folder of its own.
type openBin struct{ *testing.M }

func (m openBin) Run() int {
	bin, _, _ := strings.Cut(os.Getenv("PATH"), ":")
	if err := os.Chmod(filepath.Dir(bin), 0o755); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return runWithoutLeak(m.M)
}

// asUserMain is a program that runs another one as the scripts' user.
func asUserMain() {
	err := error(nil)
	if os.Geteuid() == 0 {
		err = errors.Join(syscall.Setgroups(nil), syscall.Setgid(scriptUser), syscall.Setuid(scriptUser))
	}
	path, lookErr := exec.LookPath(os.Args[1])
	if err = errors.Join(err, lookErr); err == nil {
		err = syscall.Exec(path, os.Args[1:], os.Environ())
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(126)
}

func TestScripts(t *testing.T) {
	work, err := os.MkdirTemp("/tmp", "sp") // short: sockets lie in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(work) })
	if err := os.Chmod(work, 0o755); err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", WorkdirRoot: work, RequireExplicitExec: true, RequireUniqueNames: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", e.Getenv("WORK")+"/home")
			e.Setenv("XDG_RUNTIME_DIR", e.Getenv("WORK")+"/run")
			e.Setenv("UID", strconv.Itoa(userOfScripts()))
			kernel, err := confine.Ask()
			if err != nil {
				return err
			}
			e.Setenv("ABI", strconv.Itoa(kernel.ABI))
			e.Setenv("GORACE", "atexit_sleep_ms=0") // else each gateway that was built with -race sleeps for a second at its end
			if err := errors.Join(os.MkdirAll(e.Getenv("HOME"), 0o755), os.MkdirAll(e.Getenv("XDG_RUNTIME_DIR"), 0o700)); err != nil {
				return err
			}
			return chownAll(e.Getenv("WORK"))
		},
		Condition: func(name string) (bool, error) {
			switch name {
			case "root":
				return os.Geteuid() == 0, nil
			case "landlock":
				kernel, err := confine.Ask()
				return kernel.ABI > 0, err
			}
			return false, fmt.Errorf("unknown condition %q", name)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"code": exitsWith, "await": await, "mode": mode, "own": own, "sig": sendSignal, "record": storeEvents, "tamper": tamper},
	})
}

func userOfScripts() int {
	if os.Geteuid() == 0 {
		return scriptUser
	}
	return os.Geteuid()
}

func chownAll(dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, scriptUser, scriptUser))
	})
}

// exitsWith runs a command that must end with one code: code 2 gateway --bad.
func exitsWith(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N command [argument…]")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d, not %s", code, args[0])
	}
}

// await runs a command until it succeeds; with ! until it fails.
func await(ts *testscript.TestScript, neg bool, args []string) {
	deadline := time.After(20 * time.Second)
	for {
		err := ts.Exec(args[0], args[1:]...)
		if (err != nil) == neg {
			return
		}
		select {
		case <-time.After(10 * time.Millisecond): // another process is looked at
		case <-deadline:
			ts.Fatalf("still: %v", err)
		}
	}
}

// mode checks a file's permissions: mode 0700 path.
func mode(ts *testscript.TestScript, neg bool, args []string) {
	info, err := os.Lstat(ts.MkAbs(args[1]))
	ts.Check(err)
	if got := fmt.Sprintf("%04o", info.Mode().Perm()); (got == args[0]) == neg {
		ts.Fatalf("%s has mode %s", args[1], got)
	}
}

// sendSignal sends a signal to the only background command: sig TERM.
func sendSignal(ts *testscript.TestScript, _ bool, args []string) {
	running := ts.BackgroundCmds()
	if len(running) != 1 {
		ts.Fatalf("%d background commands", len(running))
	}
	ts.Check(running[0].Process.Signal(unix.SignalNum("SIG" + args[0])))
}

// own gives everything in the work folder to the scripts' user.
func own(ts *testscript.TestScript, _ bool, _ []string) { ts.Check(chownAll(ts.Getenv("WORK"))) }
