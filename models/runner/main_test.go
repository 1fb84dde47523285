package runner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// patience bounds what must happen soon; no test waits for it to pass.
const patience = 20 * time.Second

// The test binary plays every program of these tests, by its first argument.
func TestMain(m *testing.M) {
	roles := map[string]func(args []string) error{
		"model-run": runMain, "model-inside": func(args []string) error { return Inside(args[0]) },
		"forbidden": forbiddenMain, "server": serverMain, "sleeper": func([]string) error { select {} },
	}
	if len(os.Args) > 1 && roles[os.Args[1]] != nil {
		err := roles[os.Args[1]](os.Args[2:])
		code := 0
		if exit := new(ExitError); errors.As(err, &exit) {
			code = exit.Code
		} else if err != nil {
			code = 1
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(code)
	}
	goleak.VerifyTestMain(m)
}

// runMain is the runner: Options as JSON, "detached" if Detach starts it.
func runMain(args []string) error {
	var told struct {
		Folder, By, Launch string
		Argv, Hide, Read   []string
		IdleStop, Grace    time.Duration
		NetNS              bool
	}
	if err := json.Unmarshal([]byte(args[0]), &told); err != nil {
		return err
	}
	o := Options{Folder: told.Folder, By: told.By, Launch: told.Launch, Argv: told.Argv, Hide: told.Hide, Read: told.Read,
		IdleStop: told.IdleStop, Grace: told.Grace, NetNS: told.NetNS}
	o.Env, o.Inside, o.Log = os.Environ(), []string{"model-inside"}, slog.New(slog.NewTextHandler(os.Stderr, nil))
	o.Stdout, o.Stderr = os.Stdout, os.Stderr
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	defer stop()
	started := false
	o.Started = func() { started = true; Detached(nil) }
	err := Run(ctx, o)
	if !started {
		Detached(err)
	}
	return err
}

// forbiddenMain runs the rest of its arguments where no user namespace can be made.
func forbiddenMain(args []string) error {
	if err := os.WriteFile("/proc/sys/user/max_user_namespaces", []byte("0"), 0); err != nil {
		return err
	}
	return syscall.Exec("/proc/self/exe", append([]string{"test"}, args...), os.Environ())
}

// server says how the stand-in for a model server behaves.
type server struct {
	Folder     string
	IgnoreTERM bool
	After      string // it listens when this file has come; empty: at once
	Say        string // on stdout, first
	Exit       int    // ends with this code instead of serving; zero: it serves
}

// serverMain is a stand-in for a model server.
func serverMain(args []string) error {
	var s server
	if err := json.Unmarshal([]byte(args[0]), &s); err != nil {
		return err
	}
	fmt.Print(s.Say)
	if s.Exit != 0 {
		os.Exit(s.Exit)
	}
	if s.IgnoreTERM {
		signal.Ignore(unix.SIGTERM)
	}
	for s.After != "" { // another process is looked at
		if _, err := os.Stat(s.After); err == nil {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	path := filepath.Join(s.Folder, serverSocket)
	l, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("POST /echo", func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
	mux.HandleFunc("GET /pid", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, os.Getpid()) })
	mux.HandleFunc("GET /spawn", spawnSleeper)
	mux.HandleFunc("GET /probe", probe)
	mux.HandleFunc("GET /try", try)
	mux.HandleFunc("GET /unlink", func(http.ResponseWriter, *http.Request) { os.Remove(path) })
	mux.HandleFunc("POST /print", func(_ http.ResponseWriter, r *http.Request) { io.Copy(os.Stdout, r.Body) })
	return http.Serve(l, mux)
}

// spawnSleeper starts a process in a session of its own, as a worker that got
// away would be, and answers its pid.
func spawnSleeper(w http.ResponseWriter, _ *http.Request) {
	cmd := exec.Command("/proc/self/exe", "sleeper")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	fmt.Fprint(w, cmd.Process.Pid)
}

// surroundings are what the server sees of the world.
type surroundings struct {
	Interfaces []string
	Connect    map[string]string // errors by address
	Status     map[string]string // /proc/self/status
	Files      []string          // what its descriptors from 3 on are
	Hidden     []string          // names in /run, but links
	Umask      string
	Groups     []int
	Env        []string
}

func probe(w http.ResponseWriter, _ *http.Request) {
	s := surroundings{Connect: map[string]string{}, Status: map[string]string{}, Env: os.Environ()}
	links, _ := net.Interfaces()
	for _, l := range links {
		s.Interfaces = append(s.Interfaces, l.Name+" "+l.Flags.String())
	}
	for _, to := range []string{"203.0.113.10:80", "[2001:db8::1]:80"} {
		c, err := net.Dial("tcp", to)
		if err == nil {
			c.Close()
		}
		s.Connect[to] = fmt.Sprint(err)
	}
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":\t")
		s.Status[name] = value
	}
	files, _ := os.ReadDir("/proc/self/fd")
	for _, f := range files {
		if target, _ := os.Readlink("/proc/self/fd/" + f.Name()); len(f.Name()) > 1 || f.Name() > "2" {
			s.Files = append(s.Files, target)
		}
	}
	run, _ := os.ReadDir("/run")
	for _, e := range run {
		if e.Type() != os.ModeSymlink {
			s.Hidden = append(s.Hidden, e.Name())
		}
	}
	s.Groups, _ = os.Getgroups()
	json.NewEncoder(w).Encode(s)
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func text(t testing.TB, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	ok(t, err)
	return string(data)
}

// optionsText is o for runMain.
func optionsText(t testing.TB, o Options) string {
	t.Helper()
	return text(t, map[string]any{"Folder": o.Folder, "By": o.By, "Launch": o.Launch, "Argv": o.Argv, "Hide": o.Hide, "Read": o.Read,
		"IdleStop": o.IdleStop, "Grace": o.Grace, "NetNS": o.NetNS})
}

// newFolder is a server's folder with a path short enough for sockets.
func newFolder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "mr")
	ok(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// running is a runner's process.
type running struct {
	t      testing.TB
	folder string
	cmd    *exec.Cmd
	stderr strings.Builder
	ended  bool
}

// start starts a runner with a stand-in server; said is what its ready pipe told.
func start(t testing.TB, o Options, s server, prefix ...string) (r *running, said outcome) {
	t.Helper()
	self, err := os.Executable()
	ok(t, err)
	s.Folder = o.Folder
	if o.Argv == nil {
		o.Argv = []string{self, "server", text(t, s)}
	}
	read, write, err := os.Pipe()
	ok(t, err)
	defer read.Close()
	r = &running{t: t, folder: o.Folder}
	r.cmd = exec.Command(self, append(prefix, "model-run", optionsText(t, o))...)
	r.cmd.Stderr, r.cmd.ExtraFiles = &r.stderr, []*os.File{write}
	if len(prefix) > 0 {
		r.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}}
	}
	ok(t, r.cmd.Start())
	write.Close()
	t.Cleanup(func() {
		if !r.ended {
			r.cmd.Process.Signal(unix.SIGKILL)
			r.cmd.Wait()
		}
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(o.Folder, ServerLog))
			t.Logf("runner:\n%s\nlog:\n%.4000s", r.stderr.String(), log)
		}
	})
	data, err := io.ReadAll(read)
	ok(t, err)
	ok(t, json.Unmarshal(data, &said))
	return r, said
}

