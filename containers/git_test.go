package containers

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// tree writes files under a new folder: a name that ends in "/" is a folder,
// and a text that begins with "-> " makes a symbolic link.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root, err := filepath.EvalSymlinks(ownDir(t))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		text = strings.ReplaceAll(text, "ROOT", root)
		target, isLink := strings.CutPrefix(text, "-> ")
		switch {
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(path, 0o755)
		case isLink:
			err = os.Symlink(target, path)
		default:
			err = os.WriteFile(path, []byte(text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// mountLines writes binds as "rw path" and "ro path" below root.
func mountLines(t *testing.T, root string, binds []Bind) []string {
	t.Helper()
	var lines []string
	for _, b := range binds {
		mode := "rw "
		if b.ReadOnly {
			mode = "ro "
		}
		if b.Source != b.Target {
			t.Errorf("%s is mounted at %s", b.Source, b.Target)
		}
		lines = append(lines, mode+strings.TrimPrefix(b.Source, root+"/"))
	}
	return lines
}

// repo is what `git init` leaves, as far as it matters here.
func repo(at string) map[string]string {
	return map[string]string{at + "/HEAD": "ref: refs/heads/main\n", at + "/config": "[core]\n", at + "/hooks/": "", at + "/objects/": "", at + "/refs/": ""}
}

func with(base map[string]string, more map[string]string) map[string]string {
	for k, v := range more {
		base[k] = v
	}
	return base
}

func linked(more map[string]string) map[string]string {
	return with(with(repo("main/.git"), map[string]string{
		"wt/.git":                          "gitdir: ROOT/main/.git/worktrees/wt\n",
		"main/.git/worktrees/wt/commondir": "../..\n",
		"main/.git/worktrees/wt/gitdir":    "ROOT/wt/.git\n",
		"main/.git/worktrees/wt/HEAD":      "ref: refs/heads/side\n",
	}), more)
}

var worktreeBinds = []string{"ro wt/.git", "rw main/.git", "ro main/.git/config", "ro main/.git/hooks", "ro main/.git/worktrees",
	"rw main/.git/worktrees/wt", "ro main/.git/worktrees/wt/commondir", "ro main/.git/worktrees/wt/gitdir"}

func TestGitMounts(t *testing.T) {
	tests := []struct {
		name, folder string
		files        map[string]string
		want         []string
		outside      string
		note         string
	}{
		{name: "no repository", folder: "p", files: map[string]string{"p/": ""}},
		{name: "plain repository", folder: "p", files: repo("p/.git"), want: []string{"rw p/.git", "ro p/.git/config", "ro p/.git/hooks"}},
		{name: "started through a symbolic link", folder: "link", files: with(repo("p/.git"), map[string]string{"link": "-> ROOT/p"}),
			want: []string{"rw p/.git", "ro p/.git/config", "ro p/.git/hooks"}},
		{name: "config and hooks are missing", folder: "p", files: map[string]string{"p/.git/HEAD": "x"}, want: []string{"rw p/.git", "ro p/.git/config", "ro p/.git/hooks"}},
		{name: "worktrees, submodules, worktree config", folder: "p",
			files: with(repo("p/.git"), map[string]string{"p/.git/worktrees/w/HEAD": "", "p/.git/modules/m/config": "", "p/.git/config.worktree": "", "p/.git/commondir": "."}),
			want:  []string{"rw p/.git", "ro p/.git/config", "ro p/.git/hooks", "ro p/.git/config.worktree", "ro p/.git/commondir", "ro p/.git/worktrees", "ro p/.git/modules"}},
		{name: "linked worktree", folder: "wt", files: linked(nil), want: worktreeBinds, outside: "main/.git"},
		{name: "linked worktree with relative paths", folder: "wt", files: linked(map[string]string{
			"wt/.git": "gitdir: ../main/.git/worktrees/wt\n", "main/.git/worktrees/wt/gitdir": "../../../../wt/.git\n"}), want: worktreeBinds, outside: "main/.git"},
		{name: "worktree that does not point back", folder: "wt", files: linked(map[string]string{"main/.git/worktrees/wt/gitdir": "ROOT/other/.git\n"}),
			want: []string{"ro wt/.git"}, note: "does not name this folder"},
		{name: "worktree of another repository", folder: "wt", files: linked(map[string]string{"main/.git/worktrees/wt/commondir": "ROOT\n"}),
			want: []string{"ro wt/.git"}, note: "belongs to another repository"},
		{name: "worktree whose back link is a symbolic link", folder: "wt", files: linked(map[string]string{"main/.git/worktrees/wt/gitdir": "-> ROOT/wt/.git"}),
			want: []string{"ro wt/.git"}, note: "is no worktree's folder"},
		{name: "planted: .git names a folder of the host", folder: "p", files: map[string]string{"p/.git": "gitdir: ROOT/secret\n", "secret/": ""},
			want: []string{"ro p/.git"}, note: "git will not work inside"},
		{name: "planted: .git names another's worktree", folder: "p", files: linked(map[string]string{"p/.git": "gitdir: ROOT/main/.git/worktrees/wt\n"}),
			want: []string{"ro p/.git"}, note: "does not name this folder"},
		{name: "submodule", folder: "p/sub", files: with(repo("p/.git/modules/sub"), map[string]string{"p/sub/.git": "gitdir: ../.git/modules/sub\n"}),
			want: []string{"ro p/sub/.git"}, note: "submodule"},
		{name: ".git names nothing", folder: "p", files: map[string]string{"p/.git": "hello"}, want: []string{"ro p/.git"}, note: "names no repository"},
		{name: ".git of two lines", folder: "p", files: map[string]string{"p/.git": "gitdir: /a\ngitdir: /b"}, want: []string{"ro p/.git"}, note: "names no repository"},
		{name: ".git too long", folder: "p", files: map[string]string{"p/.git": "gitdir: " + strings.Repeat("a", maxGitFile)}, want: []string{"ro p/.git"}, note: "names no repository"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := tree(t, tt.files)
			g, err := GitMounts(filepath.Join(root, tt.folder))
			if err != nil {
				t.Fatal(err)
			}
			if got := mountLines(t, root, g.Binds); !slices.Equal(got, tt.want) {
				t.Errorf("binds:\n  %s\nwant:\n  %s", strings.Join(got, "\n  "), strings.Join(tt.want, "\n  "))
			}
			for _, b := range g.Binds {
				if _, err := os.Lstat(b.Source); err != nil {
					t.Error(err)
				}
			}
			if outside := strings.TrimPrefix(strings.Join(g.Outside, " "), root+"/"); outside != tt.outside {
				t.Errorf("outside: %q, want %q", outside, tt.outside)
			}
			if !strings.Contains(g.Note, tt.note) || (tt.note == "") != (g.Note == "") {
				t.Errorf("note: %q, want %q", g.Note, tt.note)
			}
			if len(g.Watch) == 0 {
				t.Error("nothing to watch")
			}
		})
	}
}

func TestGitMountsRefusesWhatTheAgentCouldReplace(t *testing.T) {
	for name, link := range map[string]map[string]string{
		".git":         {"p/.git": "-> ROOT/elsewhere", "elsewhere/": ""},
		".git/config":  {"p/.git/config": "-> ROOT/p/c", "p/c": ""},
		".git/hooks":   {"p/.git/hooks": "-> ROOT/p/h", "p/h/": ""},
		".git/modules": {"p/.git/modules": "-> ROOT/p/h", "p/h/": ""},
		"dangling":     {"p/.git/hooks": "-> ROOT/nothing", "p/": ""},
	} {
		root := tree(t, link)
		_, err := GitMounts(filepath.Join(root, "p"))
		var refused *MountError
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), "\nhint: ") {
			t.Errorf("%s is a symbolic link: %v", name, err)
		}
	}
}

