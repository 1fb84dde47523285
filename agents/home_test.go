package agents

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func home(t *testing.T) (*os.Root, string) {
	t.Helper()
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root, dir
}

func prepare(t *testing.T, root *os.Root) error {
	t.Helper()
	p, err := Claude(options())
	if err != nil {
		t.Fatal(err)
	}
	return p.PrepareHome(root, -1, -1)
}

func TestPrepareHomeFirstTime(t *testing.T) {
	root, dir := home(t)
	if err := prepare(t, root); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, ".claude.json"))
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		HasCompletedOnboarding bool
		Theme                  string
		Projects               map[string]struct{ HasTrustDialogAccepted bool }
	}
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if !got.HasCompletedOnboarding || got.Theme != "dark" || !got.Projects["/src/app"].HasTrustDialogAccepted {
		t.Errorf("got %s", data)
	}
	info, err := os.Stat(filepath.Join(dir, ".claude.json"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("left over: %v, %v", entries, err)
	}
}

func TestPrepareHomeKeepsWhatClaudeStored(t *testing.T) {
	root, dir := home(t)
	old := `{"theme":"light","numStartups":7,"big":12345678901234567890,"projects":{"/src/app":{"history":["a"],"hasTrustDialogAccepted":false},"/other":{"x":1}}}`
	name := filepath.Join(dir, ".claude.json")
	if err := os.WriteFile(name, []byte(old), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := prepare(t, root); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	flat := strings.Join(strings.Fields(string(data)), "")
	for _, want := range []string{`"theme":"light"`, `"numStartups":7`, `"big":12345678901234567890`, `"history":["a"]`, `"/other":{"x":1}`, `"hasTrustDialogAccepted":true`} {
		if !strings.Contains(flat, want) {
			t.Errorf("%s is missing in %s", want, flat)
		}
	}
	before, _ := os.Stat(name)
	if err := prepare(t, root); err != nil {
		t.Fatal(err)
	}
	if after, _ := os.Stat(name); !os.SameFile(before, after) {
		t.Error("a second start rewrote a file that needed nothing")
	}
}

func TestPrepareHomeRefusesWhatTheAgentPlanted(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(outside, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, plant := range map[string]func(dir, name string) error{
		"symbolic link":  func(_, name string) error { return os.Symlink(outside, name) },
		"a symbolic":     func(dir, name string) error { return os.Symlink("other.json", name) },
		"not a regular":  func(_, name string) error { return syscall.Mkfifo(name, 0o600) },
		"not a regular ": func(_, name string) error { return os.Mkdir(name, 0o700) },
		"not a JSON":     func(_, name string) error { return os.WriteFile(name, []byte("garbage"), 0o600) },
		"null":           func(_, name string) error { return os.WriteFile(name, []byte("null"), 0o600) },
		`"projects": no`: func(_, name string) error { return os.WriteFile(name, []byte(`{"projects":[]}`), 0o600) },
		"larger than":    func(_, name string) error { return sparse(name, maxHomeFile+1) },
	} {
		root, dir := home(t)
		if err := os.WriteFile(filepath.Join(dir, "other.json"), []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := plant(dir, filepath.Join(dir, ".claude.json")); err != nil {
			t.Fatal(err)
		}
		if err := prepare(t, root); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	if data, _ := os.ReadFile(outside); string(data) != "{}" {
		t.Errorf("written outside the home: %s", data)
	}
}

// The write goes to a new file, so a link that appears after the check is
// replaced, not followed.
func TestWriteDoesNotFollowALink(t *testing.T) {
	root, dir := home(t)
	target := filepath.Join(dir, "target")
	if err := os.WriteFile(target, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("target", filepath.Join(dir, "f")); err != nil {
		t.Fatal(err)
	}
	if err := writeAtomic(root, "f", []byte("new"), 0o600, -1, -1); err != nil {
		t.Fatal(err)
	}
	if data, _ := os.ReadFile(target); string(data) != "old" {
		t.Error("the link was followed")
	}
}

func sparse(name string, size int64) error {
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		return err
	}
	return os.Truncate(name, size)
}
