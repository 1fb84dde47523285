package runner

import (
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// both runs a test without and with namespaces.
func both(t *testing.T, f func(t *testing.T, netns bool)) {
	for _, netns := range []bool{false, true} {
		t.Run("netns="+strconv.FormatBool(netns), func(t *testing.T) { f(t, netns) })
	}
}

func TestLife(t *testing.T) {
	both(t, func(t *testing.T, netns bool) {
		dir := newFolder(t)
		r := mustStart(t, Options{Folder: dir, NetNS: netns, By: "me@laptop", Launch: "abc"}, server{})
		if code, body := func() (int, string) { r.get("/health"); return r.ask("POST", "/echo", "hello") }(); code != 200 || body != "hello" {
			t.Errorf("%d %q", code, body)
		}
		s := inspect(t, dir)
		pid, err := strconv.Atoi(r.get("/pid"))
		ok(t, err)
		if !s.Held || s.Phase != PhaseRunning || s.PID != r.cmd.Process.Pid || s.ServerPID != pid || s.By != "me@laptop" || s.Launch != "abc" || s.Started.IsZero() || !s.Ended.IsZero() {
			t.Errorf("%+v", s)
		}
		for name, want := range map[string]os.FileMode{ModelSocket: 0o600, stateFile: 0o600, lockFile: 0o600, serverSocket: 0o700} {
			if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != want {
				t.Errorf("%s: %v, %v", name, info.Mode(), err)
			}
		}
		r.signal(unix.SIGTERM)
		if code := r.wait(); code != 128+15 {
			t.Errorf("exit code %d", code)
		}
		s = inspect(t, dir)
		if s.Held || s.Phase != PhaseExited || s.Why != WhyAsked || s.Signal != 15 || s.ExitCode != 143 || s.Ended.IsZero() {
			t.Errorf("%+v", s)
		}
		for _, name := range []string{ModelSocket, serverSocket} {
			if _, err := os.Lstat(filepath.Join(dir, name)); !os.IsNotExist(err) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

func TestSecondStart(t *testing.T) {
	dir := newFolder(t)
	first := mustStart(t, Options{Folder: dir, By: "anna@\x1b[31mlaptop"}, server{})
	second, said := start(t, Options{Folder: dir, By: "bert@desk"}, server{})
	if code := second.wait(); code != CodeHeld || !strings.Contains(said.Error, `anna@\x1b[31mlaptop`) {
		t.Errorf("%d %q", code, said.Error)
	}
	first.get("/health") // the first is none the worse
	if s := inspect(t, dir); s.PID != first.cmd.Process.Pid || s.Phase != PhaseRunning {
		t.Errorf("%+v", s)
	}
}

// A runner that is killed takes the server with it, and the lock stays taken
// until it is gone. In namespaces nothing that the server started is left either.
func TestKilledRunner(t *testing.T) {
	both(t, func(t *testing.T, netns bool) {
		dir := newFolder(t)
		r := mustStart(t, Options{Folder: dir, NetNS: netns}, server{IgnoreTERM: true})
		r.get("/health")
		pids := []string{r.get("/pid")}
		if netns {
			pids = append(pids, r.get("/spawn"))
		}
		var deaths []func()
		for _, text := range pids {
			pid, err := strconv.Atoi(text)
			ok(t, err)
			deaths = append(deaths, death(t, pid))
		}
		r.signal(unix.SIGKILL)
		r.wait()
		for _, dead := range deaths {
			dead()
		}
		await(t, func() bool { return !inspect(t, dir).Held })
		if s := inspect(t, dir); s.Phase != PhaseExited || s.Why != WhyLost || s.ExitCode != -1 {
			t.Errorf("%+v", s)
		}
		if _, err := os.Lstat(filepath.Join(dir, ModelSocket)); err != nil {
			t.Errorf("the stale socket of this test: %v", err)
		}
		again := mustStart(t, Options{Folder: dir, NetNS: netns}, server{})
		again.get("/health")
	})
}

// As long as something of a killed runner's server is left, nobody else starts one.
func TestLockOutlivesRunner(t *testing.T) {
	dir := newFolder(t)
	r := mustStart(t, Options{Folder: dir, NetNS: true}, server{})
	r.get("/health")
	pid, err := strconv.Atoi(r.get("/pid"))
	ok(t, err)
	fd, err := unix.PidfdOpen(pid, 0)
	ok(t, err)
	defer unix.Close(fd)
	r.signal(unix.SIGKILL)
	r.wait()
	await(t, func() bool { return !inspect(t, dir).Held })
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0); n != 1 || err != nil {
		t.Errorf("the lock is free while the server lives: %v", err)
	}
}

// The namespace's first process may be killed as well.
func TestKilledKeeper(t *testing.T) {
	dir := newFolder(t)
	r := mustStart(t, Options{Folder: dir, NetNS: true}, server{})
	r.get("/health")
	pid, err := strconv.Atoi(r.get("/pid"))
	ok(t, err)
	sleeper, err := strconv.Atoi(r.get("/spawn"))
	ok(t, err)
	keeper, err := parent(pid)
	ok(t, err)
	dead, deadToo := death(t, pid), death(t, sleeper)
	ok(t, unix.Kill(keeper, unix.SIGKILL))
	dead()
	deadToo()
	if code := r.wait(); code != 137 {
		t.Errorf("exit code %d", code)
	}
	if s := inspect(t, dir); s.Why != WhyEnded || s.Signal != 9 {
		t.Errorf("%+v", s)
	}
}

// Workers of the server that went into sessions of their own end with it.
func TestNoWorkerIsLeft(t *testing.T) {
	both(t, func(t *testing.T, netns bool) {
		r := mustStart(t, Options{Folder: newFolder(t), NetNS: netns}, server{})
		r.get("/health")
		pid, err := strconv.Atoi(r.get("/spawn"))
		ok(t, err)
		dead := death(t, pid)
		r.signal(unix.SIGINT)
		r.wait()
		dead()
	})
}

func TestIgnoredTERM(t *testing.T) {
	both(t, func(t *testing.T, netns bool) {
		dir := newFolder(t)
		r := mustStart(t, Options{Folder: dir, NetNS: netns, Grace: 50 * time.Millisecond}, server{IgnoreTERM: true})
		r.get("/health")
		r.signal(unix.SIGTERM)
		if code := r.wait(); code != 137 {
			t.Errorf("exit code %d", code)
		}
		if s := inspect(t, dir); s.Why != WhyAsked || s.Signal != 9 || s.OOM {
			t.Errorf("%+v", s)
		}
	})
}

func TestOwnEnd(t *testing.T) {
	both(t, func(t *testing.T, netns bool) {
		dir := newFolder(t)
		r := mustStart(t, Options{Folder: dir, NetNS: netns}, server{Exit: 7})
		if code := r.wait(); code != 7 {
			t.Errorf("exit code %d", code)
		}
		if s := inspect(t, dir); s.Why != WhyEnded || s.ExitCode != 7 || s.Signal != 0 || s.Phase != PhaseExited {
			t.Errorf("%+v", s)
		}
	})
}

func TestNoSuchServer(t *testing.T) {
	both(t, func(t *testing.T, netns bool) {
		dir := newFolder(t)
		r, said := start(t, Options{Folder: dir, NetNS: netns, Argv: []string{"no-such-server"}}, server{})
		if code := r.wait(); code != CodeNotFound || !strings.Contains(said.Error, "find the model server no-such-server") {
			t.Errorf("%d %q", code, said.Error)
		}
		if s := inspect(t, dir); s.ExitCode != CodeNotFound || s.Error == "" || s.Phase != PhaseExited {
			t.Errorf("%+v", s)
		}
		plain := filepath.Join(dir, "text")
		ok(t, os.WriteFile(plain, []byte("text"), 0o700))
		r, said = start(t, Options{Folder: dir, NetNS: netns, Argv: []string{plain}}, server{})
		if code := r.wait(); code != CodeNotRunnable || !strings.Contains(said.Error, "exec format error") {
			t.Errorf("%d %q", code, said.Error)
		}
	})
}

func TestIdleStop(t *testing.T) {
	dir := newFolder(t)
	r := mustStart(t, Options{Folder: dir, IdleStop: time.Millisecond}, server{})
	r.wait()
	if s := inspect(t, dir); s.Why != WhyIdle || s.IdleStop != "1ms" {
		t.Errorf("%+v", s)
	}
}

// While the server does not listen, or no more, clients get an answer.
func TestNotListening(t *testing.T) {
	dir := newFolder(t)
	after := filepath.Join(dir, "now")
	r := mustStart(t, Options{Folder: dir}, server{After: after})
	for _, method := range []string{"GET", "POST"} {
		if code, body := r.ask(method, "/health", strings.Repeat("x", 1<<20)); code != http.StatusServiceUnavailable || !json.Valid([]byte(body)) {
			t.Errorf("%s: %d %q", method, code, body)
		}
	}
	ok(t, os.WriteFile(after, nil, 0o600))
	r.get("/health")
	r.get("/unlink")
	if code, _ := r.ask("GET", "/health", ""); code != http.StatusServiceUnavailable {
		t.Errorf("%d", code)
	}
}

func TestNamespace(t *testing.T) {
	dir := newFolder(t)
	secret := filepath.Join(newFolder(t), "secret")
	ok(t, os.Mkdir(secret, 0o700))
	ok(t, os.WriteFile(filepath.Join(secret, "key"), nil, 0o600))
	r := mustStart(t, Options{Folder: dir, NetNS: true, Hide: []string{secret, filepath.Join(secret, "absent")}, Read: []string{filepath.Dir(secret)}}, server{})
	var s surroundings
	ok(t, json.Unmarshal([]byte(r.get("/probe")), &s))
	if len(s.Interfaces) != 1 || s.Interfaces[0] != "lo up|loopback|running" {
		t.Errorf("interfaces %q", s.Interfaces)
	}
	for to, err := range s.Connect {
		if !strings.Contains(err, "network is unreachable") {
			t.Errorf("connect to %s: %s", to, err)
		}
	}
	for _, name := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"} {
		if s.Status[name] != "0000000000000000" {
			t.Errorf("%s is %q", name, s.Status[name])
		}
	}
	if s.Status["NoNewPrivs"] != "1" || s.Status["Umask"] != "0077" {
		t.Errorf("NoNewPrivs %q, Umask %q", s.Status["NoNewPrivs"], s.Status["Umask"])
	}
	for _, file := range s.Files { // of ours it has none
		if strings.Contains(file, dir) || strings.HasPrefix(file, "pipe:") {
			t.Errorf("it has %s open", file)
		}
	}
	if len(s.Hidden) > 0 && !slices.Equal(s.Hidden, []string{"media"}) {
		t.Errorf("/run holds %q", s.Hidden)
	}
	pid, err := strconv.Atoi(r.get("/pid"))
	ok(t, err)
	if entries, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(pid), "root", secret)); err != nil || len(entries) > 0 {
		t.Errorf("the hidden folder: %v, %v", entries, err)
	}
	uid := strings.Fields(s.Status["Uid"])[0]
	if uid != strconv.Itoa(os.Getuid()) {
		t.Errorf("uid %s", uid)
	}
	if groups, err := os.Getgroups(); err != nil || len(groups) != len(s.Groups) {
		t.Errorf("groups %v, not %v", s.Groups, groups)
	}
	// lo is there for the server itself.
	if links, err := net.Interfaces(); err != nil || len(links) == 0 {
		t.Error(links, err)
	}
}

func TestForbidden(t *testing.T) {
	dir := newFolder(t)
	r, said := start(t, Options{Folder: dir, NetNS: true}, server{}, "forbidden")
	if code := r.wait(); code != CodeForbidden || !strings.Contains(said.Error, "user.max_user_namespaces is 0") || !strings.Contains(said.Error, "hint: sudo sysctl -w user.max_user_namespaces") {
		t.Errorf("%d %q", code, said.Error)
	}
}

func TestServerLog(t *testing.T) {
	dir := newFolder(t)
	ok(t, os.WriteFile(filepath.Join(dir, ServerLog), []byte("earlier"), 0o600))
	r := mustStart(t, Options{Folder: dir, NetNS: true}, server{Say: "first\n"})
	r.get("/health")
	big := strings.Repeat("0123456789abcde\n", 1<<20) // 16 MiB
	r.ask("POST", "/print", "second\n"+big)
	r.ask("POST", "/print", "last\n")
	r.signal(unix.SIGTERM)
	r.wait()
	now, err := os.ReadFile(filepath.Join(dir, ServerLog))
	ok(t, err)
	before, err := os.ReadFile(filepath.Join(dir, ServerLog+".1"))
	ok(t, err)
	if len(now) > maxLog || len(before) > maxLog || string(before)+string(now) != "first\nsecond\n"+big+"last\n" {
		t.Errorf("%d and %d bytes: %.20q … %q", len(before), len(now), before, now[max(0, len(now)-20):])
	}
}
