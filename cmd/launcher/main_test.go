package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/sallyport/sallyport/containers"
	"golang.org/x/sys/unix"
)

const (
	scriptUser = 12001                   // whom scripts run launcher as where the tests run as root
	engineEnv  = "SALLYPORT_TEST_DOCKER" // unix:// address of an engine to try sandboxes on
)

func TestMain(m *testing.M) {
	testscript.Main(openBin{m}, map[string]func(){"launcher": watchedMain, "asuser": asUserMain})
}

// watchedMain is launcher, which says where it hangs rather than hang for ever:
// no command of a script takes that long.
func watchedMain() {
	time.AfterFunc(3*time.Minute, func() {
		fmt.Fprintln(os.Stderr, "launcher hangs:", os.Args)
		_ = pprof.Lookup("goroutine").WriteTo(os.Stderr, 2)
		os.Exit(99)
	})
	main()
}

// openBin lets the scripts' user find the programs that testscript has put into
// a folder of its own, and puts a gateway beside them: a real one only where
// there is an engine to run it on.
type openBin struct{ *testing.M }

func (m openBin) Run() int {
	bin, _, _ := strings.Cut(os.Getenv("PATH"), ":")
	err := os.Chmod(filepath.Dir(bin), 0o755)
	if os.Getenv(engineEnv) == "" {
		err = errors.Join(err, os.WriteFile(filepath.Join(bin, "gateway"), []byte("#!/bin/sh\nexit 1\n"), 0o755))
	} else if err == nil {
		build := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(bin, "gateway"), "../gateway")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		build.Stderr = os.Stderr
		err = build.Run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return runWithoutLeak(m.M)
}

// asUserMain is a program that runs another one as the scripts' user, in the
// group of the engine's socket.
func asUserMain() {
	err := error(nil)
	if os.Geteuid() == 0 {
		var groups []int
		if info, err := os.Stat(strings.TrimPrefix(os.Getenv(engineEnv), "unix://")); err == nil {
			groups = append(groups, int(info.Sys().(*syscall.Stat_t).Gid))
		}
		err = errors.Join(syscall.Setgroups(groups), syscall.Setgid(scriptUser), syscall.Setuid(scriptUser))
	}
	path, lookErr := exec.LookPath(os.Args[1])
	if err = errors.Join(err, lookErr); err == nil {
		err = syscall.Exec(path, os.Args[1:], os.Environ())
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(126)
}

// oneByOne runs scripts after each other: they share a user, and so a wall.
type oneByOne struct{ *testing.T }

func (t oneByOne) Run(name string, f func(testscript.T)) {
	t.T.Run(name, func(t *testing.T) { f(oneByOne{t}) })
}
func (oneByOne) Parallel()       {}
func (t oneByOne) Verbose() bool { return testing.Verbose() }

// TestScripts needs no engine.
func TestScripts(t *testing.T) { runScripts(t, "testdata/script", "/tmp") }

// TestEngineScripts starts sandboxes.
func TestEngineScripts(t *testing.T) {
	if os.Getenv(engineEnv) == "" {
		t.Skip(engineEnv + " names no engine")
	}
	runScripts(t, "testdata/engine", os.TempDir()) // the engine sees it
}

// runScripts works in a folder of root, whose path must be short: sockets lie in it.
func runScripts(t *testing.T, dir, root string) { runScriptsWith(t, dir, root, setUpScript) }

func runScriptsWith(t *testing.T, dir, root string, setUp func(*testscript.Env) error) {
	work, err := os.MkdirTemp(root, "s")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(work) })
	if err := os.Chmod(work, 0o755); err != nil {
		t.Fatal(err)
	}
	testscript.RunT(oneByOne{t}, testscript.Params{
		Dir: dir, WorkdirRoot: work, RequireExplicitExec: true, RequireUniqueNames: true,
		Setup: setUp, Deadline: time.Now().Add(15 * time.Minute), // RunT has none of its own
		Condition: func(name string) (bool, error) {
			if name == "root" {
				return os.Geteuid() == 0, nil
			}
			return false, fmt.Errorf("unknown condition %q", name)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code": exitsWith, "await": await, "own": own, "sig": sendSignal, "engine": engineSays,
			"fifo": makeFIFO, "hear": hear, "left": left, "stopall": stopAll,
			"closedport": closedPort, "weights": weights, "vllmimage": vllmImage,
		},
	})
}

func setUpScript(e *testscript.Env) error {
	work := e.Getenv("WORK")
	e.Setenv("HOME", work+"/home")
	e.Setenv("XDG_RUNTIME_DIR", work+"/run")
	e.Setenv("DOCKER_HOST", os.Getenv(engineEnv))
	e.Setenv(engineEnv, os.Getenv(engineEnv))
	e.Setenv("GORACE", "atexit_sleep_ms=0") // else each launcher that was built with -race sleeps for a second at its end
	e.Cd = work + "/project"
	if os.Getenv(engineEnv) != "" {
		e.Defer(func() { // where a script has not come to its end
			_ = cleanUp(e.Vars, "asuser", "launcher", "stop", "--all") // the next script fails if there is something left
		})
	}
	return errors.Join(os.MkdirAll(work+"/home", 0o755), os.MkdirAll(work+"/project", 0o755), os.MkdirAll(work+"/run", 0o700), chownAll(work))
}