// mustStart is start of one that must succeed.
func mustStart(t testing.TB, o Options, s server) *running {
	t.Helper()
	r, said := start(t, o, s)
	if !said.Started {
		t.Fatalf("not started: %s", said.Error)
	}
	return r
}

// wait waits for the runner's end and returns its exit code.
func (r *running) wait() int {
	r.t.Helper()
	r.ended = true
	err := r.cmd.Wait()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		r.t.Fatal(err)
	}
	return r.cmd.ProcessState.ExitCode()
}

func (r *running) signal(sig syscall.Signal) {
	r.t.Helper()
	ok(r.t, r.cmd.Process.Signal(sig))
}

func (r *running) client() *http.Client {
	return &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", filepath.Join(r.folder, ModelSocket))
	}}}
}

// ask sends a request and returns status and body.
func (r *running) ask(method, path, body string) (int, string) {
	r.t.Helper()
	req, err := http.NewRequest(method, "http://model"+path, strings.NewReader(body))
	ok(r.t, err)
	res, err := r.client().Do(req)
	ok(r.t, err)
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	ok(r.t, err)
	return res.StatusCode, string(data)
}

// get is ask for what must succeed, once the server listens.
func (r *running) get(path string) string {
	r.t.Helper()
	var body string
	await(r.t, func() bool {
		code, b := r.ask("GET", path, "")
		body = b
		return code == http.StatusOK
	})
	return body
}

// await asks another process until it is so.
func await(t testing.TB, so func() bool) {
	t.Helper()
	deadline := time.After(patience)
	for !so() {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-deadline:
			t.Fatal("it does not come to be so")
		}
	}
}

// death returns a function that waits for a process's end.
func death(t testing.TB, pid int) func() {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	ok(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	return func() {
		t.Helper()
		for { // the Go runtime's own signals interrupt it
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(patience/time.Millisecond))
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if err == nil && n == 1 {
				return
			}
			t.Fatalf("process %d lives on: %v", pid, err)
		}
	}
}

func inspect(t testing.TB, dir string) Status {
	t.Helper()
	s, err := Inspect(dir)
	ok(t, err)
	return s
}