// In a real container: the agent works with the repository, but what git on the
// host runs stays what it was, by whatever road.
func TestAgentCannotChangeWhatGitRuns(t *testing.T) {
	e := realEngine(t)
	root := tree(t, with(repo("p/.git"), map[string]string{"p/.git/worktrees/other/commondir": "../..\n"}))
	if err := os.Remove(filepath.Join(root, "p/.git/hooks")); err != nil { // a repository without hooks
		t.Fatal(err)
	}
	g := gitAgentMounts(t, filepath.Join(root, "p"))
	git := root + "/p/.git"
	spec := agent(t, e,
		"write", git+"/index.lock", "rename", git+"/index.lock", git+"/index", "mkdir", git+"/refs/heads", "write", git+"/HEAD",
		"write", git+"/hooks/pre-commit", "remove", git+"/hooks", "rename", git+"/hooks", git+"/h",
		"write", git+"/config", "remove", git+"/config", "write", git+"/config.lock", "rename", git+"/config.lock", git+"/config",
		"write", git+"/worktrees/other/commondir", "rename", git+"/worktrees", git+"/w",
		"rename", git, root+"/p/.git2", "remove", root+"/p/.git/hooks", "rename", root+"/p", root+"/p2")
	spec.Binds = g
	out := outcome(t, e, spec)
	wantLines(t, out,
		"write "+git+"/index.lock: ok", "rename "+git+"/index.lock "+git+"/index: ok", "mkdir "+git+"/refs/heads: ok", "write "+git+"/HEAD: ok",
		"write "+git+"/hooks/pre-commit: read-only file system", "remove "+git+"/hooks: device or resource busy", "rename "+git+"/hooks "+git+"/h: device or resource busy",
		"write "+git+"/config: read-only file system", "remove "+git+"/config: device or resource busy",
		"rename "+git+"/config.lock "+git+"/config: device or resource busy",
		"write "+git+"/worktrees/other/commondir: read-only file system", "rename "+git+"/worktrees "+git+"/w: device or resource busy",
		"rename "+git+" "+root+"/p/.git2: device or resource busy")
	if config, err := os.ReadFile(git + "/config"); err != nil || string(config) != "[core]\n" {
		t.Errorf("config on the host: %q, %v", config, err)
	}
	if hooks, err := os.ReadDir(git + "/hooks"); err != nil || len(hooks) != 0 {
		t.Errorf("hooks on the host: %v, %v", hooks, err)
	}
}

