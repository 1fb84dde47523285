package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/audit"
	"golang.org/x/sys/unix"
)

// Bounds of a snapshot: what lies beyond them is not compared.
const (
	snapshotEntries = 20000 // files and folders looked at
	snapshotTime    = time.Second
	snapshotHash    = 1 << 20 // bytes of a file that are hashed; of a longer one size and time count
	changesShown    = 10
)

// snapshot is what there is in a project that tools on the host run by
// themselves: a fingerprint by path, relative to the project where it lies in it.
type snapshot struct {
	files map[string]string
	cut   bool // a bound was reached
}

// hostRun reports whether tools on the host run a file of that name, or obey it.
func hostRun(name string) bool {
	switch base := path.Base(name); {
	case slices.Contains([]string{".envrc", "package.json", "Makefile", "makefile", "GNUmakefile", ".pre-commit-config.yaml"}, base):
		return true
	default:
		parent := "/" + path.Dir(name) + "/"
		return slices.ContainsFunc([]string{"/.vscode/", "/.devcontainer/", "/.husky/"}, func(dir string) bool { return strings.Contains(parent, dir) })
	}
}

// passedOver reports whether a folder's content is not looked at: what others
// install, or git's own (session.watch has what counts of that).
func passedOver(name string) bool {
	hidden := strings.HasPrefix(name, ".") && !slices.Contains([]string{".vscode", ".devcontainer", ".husky"}, name)
	return hidden || name == "node_modules"
}

// takeSnapshot looks at the project and at what git on the host obeys. What
// cannot be read has a fingerprint that says so: its becoming so is a change.
func (s *session) takeSnapshot(ctx context.Context) snapshot {
	ctx, cancel := context.WithTimeout(ctx, snapshotTime)
	defer cancel()
	shot := snapshot{files: map[string]string{}}
	if root, err := os.OpenRoot(s.caller.folder); err == nil {
		shot.walk(ctx, root, hostRun, ".")
		root.Close()
	}
	for _, watched := range s.watch {
		shot.watch(ctx, watched)
	}
	return shot
}

// watch adds one path that git obeys: a file, a folder of hooks, or nothing yet.
func (shot *snapshot) watch(ctx context.Context, watched string) {
	root, err := os.OpenRoot(filepath.Dir(watched))
	if err != nil {
		return
	}
	defer root.Close()
	name := filepath.Base(watched)
	info, err := root.Lstat(name)
	if err != nil {
		return
	}
	switch {
	case !info.IsDir():
		shot.files[watched] = fingerprint(root, name, info)
	case name == ".git": // there was no repository; what is in it is all new
		shot.files[watched] = "folder"
	default:
		inside := snapshot{files: map[string]string{}}
		inside.walk(ctx, root, func(string) bool { return true }, name)
		shot.cut = shot.cut || inside.cut
		for file, print := range inside.files {
			shot.files[filepath.Join(filepath.Dir(watched), file)] = print
		}
	}
}

// walk adds what wanted chooses, the top of the tree first.
func (shot *snapshot) walk(ctx context.Context, root *os.Root, wanted func(string) bool, start string) {
	left := snapshotEntries
	for folders := []string{start}; len(folders) > 0; folders = folders[1:] {
		dir := folders[0]
		f, err := root.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK, 0)
		if err != nil {
			continue
		}
		entries, _ := f.ReadDir(left + 1) // what could be read of it is compared
		f.Close()
		for _, entry := range entries {
			if left--; left < 0 || ctx.Err() != nil {
				shot.cut = true
				return
			}
			name := path.Join(dir, entry.Name())
			switch {
			case entry.IsDir():
				if !passedOver(entry.Name()) {
					folders = append(folders, name)
				}
			case wanted(name):
				if info, err := root.Lstat(name); err == nil {
					shot.files[name] = fingerprint(root, name, info)
				}
			}
		}
	}
}

// fingerprint tells two states of a file apart. Of package.json only the scripts
// count: those are what installing and building run.
func fingerprint(root *os.Root, name string, info fs.FileInfo) string {
	outside := fmt.Sprintf("%s %d %d", info.Mode(), info.Size(), info.ModTime().UnixNano())
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := root.Readlink(name)
		return fmt.Sprint("link ", target, err)
	case !info.Mode().IsRegular() || info.Size() > snapshotHash:
		return outside
	}
	f, err := root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return "unreadable " + outside
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, snapshotHash+1))
	if err != nil {
		return "unreadable " + outside
	}
	var manifest struct {
		Scripts json.RawMessage `json:"scripts"`
	}
	if path.Base(name) == "package.json" && json.Unmarshal(data, &manifest) == nil {
		data = manifest.Scripts
	}
	sum := sha256.Sum256(data)
	return info.Mode().String() + " " + hex.EncodeToString(sum[:])
}

// changes are the paths that differ, sorted.
func changes(before, after snapshot) []string {
	differ := map[string]bool{}
	for file, print := range after.files {
		if before.files[file] != print {
			differ[file] = true
		}
	}
	for file := range before.files {
		if _, there := after.files[file]; !there && !after.cut {
			differ[file] = true
		}
	}
	return slices.Sorted(maps.Keys(differ))
}

// tellChanges warns of what runs on this machine later, outside of any sandbox.
// --quiet does not silence it.
func (s *session) tellChanges(before, after snapshot) {
	changed := changes(before, after)
	if len(changed) > 0 {
		list := make([]string, 0, changesShown)
		for _, file := range changed[:min(len(changed), changesShown)] {
			list = append(list, audit.Printable(file))
		}
		more := ""
		if n := len(changed) - len(list); n > 0 {
			more = fmt.Sprintf(" and %d more", n)
		}
		s.progress.warn("changed by the agent, and run by tools on this machine: %s%s", strings.Join(list, ", "), more)
	}
	if before.cut || after.cut {
		s.progress.note("the project is large: not all of it was looked through for files that tools on this machine run")
	}
}
