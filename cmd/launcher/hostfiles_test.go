package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestChangesThatThisMachineRuns(t *testing.T) {
	write := func(text string) func(string) error {
		return func(path string) error {
			return os.WriteFile(path, []byte(text), 0o644)
		}
	}
	for _, test := range []struct {
		name, path string
		change     func(path string) error
		told       bool
	}{
		{"new .envrc", ".envrc", write("x"), true},
		{"changed", "Makefile", write("other"), true},
		{"same again", "Makefile", write("all:"), false},
		{"made executable", "Makefile", func(p string) error { return os.Chmod(p, 0o755) }, true},
		{"removed", "Makefile", os.Remove, true},
		{"replaced by a link", "Makefile", func(p string) error { os.Remove(p); return os.Symlink("/etc/passwd", p) }, true},
		{"replaced by a pipe", "Makefile", func(p string) error { os.Remove(p); return syscall.Mkfifo(p, 0o600) }, true},
		{"deep", "a/b/c/GNUmakefile", write("x"), true},
		{"editor", ".vscode/tasks.json", write("x"), true},
		{"editor, deep", "a/.vscode/x/y", write("x"), true},
		{"container", ".devcontainer/devcontainer.json", write("x"), true},
		{"git hooks of npm", ".husky/pre-commit", write("x"), true},
		{"scripts", "package.json", write(`{"version":"1","scripts":{"test":"evil"}}`), true},
		{"no scripts any more", "package.json", write(`{"version":"1"}`), true},
		{"same scripts", "package.json", write(`{"version":"2","scripts":{"test":"good"}}`), false},
		{"no JSON", "package.json", write(`{`), true},
		{"git's config", ".git/config", write("[core]\nfsmonitor=evil"), true},
		{"git's hooks", ".git/hooks/pre-commit", write("x"), true},
		{"git's objects", ".git/objects/x", write("x"), false},
		{"source", "main.go", write("x"), false},
		{"somebody else's", "node_modules/x/package.json", write("x"), false},
	} {
		dir := t.TempDir()
		for path, text := range map[string]string{"Makefile": "all:", "package.json": `{"version":"1","scripts":{"test":"good"}}`, ".git/config": "[core]", ".git/hooks/x": ""} {
			os.MkdirAll(filepath.Dir(filepath.Join(dir, path)), 0o755)
			if err := os.WriteFile(filepath.Join(dir, path), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		s := &session{caller: caller{folder: dir}, watch: []string{dir + "/.git/config", dir + "/.git/hooks", dir + "/.git/commondir"}}
		before := s.takeSnapshot(t.Context())
		path := filepath.Join(dir, test.path)
		os.MkdirAll(filepath.Dir(path), 0o755)
		if err := test.change(path); err != nil {
			t.Fatal(err)
		}
		changed := changes(before, s.takeSnapshot(t.Context()))
		if told := len(changed) > 0; told != test.told || told && !strings.HasSuffix(changed[0], test.path) {
			t.Errorf("%s: %q", test.name, changed)
		}
	}
}

func TestNewRepositoryIsTold(t *testing.T) {
	dir := t.TempDir()
	s := &session{caller: caller{folder: dir}, watch: []string{dir + "/.git"}}
	before := s.takeSnapshot(t.Context())
	if err := os.Mkdir(dir+"/.git", 0o755); err != nil {
		t.Fatal(err)
	}
	if changed := changes(before, s.takeSnapshot(t.Context())); len(changed) != 1 || changed[0] != dir+"/.git" {
		t.Error(changed)
	}
}

func TestSnapshotIsBounded(t *testing.T) {
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := os.WriteFile(dir+"/Makefile", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	os.Mkdir(dir+"/many", 0o700)
	for i := range snapshotEntries {
		if err := os.Mkdir(fmt.Sprintf("%s/many/%d", dir, i), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	shot := snapshot{files: map[string]string{}}
	shot.walk(t.Context(), root, hostRun, ".")
	if !shot.cut || len(shot.files) != 1 {
		t.Errorf("cut %t, files %v", shot.cut, shot.files)
	}
	cut := snapshot{files: map[string]string{}, cut: true}
	if changed := changes(shot, cut); len(changed) > 0 {
		t.Errorf("what was not looked at counts as removed: %v", changed)
	}
}

func TestChangesAreToldSafely(t *testing.T) {
	var out strings.Builder
	s := &session{progress: newProgress(&out, true, false)}
	after := snapshot{files: map[string]string{}}
	for i := range 12 {
		after.files[fmt.Sprintf("%02d\x1b[2J\n/Makefile", i)] = "x"
	}
	s.tellChanges(snapshot{files: map[string]string{}}, after)
	if strings.ContainsAny(out.String(), "\x1b\r") || strings.Count(out.String(), "\n") != 1 || !strings.HasSuffix(out.String(), " and 2 more\n") {
		t.Errorf("%q", out.String())
	}
}
