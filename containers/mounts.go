package containers

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// MountPolicy says which folders of the host an agent may never be given. Its
// zero value refuses everything.
type MountPolicy struct {
	Home      string      // the caller's home; required
	Protected []Protected // our state, config and socket folders, agent and engine sockets; ~/.ssh is added by itself
}

// Protected is a path that must stay out of sandboxes. It need not exist.
type Protected struct {
	Path string
	What string // "the gateway's state", …: named in the refusal
}

// MountError says why a folder is not mounted.
type MountError struct {
	Path string
	Why  string // follows the path: "is your home folder"
	Hint string
}

func (e *MountError) Error() string {
	return fmt.Sprintf("%s is not mounted into a sandbox: it %s\nhint: %s", e.Path, e.Why, e.Hint)
}

const hintOwnFolder = "start in a project's own folder, or override with --unsafe-mount if you know what the agent then reaches"

// systemTrees are refused with everything below them.
func systemTrees() []string { return []string{"/run", "/etc", "/var", "/proc", "/sys", "/dev"} }

// Refusal returns nil if folder may be mounted, and a *MountError if it may
// not: because it is, contains or lies in something protected, or is a place
// that holds more than a project. Symbolic links are followed first, and
// folders are compared by what they are, not by name, so that another name for
// the same folder (a bind mount, say) changes nothing. An override is the
// caller's business.
func (p MountPolicy) Refusal(folder string) error {
	refuse := func(why string) error { return &MountError{Path: folder, Why: why, Hint: hintOwnFolder} }
	if p.Home == "" {
		return refuse("cannot be judged without knowing your home folder")
	}
	if !filepath.IsAbs(folder) {
		return refuse("is not an absolute path")
	}
	lineage, err := lineageOf(folder)
	if err != nil {
		return refuse(fmt.Sprintf("cannot be examined (%v)", err))
	}
	self := lineage[0]
	if !self.IsDir() {
		return refuse("is not a folder")
	}
	for _, place := range []Protected{{"/", "the root of the file system"}, {p.Home, "your home folder"}, {"/tmp", "everybody's temporary folder"}} {
		if info, err := os.Stat(place.Path); err == nil && os.SameFile(info, self) {
			return refuse("is " + place.What)
		}
	}
	for _, tree := range systemTrees() {
		if info, err := os.Stat(tree); err == nil && among(info, lineage) {
			return refuse("lies in " + tree + ", which is the system's")
		}
	}
	for _, x := range append([]Protected{{filepath.Join(p.Home, ".ssh"), "your SSH keys"}}, p.Protected...) {
		why, err := clash(lineage, x)
		if err != nil {
			return refuse(fmt.Sprintf("cannot be compared with %s (%v)", x.Path, err))
		}
		if why != "" {
			return refuse(why)
		}
	}
	return nil
}

// clash says how the folder with this lineage touches x; empty: not at all.
func clash(lineage []fs.FileInfo, x Protected) (string, error) {
	if !filepath.IsAbs(x.Path) {
		return "", errors.New("not an absolute path")
	}
	if info, err := os.Stat(x.Path); err == nil && among(info, lineage) {
		return fmt.Sprintf("is or lies in %s (%s)", x.Path, x.What), nil
	}
	// What does not exist yet is guarded by the folder it would appear in.
	path := x.Path
	for {
		above, err := lineageOf(path)
		if err == nil {
			if among(lineage[0], above) {
				return fmt.Sprintf("contains %s (%s)", x.Path, x.What), nil
			}
			return "", nil
		}
		if !errors.Is(err, fs.ErrNotExist) || path == "/" {
			return "", err
		}
		path = filepath.Dir(path)
	}
}

// lineageOf returns what path is, and every folder above it up to the root,
// symbolic links followed.
func lineageOf(path string) ([]fs.FileInfo, error) {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, err
	}
	var lineage []fs.FileInfo
	for {
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		lineage = append(lineage, info)
		if path == "/" {
			return lineage, nil
		}
		path = filepath.Dir(path)
	}
}

func among(info fs.FileInfo, lineage []fs.FileInfo) bool {
	for _, above := range lineage {
		if os.SameFile(info, above) {
			return true
		}
	}
	return false
}
