package runner

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Files are what a program in namespaces of its own finds of the file system:
// everything read-only, /run empty, and the folders for passing files fresh ones
// of its own. Device nodes are as usable as ever: a read-only mount does not keep
// them from being written to.
type Files struct {
	Write []string `json:"write,omitempty"` // folders that stay writable
	Read  []string `json:"read,omitempty"`  // files and folders to be seen even where a folder around them is not
	Hide  []string `json:"hide,omitempty"`  // folders that are found empty
}

// scratch are the folders for passing files: the login's agents and multiplexers
// have their sockets there. What a server writes there is memory.
var scratch = [...]struct{ path, options string }{
	{"/tmp", "mode=1777,size=25%"},
	{"/var/tmp", "mode=1777,size=10%"},
	{"/dev/shm", "mode=1777,size=50%"}, // tmpfs(5)'s own default; vLLM's processes share tensors there
}

const hiddenOptions = "mode=0755,size=1m"

// resolve returns f with real paths. What is to be hidden and is not there, or not
// for us to see, is left out; what is to be seen has to be there.
func (f Files) resolve() (Files, error) {
	var r Files
	for _, list := range []struct {
		to   *[]string
		from []string
		need bool
	}{{&r.Write, f.Write, true}, {&r.Read, f.Read, true}, {&r.Hide, f.Hide, false}} {
		for _, path := range list.from {
			real, err := filepath.EvalSymlinks(path)
			if err == nil {
				real, err = filepath.Abs(real)
			}
			if err != nil && (list.need || !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission)) {
				return r, fmt.Errorf("find %s: %w", printable(path), err)
			}
			if err == nil {
				*list.to = append(*list.to, real)
			}
		}
		slices.Sort(*list.to)
		*list.to = slices.Compact(*list.to)
	}
	for _, path := range slices.Concat(r.Write, r.Read) {
		for _, covered := range r.covered() {
			if path == covered {
				return r, &ExitError{CodeForbidden, fmt.Errorf("%s is needed, and is a folder that is not shown: sockets and keys of the login are there\nhint: use a folder in it, or elsewhere", printable(path))}
			}
		}
	}
	return r, nil
}

// covered are the folders that something is mounted over.
func (f Files) covered() []string {
	return slices.AppendSeq(append([]string{hiddenFolder}, f.Hide...), maps.Keys(freshFolders()))
}

// freshFolders are the real paths of those of scratch that exist, and what is
// mounted there.
func freshFolders() map[string]string {
	fresh := map[string]string{}
	for _, s := range scratch {
		real, err := filepath.EvalSymlinks(s.path)
		if _, known := fresh[real]; err == nil && !known && !below(real, []string{hiddenFolder}) {
			fresh[real] = s.options
		}
	}
	return fresh
}

// below reports whether path is in one of folders, or is one.
func below(path string, folders []string) bool {
	return slices.ContainsFunc(folders, func(folder string) bool { return path == folder || strings.HasPrefix(path, folder+"/") })
}

// change is one mount: a fresh folder, or what is put back.
type change struct {
	path    string
	tree    int    // a clone to put there; -1: none
	options string // of a fresh one
}

// arrange mounts it all, in a mount namespace of our own. f is resolved.
//
// mount_setattr(2), and open_tree(2) with it: Linux 5.12. Flags that a mount has
// from outside are locked here (mount_namespaces(7)), so a clone that is to stay
// writable is made before its origin gets read-only. A mount that is read-only
// keeps nobody from connecting to a socket in it: those must not be seen.
func (f Files) arrange() (err error) {
	cwd, err := unix.Getwd()
	if err != nil {
		return fmt.Errorf("find our own folder: %w", err)
	}
	changes, err := f.changes()
	defer func() {
		for _, c := range changes {
			if c.tree >= 0 {
				err = errors.Join(err, unix.Close(c.tree))
			}
		}
	}()
	if err != nil {
		return err
	}
	if err := readOnly(unix.AT_FDCWD, "/", unix.AT_RECURSIVE); err != nil {
		return err
	}
	var hidden []string
	for _, c := range changes {
		mounted, err := c.apply()
		if err != nil {
			return fmt.Errorf("%s: %w", printable(c.path), err)
		}
		if mounted && c.options == hiddenOptions {
			hidden = append(hidden, c.path)
		}
	}
	for _, path := range hidden { // now that what is needed is in them
		if err := readOnly(unix.AT_FDCWD, path, 0); err != nil {
			return fmt.Errorf("%s: %w", printable(path), err)
		}
	}
	// Where we are is below what was mounted, and so would `..` be.
	if os.Chdir(cwd) != nil {
		return os.Chdir("/")
	}
	return nil
}

// changes are what arrange has to mount, in their order: what is outside before
// what is in it, a fresh folder before what is put back. Their trees are the
// caller's to close, also after an error.
func (f Files) changes() ([]change, error) {
	var changes []change
	fresh := freshFolders()
	for _, path := range f.covered() {
		changes = append(changes, change{path: path, tree: -1, options: cmp.Or(fresh[path], hiddenOptions)})
	}
	for _, path := range slices.Concat(f.Write, f.Read) {
		written := slices.Contains(f.Write, path)
		if !written && (below(path, f.Write) || !below(path, f.covered())) { // it is there anyway
			continue
		}
		tree, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
		if err == nil {
			changes = append(changes, change{path: path, tree: tree})
			if !written {
				err = readOnly(tree, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE)
			}
		}
		if err != nil {
			return changes, fmt.Errorf("%s: %w", printable(path), tooOld(err))
		}
	}
	slices.SortStableFunc(changes, func(a, b change) int { return cmp.Compare(a.path, b.path) })
	return changes, nil
}

// apply mounts c, unless it is a folder to cover that is covered already, or none.
func (c change) apply() (mounted bool, err error) {
	if c.tree >= 0 {
		return true, c.putBack()
	}
	info, err := os.Lstat(c.path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
		return false, nil
	}
	switch {
	case err != nil:
		return false, err
	case c.path == hiddenFolder:
		return true, hideRun()
	case c.options == hiddenOptions:
		return true, cover(c.path)
	}
	return true, unix.Mount("tmpfs", c.path, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, c.options)
}

// putBack mounts a clone where it was.
func (c change) putBack() error {
	var info unix.Stat_t
	err := unix.Fstat(c.tree, &info)
	if err == nil && info.Mode&unix.S_IFMT == unix.S_IFDIR {
		err = os.MkdirAll(c.path, 0o755)
	} else if err == nil {
		err = placeholder(c.path)
	}
	if err != nil {
		return err
	}
	return unix.MoveMount(c.tree, "", unix.AT_FDCWD, c.path, unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// placeholder makes an empty file to mount something over, unless one is there.
func placeholder(path string) error {
	if _, err := os.Lstat(path); err == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	return file.Close()
}

func readOnly(dir int, path string, flags uint) error {
	return tooOld(unix.MountSetattr(dir, path, flags, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}))
}

// tooOld explains a system call that is not there.
func tooOld(err error) error {
	if !errors.Is(err, unix.ENOSYS) {
		return err
	}
	return &ExitError{CodeForbidden, fmt.Errorf("this kernel cannot make the login's files read-only for the model server (mount_setattr, Linux 5.12): %w\nhint: use a newer kernel; or `runtime: docker` or `podman` for this host", err)}
}
