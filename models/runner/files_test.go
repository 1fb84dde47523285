package runner

import (
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// try does to a path what a hostile server would, and answers how that went.
func try(w http.ResponseWriter, r *http.Request) {
	path := r.FormValue("path")
	var err error
	switch r.FormValue("do") {
	case "write":
		err = os.WriteFile(path, []byte("x"), 0o600)
	case "read":
		_, err = os.ReadFile(path)
	case "dial":
		_, err = net.Dial("unix", path)
	case "device":
		_, err = os.OpenFile(path, os.O_RDWR, 0)
	case "chmod":
		err = os.Chmod(path, 0o777)
	case "list":
		_, err = os.ReadDir(path)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusOK)
	}
}

// attempt has the server try.
func (r *running) attempt(do, path string) string {
	r.t.Helper()
	return strings.TrimSpace(r.get("/try?" + url.Values{"do": {do}, "path": {path}}.Encode()))
}

// listenIn makes a folder with a socket in it, as an agent or our own programs do.
func listenIn(t *testing.T, dir, name string) string {
	t.Helper()
	ok(t, os.MkdirAll(dir, 0o700))
	l, err := net.Listen("unix", filepath.Join(dir, name))
	ok(t, err)
	t.Cleanup(func() { l.Close() })
	return filepath.Join(dir, name)
}

func write(t *testing.T, path string) string {
	t.Helper()
	ok(t, os.MkdirAll(filepath.Dir(path), 0o700))
	ok(t, os.WriteFile(path, []byte("as it was"), 0o700))
	return path
}

// A server finds its login's files read-only, and neither its keys nor a socket.
func TestFiles(t *testing.T) {
	here, err := os.Getwd()
	ok(t, err)
	home := newFolder(t) // below a folder that is covered, and shown for Read
	base := filepath.Join(home, ".cache", "sallyport")
	dir := filepath.Join(base, "models", "m")
	ok(t, os.MkdirAll(filepath.Join(dir, "home"), 0o700))
	binary, key := write(t, filepath.Join(base, "bin", "gateway-0")), write(t, filepath.Join(home, ".ssh", "id"))
	agent, pull := listenIn(t, newFolder(t), "agent.1"), listenIn(t, filepath.Join(base, "pull", "m"), "proxy.sock")
	neighbour := listenIn(t, filepath.Join(base, "models", "n"), ModelSocket)
	weights := write(t, filepath.Join(newFolder(t), "hub", "weights"))
	unseen := write(t, filepath.Join(newFolder(t), "x"))
	profile := write(t, filepath.Join(home, ".bashrc"))
	for _, c := range []struct {
		name string
		hide []string
	}{{"whole", []string{base}}, {"its folders", []string{filepath.Join(base, "bin"), filepath.Join(base, "models"), filepath.Join(base, "pull")}}} {
		t.Run(c.name, func(t *testing.T) {
			o := Options{Folder: dir, NetNS: true, Hide: append(c.hide, filepath.Join(home, ".ssh"), filepath.Join(home, ".ssh"), filepath.Join(home, "absent")), Read: []string{home, filepath.Dir(weights)}}
			r := mustStart(t, o, server{})
			pid, err := strconv.Atoi(r.get("/pid"))
			ok(t, err)
			keeper, err := parent(pid)
			ok(t, err)
			proc := filepath.Join("/proc", strconv.Itoa(keeper))
			const readOnly, absent, denied = "read-only file system", "no such file or directory", "permission denied"
			beside := readOnly
			if strings.HasPrefix(here, "/tmp/") || strings.HasPrefix(here, "/var/tmp/") { // the checkout is not seen at all
				beside = absent
			}
			for _, a := range []struct{ do, path, want string }{
				{"write", filepath.Join(home, "x"), readOnly}, {"write", profile, readOnly}, {"chmod", profile, readOnly}, {"write", filepath.Join(here, "files_test.go.x"), beside},
				{"write", filepath.Join(base, "x"), readOnly}, {"write", filepath.Join(filepath.Dir(dir), "x"), readOnly}, {"write", weights, readOnly},
				{"read", binary, absent}, {"write", binary, ""}, {"read", key, absent}, {"write", filepath.Join(home, ".ssh", "authorized_keys"), readOnly},
				{"dial", agent, absent}, {"dial", pull, absent}, {"dial", neighbour, absent}, {"read", unseen, absent},
				{"list", proc + "/root/", denied}, {"list", proc + "/cwd/", denied}, {"chmod", proc + "/exe", denied},
				{"read", weights, "ok"}, {"read", profile, "ok"}, {"write", filepath.Join(dir, "home", "x"), "ok"}, {"dial", filepath.Join(dir, ModelSocket), "ok"},
				{"write", "/tmp/x", "ok"}, {"write", "/dev/shm/sallyport-test", "ok"}, {"device", "/dev/null", "ok"}, {"list", ".", "ok"},
			} {
				got := r.attempt(a.do, a.path)
				if a.want == "ok" && got != "" || a.want != "ok" && (got == "" || !strings.Contains(got, a.want)) {
					t.Errorf("%s %s: %q, not %q", a.do, a.path, got, a.want)
				}
			}
			r.signal(unix.SIGTERM)
			r.wait()
		})
	}
	for path, want := range map[string]string{binary: "as it was", profile: "as it was", weights: "as it was", filepath.Join(dir, "home", "x"): "x"} {
		if data, err := os.ReadFile(path); err != nil || string(data) != want {
			t.Errorf("%s: %q, %v", path, data, err)
		}
	}
	for _, path := range []string{"/tmp/x", "/dev/shm/sallyport-test"} {
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s is there outside", path)
		}
	}
}