// cleanUp runs a command that is not waited for without end.
func cleanUp(environ []string, name string, args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, name, args...)
	c.Env = environ
	return c.Run()
}

func chownAll(dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, scriptUser, scriptUser))
	})
}

// exitsWith runs a command that must end with one code: code 2 launcher --bad.
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
		case <-time.After(20 * time.Millisecond): // another process is looked at
		case <-deadline:
			ts.Fatalf("still: %v", err)
		}
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

// makeFIFO makes pipes in the project, through which agents tell how far they are.
func makeFIFO(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args {
		ts.Check(unix.Mkfifo(ts.MkAbs(name), 0o666))
		ts.Check(os.Chmod(ts.MkAbs(name), 0o666))
	}
}

// hear waits for what an agent writes into a pipe, and makes it stdout's match.
func hear(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(ts.Exec("timeout", "20", "cat", args[0]))
}

// left checks how many containers of the scripts' user there are: left agent 0.
func left(ts *testscript.TestScript, _ bool, args []string) {
	if list := listed(ts, args[0]); strconv.Itoa(len(list)) != args[1] {
		ts.Fatalf("%v", list)
	}
}

func listed(ts *testscript.TestScript, role string) []containers.Container {
	ctx := context.Background()
	engine, err := containers.Open(ctx, os.Getenv(engineEnv))
	ts.Check(err)
	defer engine.Close()
	list, err := engine.List(ctx, map[string]string{containers.LabelRole: role, containers.LabelOwner: strconv.Itoa(scriptUser)})
	ts.Check(err)
	return list
}

// stopAll kills containers of one role, as an administrator might: stopall wall.
func stopAll(ts *testscript.TestScript, _ bool, args []string) {
	ctx := context.Background()
	engine, err := containers.Open(ctx, os.Getenv(engineEnv))
	ts.Check(err)
	defer engine.Close()
	for _, c := range listed(ts, args[0]) {
		ts.Check(engine.Kill(ctx, c.ID, "SIGKILL"))
	}
}

// engineSays listens at DOCKER_HOST and answers as some engine would. It counts
// what it is asked to make, in the file "made".
func engineSays(ts *testscript.TestScript, _ bool, args []string) {
	var u unix.Utsname
	ts.Check(unix.Uname(&u))
	type object = map[string]any
	version := object{"Version": "28.5.2", "ApiVersion": "1.41", "Platform": object{"Name": "Docker Engine - Community"}, "Components": []object{{"Name": "Engine"}}}
	info := object{"OSType": "linux", "OperatingSystem": "Debian GNU/Linux 12 (bookworm)", "Name": "laptop",
		"KernelVersion": unix.ByteSliceToString(u.Release[:]), "SecurityOptions": []string{"name=seccomp,profile=builtin"}}
	switch args[0] {
	case "rootful":
	case "rootless":
		info["SecurityOptions"] = []string{"name=rootless"}
	case "podman":
		version["Components"] = []object{{"Name": "Podman Engine"}}
	case "desktop":
		info["OperatingSystem"] = "Docker Desktop"
	case "elsewhere":
		info["KernelVersion"] = "1.0"
	case "windows":
		info["OSType"] = "windows"
	default:
		ts.Fatalf("unknown engine %q", args[0])
	}
	socket := filepath.Join(ts.Getenv("WORK"), "engine.sock")
	l, err := net.Listen("unix", socket)
	ts.Check(err)
	ts.Check(os.Chmod(socket, 0o666))
	made := filepath.Join(ts.Getenv("WORK"), "made")
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", "1.41")
		switch {
		case strings.HasSuffix(r.URL.Path, "/_ping"):
		case strings.HasSuffix(r.URL.Path, "/version"):
			_ = json.NewEncoder(w).Encode(version)
		case strings.HasSuffix(r.URL.Path, "/info"):
			_ = json.NewEncoder(w).Encode(info)
		case r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/images/") && !strings.HasSuffix(r.URL.Path, "/images/json"):
			http.Error(w, `{"message": "no such image"}`, http.StatusNotFound)
		case r.Method != http.MethodGet:
			_ = os.WriteFile(made, []byte(r.Method+" "+r.URL.Path+"\n"), 0o666)
			w.WriteHeader(http.StatusTeapot)
		default:
			fmt.Fprint(w, "[]")
		}
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	ts.Defer(func() { server.Close(); <-done })
	ts.Setenv("DOCKER_HOST", "unix://"+socket)
}
