package runner

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestFolders(t *testing.T) {
	base := newFolder(t)
	open := filepath.Join(base, "open")
	ok(t, os.Mkdir(open, 0o700))
	ok(t, os.Chmod(open, 0o755))
	occupied := filepath.Join(base, "occupied")
	ok(t, os.MkdirAll(filepath.Join(occupied, serverSocket), 0o700))
	for _, c := range []struct{ name, dir, want string }{
		{"long", filepath.Join(base, strings.Repeat("x", 100)), "hint: set hosts[].folder (or local.folder) to a shorter path"},
		{"relative", "models/x", "not an absolute path"},
		{"open to others", open, "hint: chmod 700 " + open},
		{"in the way", occupied, "server.sock is in the way, and no socket"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, said := start(t, Options{Folder: c.dir}, server{})
			if code := r.wait(); code != 1 || !strings.Contains(said.Error, c.want) {
				t.Errorf("%d %q", code, said.Error)
			}
		})
	}
	// 107 bytes fit.
	fits := filepath.Join(base, strings.Repeat("x", 107-len(base)-len("//server.sock")))
	r := mustStart(t, Options{Folder: fits}, server{})
	r.get("/health")
}

// A lock that cannot be had at all is no lock.
func TestNoFlock(t *testing.T) {
	f := folder{newFolder(t)}
	for _, errno := range []error{unix.ENOLCK, unix.EOPNOTSUPP, unix.ENOSYS} {
		if err := f.lockError(errno); !strings.Contains(err.Error(), "knows no flock(2); set hosts[].folder") {
			t.Error(err)
		}
	}
	if err := f.lockError(unix.EIO); strings.Contains(err.Error(), "hint") {
		t.Error(err)
	}
}

// Another process that got the runner's pid is left alone.
func TestReusedPID(t *testing.T) {
	self, err := os.Executable()
	ok(t, err)
	cmd := exec.Command(self, "sleeper")
	ok(t, cmd.Start())
	started, err := startTime(cmd.Process.Pid)
	ok(t, err)
	s := Status{State: State{PID: cmd.Process.Pid, StartTime: started - 1}}
	ok(t, s.signal(unix.SIGKILL))
	s.StartTime = started
	ok(t, s.signal(unix.SIGTERM))
	_ = cmd.Wait()
	if by := cmd.ProcessState.Sys().(syscall.WaitStatus).Signal(); by != unix.SIGTERM {
		t.Errorf("ended by %v", by)
	}
	ok(t, s.signal(unix.SIGTERM)) // it is gone
}

func TestStates(t *testing.T) {
	dir := newFolder(t)
	if s := inspect(t, dir); s != (Status{}) {
		t.Errorf("%+v", s)
	}
	f := folder{dir}
	ok(t, os.WriteFile(f.path(stateFile), []byte(`{"phase":"running","by":"x\u001b[2J","further":1}`), 0o600))
	if s := inspect(t, dir); s.Phase != PhaseExited || s.Why != WhyLost || s.By != `x\x1b[2J` {
		t.Errorf("%+v", s)
	}
	ok(t, os.WriteFile(f.path(stateFile), []byte(`{`), 0o600))
	if _, err := Inspect(dir); err == nil {
		t.Error("a broken state is none")
	}
	ok(t, os.Remove(f.path(stateFile)))
	elsewhere := filepath.Join(newFolder(t), "state")
	ok(t, os.WriteFile(elsewhere, []byte(`{"phase":"exited"}`), 0o600))
	ok(t, os.Symlink(elsewhere, f.path(stateFile)))
	if _, err := Inspect(dir); err == nil {
		t.Error("a link was followed")
	}
}

func TestExplain(t *testing.T) {
	none := func(string) string { return "" }
	only := func(path, value string) func(string) string {
		return func(p string) string {
			if p == path {
				return value
			}
			return ""
		}
	}
	for _, c := range []struct {
		err  error
		read func(string) string
		want string
	}{
		{unix.EPERM, only("/proc/sys/kernel/unprivileged_userns_clone", "0"), "hint: sudo sysctl -w kernel.unprivileged_userns_clone=1"},
		{unix.ENOSPC, only("/proc/sys/user/max_user_namespaces", "0"), "hint: sudo sysctl -w user.max_user_namespaces=15000"},
		{unix.EACCES, only("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1"), "hint: give the gateway binary an AppArmor profile"},
		{unix.EPERM, none, "forbids user namespaces to ordinary users"},
		{unix.ENOSPC, none, "the limit of user or network namespaces is reached"},
		{unix.EINVAL, none, "hint: use a kernel with CONFIG_USER_NS"},
	} {
		err := explain(c.err, c.read)
		exit, forbidden := err.(*ExitError)
		if !forbidden || exit.Code != CodeForbidden || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v", c.err, err)
		}
	}
	if _, forbidden := explain(unix.ENOMEM, none).(*ExitError); forbidden {
		t.Error("out of memory is no prohibition")
	}
}