// The server does not start where it was started, below what is mounted since.
func TestFilesFolder(t *testing.T) {
	t.Chdir(newFolder(t))
	ok(t, os.WriteFile("secret", nil, 0o600))
	r := mustStart(t, Options{Folder: newFolder(t), NetNS: true}, server{})
	if got := r.attempt("read", "secret"); !strings.Contains(got, "no such file") {
		t.Errorf("%q", got)
	}
}

// What is not shown cannot be shown for being needed.
func TestFilesRefused(t *testing.T) {
	dir, hidden := newFolder(t), newFolder(t)
	for path, want := range map[string]string{"/tmp": "not shown", hidden: "not shown", filepath.Join(hidden, "absent"): "no such file"} {
		r, said := start(t, Options{Folder: dir, NetNS: true, Hide: []string{hidden}, Read: []string{path}}, server{})
		if code := r.wait(); code != CodeForbidden || !strings.Contains(said.Error, want) {
			t.Errorf("%s: %d %q", path, code, said.Error)
		}
	}
	if err := explainNamespace(tooOld(unix.ENOSYS)); !strings.Contains(err.Error(), "Linux 5.12") || err.(*ExitError).Code != CodeForbidden {
		t.Error(err)
	}
}

// The last look sees what was not done: here, everything.
func TestAssertFiles(t *testing.T) {
	dir := newFolder(t)
	if err := (Files{Write: []string{dir}}).assertFiles(); err == nil || !strings.Contains(err.Error(), "is writable in the server's namespace") {
		t.Error(err)
	}
	write(t, filepath.Join(dir, "id"))
	if err := (Files{}).assertHidden(dir); err == nil || !strings.Contains(err.Error(), "would find") {
		t.Error(err)
	}
	if got := unescape(`/a\040b\134c\`); got != `/a b\c\` {
		t.Errorf("%q", got)
	}
}

// What the server puts in its folder keeps nobody waiting.
func TestPipes(t *testing.T) {
	dir := newFolder(t)
	for _, name := range []string{lockFile, stateFile, ServerLog, RunnerLog} {
		ok(t, unix.Mkfifo(filepath.Join(dir, name), 0o600))
		_, err := Inspect(dir)
		switch name {
		case ServerLog:
			err = WriteLog(t.Context(), dir, nil, -1, false)
		case RunnerLog:
			err = Detach(t.Context(), dir, nil, nil)
		}
		if err == nil || !strings.Contains(err.Error(), "not a regular file") && !strings.Contains(err.Error(), "no such device or address") {
			t.Errorf("%s: %v", name, err)
		}
		ok(t, os.Remove(filepath.Join(dir, name)))
	}
}
