package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sallyport/sallyport/agents"
)

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
}

// victims is a caller of root's whose home is another user's.
func victims(t *testing.T) caller {
	t.Helper()
	home := t.TempDir()
	if err := os.Chown(home, scriptUser, scriptUser); err != nil {
		t.Fatal(err)
	}
	return caller{uid: scriptUser, gid: scriptUser, home: home, root: true}
}

func ownerOf(t *testing.T, path string) int {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return int(info.Sys().(*syscall.Stat_t).Uid)
}

func TestRootMakesFoldersForTheUser(t *testing.T) {
	needRoot(t)
	c := victims(t)
	path := filepath.Join(c.home, ".local/state/sallyport")
	for range 2 { // made, then found
		root, err := c.openFolder(path)
		if err != nil {
			t.Fatal(err)
		}
		root.Close()
	}
	for _, dir := range []string{".local", ".local/state", ".local/state/sallyport"} {
		info, err := os.Stat(filepath.Join(c.home, dir))
		if err != nil || info.Mode().Perm() != 0o700 || ownerOf(t, filepath.Join(c.home, dir)) != scriptUser {
			t.Errorf("%s: %v, %v", dir, info, err)
		}
	}
}

// What the user has put in the place of a folder leads root nowhere.
func TestRootIsNotLedOutOfTheHome(t *testing.T) {
	needRoot(t)
	outside := t.TempDir()
	for _, planted := range []string{".local", ".local/state", ".local/state/sallyport"} {
		for _, target := range []string{outside, "../../../../../../../../../" + outside} {
			c := victims(t)
			link := filepath.Join(c.home, planted)
			if err := os.MkdirAll(filepath.Dir(link), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(target, link); err != nil {
				t.Fatal(err)
			}
			if err := c.makeFolder(filepath.Join(c.home, ".local/state/sallyport")); err == nil {
				t.Errorf("%s -> %s was followed", planted, target)
			}
		}
	}
	entries, err := os.ReadDir(outside)
	if err != nil || len(entries) > 0 || ownerOf(t, outside) != 0 {
		t.Errorf("outside: %v, %v, owner %d", entries, err, ownerOf(t, outside))
	}
}

func TestRootTouchesOnlyTheUsersTree(t *testing.T) {
	needRoot(t)
	c := victims(t)
	for _, path := range []string{"/etc/sallyport", filepath.Dir(c.home), c.home + "-other/x", c.home + "/../x"} {
		if err := c.makeFolder(path); err == nil {
			t.Errorf("%s was made", path)
		}
	}
}

func TestFileThatIsNotTheUsersAlone(t *testing.T) {
	needRoot(t)
	outside := filepath.Join(t.TempDir(), "precious")
	if err := os.WriteFile(outside, []byte("root's"), 0o600); err != nil {
		t.Fatal(err)
	}
	open := func(c caller) error {
		f, err := c.openFile(filepath.Join(c.home, "state"), "log", os.O_RDWR|os.O_APPEND)
		if err == nil {
			f.Close()
		}
		return err
	}
	plant := map[string]func(c caller, log string) error{
		"a link out":        func(_ caller, log string) error { return os.Symlink(outside, log) },
		"a link to nowhere": func(c caller, log string) error { return os.Symlink("new", log) },
		"a link inside": func(c caller, log string) error {
			os.WriteFile(filepath.Dir(log)+"/other", nil, 0o600)
			return os.Symlink("other", log)
		},
		"a hard link":         func(_ caller, log string) error { return os.Link(outside, log) },
		"a pipe":              func(_ caller, log string) error { return syscall.Mkfifo(log, 0o600) },
		"a folder":            func(_ caller, log string) error { return os.Mkdir(log, 0o700) },
		"another user's file": func(_ caller, log string) error { os.WriteFile(log, nil, 0o600); return os.Chown(log, scriptUser+1, 0) },
	}
	for name, f := range plant {
		c := victims(t)
		log := filepath.Join(c.home, "state", "log")
		if err := os.Mkdir(filepath.Dir(log), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := f(c, log); err != nil {
			t.Logf("%s: %v", name, err) // another file system, perhaps
			continue
		}
		if err := open(c); err == nil {
			t.Errorf("%s was opened", name)
		}
	}
	if ownerOf(t, outside) != 0 {
		t.Error("root's file was handed over")
	}
	c := victims(t)
	if err := open(c); err != nil || ownerOf(t, filepath.Join(c.home, "state", "log")) != scriptUser {
		t.Errorf("a new file: %v", err)
	}
}

func TestRootRemovesNothingElsewhere(t *testing.T) {
	needRoot(t)
	outside := t.TempDir()
	if err := os.Mkdir(outside+"/1-1", 0o700); err != nil {
		t.Fatal(err)
	}
	c := victims(t)
	if err := os.Symlink(outside, c.home+"/models"); err != nil {
		t.Fatal(err)
	}
	if err := c.removeFolder(c.home + "/models/1-1"); err == nil {
		t.Error("no error")
	}
	if _, err := os.Stat(outside + "/1-1"); err != nil {
		t.Error(err)
	}
}

func TestSweepFolders(t *testing.T) {
	alive, err := launcherID(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range []string{folderName(alive), "1-1", "999999999-5", "nonsense"} {
		if err := os.MkdirAll(filepath.Join(dir, name, "x"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := sweepFolder(root); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 || left[0].Name() != folderName(alive) {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestWriteNew(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	file := agents.File{Data: []byte("x"), Mode: 0o444}
	if err := writeNew(root, "f", file); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(dir + "/f"); err != nil || info.Mode().Perm() != 0o444 {
		t.Errorf("%v, %v: whatever the umask, the agent must be able to read it", info, err)
	}
	if err := writeNew(root, "f", file); err == nil {
		t.Error("a file that was there already was used")
	}
}

func TestHomeName(t *testing.T) {
	seen := map[string]string{}
	for _, project := range []string{"/home/me/a", "/home/you/a", "/", "/a b", "/a_b", "/a\nb", "/../x", "/x/..", "/" + strings.Repeat("ü", 200), "/\x1b[2J"} {
		name := homeName(project)
		if other, ok := seen[name]; ok {
			t.Errorf("%q and %q share %s", project, other, name)
		}
		seen[name] = project
		if strings.ContainsFunc(name, func(r rune) bool {
			return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._", r)
		}) || len(name) > 60 || name == "." || name == ".." {
			t.Errorf("%q: %q", project, name)
		}
	}
	if got := homeName("/home/me/my project"); !strings.HasPrefix(got, "my_project-") {
		t.Error(got)
	}
}
