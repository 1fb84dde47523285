package runner

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func detach(t *testing.T, o Options, s server) error {
	t.Helper()
	self, err := os.Executable()
	ok(t, err)
	s.Folder = o.Folder
	if o.Argv == nil {
		o.Argv = []string{self, "server", text(t, s)}
	}
	return Detach(t.Context(), o.Folder, []string{"model-run", optionsText(t, o)}, []string{"PATH=" + os.Getenv("PATH"), "A=b"})
}

func TestDetach(t *testing.T) {
	dir := newFolder(t)
	ok(t, detach(t, Options{Folder: dir, NetNS: true, By: "me@laptop"}, server{IgnoreTERM: true}))
	s := inspect(t, dir)
	if !s.Held || s.Phase != PhaseRunning {
		t.Fatalf("%+v", s)
	}
	if sid, err := unix.Getsid(s.PID); err != nil || sid != s.PID {
		t.Errorf("session %d, %v", sid, err)
	}
	err := detach(t, Options{Folder: dir}, server{})
	if exit := new(ExitError); !errors.As(err, &exit) || exit.Code != CodeHeld || !strings.Contains(err.Error(), "me@laptop") {
		t.Errorf("%v", err)
	}
	r := &running{t: t, folder: dir}
	r.get("/health")
	environ, err := os.ReadFile(filepath.Join("/proc", r.get("/pid"), "environ"))
	ok(t, err)
	if got := strings.Split(strings.TrimRight(string(environ), "\x00"), "\x00"); len(got) != 2 || !slices.Contains(got, "A=b") {
		t.Errorf("environment %q", got)
	}
	// It ignores SIGTERM, so the runner is killed, and the server with it.
	dead := death(t, s.ServerPID)
	if s, err = Stop(t.Context(), dir, 1); err != nil || s.Held || s.Phase != PhaseExited || s.Why != WhyLost {
		t.Errorf("%+v, %v", s, err)
	}
	dead()
	if s, err = Stop(t.Context(), dir, 1); err != nil || s.Held {
		t.Errorf("%+v, %v", s, err)
	}
	_, err = unix.Wait4(s.PID, nil, 0, nil) // it is our child, and not let go of by us as by a login
	for errors.Is(err, unix.EINTR) {
		_, err = unix.Wait4(s.PID, nil, 0, nil)
	}
	ok(t, err)
}

func TestDetachFails(t *testing.T) {
	dir := newFolder(t)
	err := detach(t, Options{Folder: dir, Argv: []string{"no-such-server"}}, server{})
	if exit := new(ExitError); !errors.As(err, &exit) || exit.Code != CodeNotFound || !strings.Contains(err.Error(), "no-such-server") {
		t.Errorf("%v", err)
	}
	err = Detach(t.Context(), dir, []string{"-no-such-flag"}, nil)
	if exit := new(ExitError); !errors.As(err, &exit) || exit.Code != 2 || !strings.Contains(err.Error(), "without a word") || !strings.Contains(err.Error(), RunnerLog) {
		t.Errorf("%v", err)
	}
}

func TestLoginEnv(t *testing.T) {
	got := LoginEnv([]string{"PATH=/bin", "HOME=/root", "SSH_AUTH_SOCK=/tmp/x", "HTTPS_PROXY=http://x", "LD_LIBRARY_PATH=/opt", "PATHS=x"}, []string{"HF_HUB_OFFLINE=1"})
	if want := []string{"PATH=/bin", "LD_LIBRARY_PATH=/opt", "HF_HUB_OFFLINE=1"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}
