package control

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPathsFor(t *testing.T) {
	uid := os.Getuid()
	dir := t.TempDir()
	env := func(pairs map[string]string) func(string) string {
		return func(name string) string { return pairs[name] }
	}
	for name, c := range map[string]struct {
		env                          func(string) string
		uid                          int
		state, config, data, runtime string
	}{
		"nothing set": {nil, 4294967, "/h/.local/state/sallyport", "/h/.config/sallyport", "/h/.local/share/sallyport", "/h/.local/state/sallyport/run"},
		"all set": {env(map[string]string{"XDG_STATE_HOME": "/s", "XDG_CONFIG_HOME": "/c", "XDG_DATA_HOME": "/d", "XDG_RUNTIME_DIR": dir}), uid,
			"/s/sallyport", "/c/sallyport", "/d/sallyport", dir + "/sallyport"},
		"relative ones are ignored": {env(map[string]string{"XDG_STATE_HOME": "s", "XDG_CONFIG_HOME": "../c", "XDG_RUNTIME_DIR": "r"}), 4294967,
			"/h/.local/state/sallyport", "/h/.config/sallyport", "/h/.local/share/sallyport", "/h/.local/state/sallyport/run"},
		"another's runtime folder": {env(map[string]string{"XDG_RUNTIME_DIR": dir}), 4294967,
			"/h/.local/state/sallyport", "/h/.config/sallyport", "/h/.local/share/sallyport", "/h/.local/state/sallyport/run"},
		"a runtime folder that is gone": {env(map[string]string{"XDG_RUNTIME_DIR": dir + "/gone"}), 4294967,
			"/h/.local/state/sallyport", "/h/.config/sallyport", "/h/.local/share/sallyport", "/h/.local/state/sallyport/run"},
	} {
		p := PathsFor(c.uid, "/h", c.env)
		if want := (Paths{State: c.state, Config: c.config, Data: c.data, Runtime: c.runtime}); p != want {
			t.Errorf("%s: %+v, wanted %+v", name, p, want)
		}
	}
}

// The control socket's folder holds nothing that a container mounts.
func TestControlSocketIsApart(t *testing.T) {
	p := PathsFor(4294967, "/h", nil)
	for name, mounted := range map[string]string{"wall": p.WallFolder(), "models": p.Models(), "homes": p.Homes()} {
		for _, path := range []string{p.ControlSocket(), p.WallToken(), p.Registrations(), p.Hosts(), p.Audit(), p.Log()} {
			if strings.HasPrefix(path, mounted+"/") {
				t.Errorf("%s is in the folder of %s", path, name)
			}
		}
		if strings.HasPrefix(mounted, p.ControlFolder()) {
			t.Errorf("the folder of %s is in the control socket's", name)
		}
	}
	for _, path := range []string{p.ControlSocket(), p.WallSocket(), p.Homes(), p.Audit(), p.Models()} {
		covered := false
		for _, dir := range p.Protected() {
			covered = covered || strings.HasPrefix(path, dir+"/")
		}
		if !covered {
			t.Errorf("%s is not protected", path)
		}
	}
}

func testPaths(t *testing.T) Paths {
	t.Helper()
	home := t.TempDir()
	return Paths{State: home + "/state", Config: home + "/config", Data: home + "/data", Runtime: home + "/run"}
}

func TestMake(t *testing.T) {
	p := testPaths(t)
	if err := os.MkdirAll(p.WallFolder(), 0o777); err != nil { // open to others: it is closed
		t.Fatal(err)
	}
	if err := os.Chmod(p.WallFolder(), 0o777); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := p.Make(); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{p.State, p.Runtime, p.ControlFolder(), p.WallFolder(), p.Models()} {
		if info, err := os.Lstat(dir); err != nil || info.Mode() != os.ModeDir|0o700 {
			t.Errorf("%s: %v, %v", dir, info.Mode(), err)
		}
	}
}

func TestMakeRefuses(t *testing.T) {
	for name, prepare := range map[string]func(Paths) error{
		"a link": func(p Paths) error {
			return os.Symlink(t.TempDir(), p.State)
		},
		"a file": func(p Paths) error { return os.WriteFile(p.State, nil, 0o600) },
		"somebody else's": func(p Paths) error {
			if os.Getuid() != 0 {
				return nil
			}
			if err := os.MkdirAll(p.ControlFolder(), 0o700); err != nil {
				return err
			}
			return os.Chown(p.ControlFolder(), otherUID, otherUID)
		},
	} {
		if name == "somebody else's" && os.Getuid() != 0 {
			t.Log("not tried: somebody else's folder takes root")
			continue
		}
		p := testPaths(t)
		if err := prepare(p); err != nil {
			t.Fatal(err)
		}
		if err := p.Make(); err == nil || !strings.Contains(err.Error(), filepath.Base(p.State)) && !strings.Contains(err.Error(), p.ControlFolder()) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