func TestAgentInAWorktreeCannotChangeWhatGitRuns(t *testing.T) {
	e := realEngine(t)
	root := tree(t, linked(nil))
	spec := agent(t, e,
		"write", root+"/main/.git/refs/x", "write", root+"/main/.git/worktrees/wt/index", "write", root+"/main/.git/worktrees/wt/HEAD",
		"write", root+"/main/.git/config", "write", root+"/main/.git/hooks/x", "write", root+"/main/.git/worktrees/wt/commondir",
		"write", root+"/wt/.git", "rename", root+"/wt/.git", root+"/wt/g", "rename", root+"/main/.git/worktrees/wt", root+"/main/.git/worktrees/q",
		"mkdir", root+"/main/.git/worktrees/q", "read", root+"/main/.git/HEAD", "write", root+"/main/outside")
	spec.Binds = gitAgentMounts(t, filepath.Join(root, "wt"))
	wantLines(t, outcome(t, e, spec),
		"write "+root+"/main/.git/refs/x: ok", "write "+root+"/main/.git/worktrees/wt/index: ok", "write "+root+"/main/.git/worktrees/wt/HEAD: ok",
		"write "+root+"/main/.git/config: read-only file system", "write "+root+"/main/.git/hooks/x: read-only file system",
		"write "+root+"/main/.git/worktrees/wt/commondir: read-only file system",
		"write "+root+"/wt/.git: read-only file system", "rename "+root+"/wt/.git "+root+"/wt/g: device or resource busy",
		"mkdir "+root+"/main/.git/worktrees/q: read-only file system", "read "+root+"/main/.git/HEAD: ok",
		"write "+root+"/main/outside: permission denied")
}

// gitAgentMounts returns the binds of a project, which it gives to the probe's
// user.
func gitAgentMounts(t *testing.T, project string) []Bind {
	t.Helper()
	g, err := GitMounts(project)
	if err != nil {
		t.Fatal(err)
	}
	roots := append([]string{project}, g.Outside...)
	for _, root := range roots {
		if err := filepath.Walk(root, func(path string, _ os.FileInfo, _ error) error { return os.Lchown(path, testUID, testUID) }); err != nil {
			t.Fatal(err)
		}
	}
	return append([]Bind{{Source: project, Target: project}}, g.Binds...)
}

// Whatever a .git file says, it brings no folder of the host along that does
// not name the project itself.
func FuzzDotGitFile(f *testing.F) {
	for _, text := range []string{"gitdir: ../main/.git/worktrees/wt\n", "gitdir: ../secret", "gitdir: /", "gitdir: ..", "gitdir: ", "gitdir: \x00", "gitdir: .git", ""} {
		f.Add(text)
	}
	root := f.TempDir()
	for _, dir := range []string{"p", "secret", "main/.git/worktrees/wt", "main/.git/hooks"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			f.Fatal(err)
		}
	}
	for name, text := range map[string]string{"commondir": "../..\n", "gitdir": root + "/wt/.git\n"} {
		if err := os.WriteFile(filepath.Join(root, "main/.git/worktrees/wt", name), []byte(text), 0o600); err != nil {
			f.Fatal(err)
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		if err := os.WriteFile(filepath.Join(root, "p/.git"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		g, err := GitMounts(filepath.Join(root, "p"))
		if err != nil || len(g.Outside) > 0 || len(g.Binds) != 1 || g.Note == "" {
			t.Errorf("%q: %+v, %v", text, g, err)
		}
	})
}
