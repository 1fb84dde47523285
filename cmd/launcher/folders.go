package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// openFolder opens a folder of the agent's user, and makes it, mode 0700, with
// what it lacks above it. Root goes there from a folder in which only root and
// that user can have put anything, and never out of it by a symbolic link.
func (c caller) openFolder(path string) (*os.Root, error) {
	if c.root {
		base, rel, err := c.anchor(path)
		if err != nil {
			return nil, err
		}
		return openOwned(base, rel, c.uid, c.gid)
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("make a folder of ours: %w", err)
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, fmt.Errorf("open a folder of ours: %w", err)
	}
	return root, nil
}

func (c caller) makeFolder(path string) error {
	root, err := c.openFolder(path)
	if err != nil {
		return err
	}
	return root.Close()
}

// anchor splits path at the folder that root starts from: the user's home, or
// the one that systemd made for the user's sockets.
func (c caller) anchor(path string) (base, rel string, err error) {
	for _, base := range []string{c.home, "/run/user/" + strconv.Itoa(c.uid)} {
		if rel, err := filepath.Rel(base, path); err == nil && filepath.IsLocal(rel) {
			return base, rel, nil
		}
	}
	return "", "", fmt.Errorf("%s lies neither in the home of uid %d nor in its runtime folder", path, c.uid)
}

// openOwned opens rel below base. The folders that it lacks are made for
// somebody else, who may be at work in the same place at the same time.
func openOwned(base, rel string, uid, gid int) (*os.Root, error) {
	root, err := os.OpenRoot(base)
	if err != nil {
		return nil, fmt.Errorf("open a folder of uid %d: %w", uid, err)
	}
	for part := range strings.SplitSeq(rel, "/") {
		next, err := openPart(root, part, uid, gid)
		root.Close()
		if err != nil {
			return nil, fmt.Errorf("make %s in %s for uid %d: %w", rel, base, uid, err)
		}
		root = next
	}
	return root, nil
}

func openPart(root *os.Root, name string, uid, gid int) (*os.Root, error) {
	made := root.Mkdir(name, 0o700)
	if made != nil && !errors.Is(made, os.ErrExist) {
		return nil, made
	}
	next, err := root.OpenRoot(name)
	if err != nil || made != nil {
		return next, err
	}
	f, err := next.Open(".")
	if err != nil {
		return nil, errors.Join(err, next.Close())
	}
	defer f.Close()
	if err := f.Chown(uid, gid); err != nil {
		return nil, errors.Join(err, next.Close())
	}
	return next, nil
}

// openFile opens a plain file of the user's in a folder of ours, and makes it.
// For root it must be the user's alone: not a link to another file.
func (c caller) openFile(folder, name string, flag int) (*os.File, error) {
	root, err := c.openFolder(folder)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := root.OpenFile(name, flag|os.O_CREATE|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open a file of ours: %w", err)
	}
	if err := c.own(root, name, f); err != nil {
		f.Close()
		return nil, fmt.Errorf("open a file of ours: %s: %w", filepath.Join(folder, name), err)
	}
	return f, nil
}

// own checks that f is what name says, and hands it over if root has just made it.
func (c caller) own(root *os.Root, name string, f *os.File) error {
	opened, err := f.Stat()
	if err != nil {
		return err
	}
	named, err := root.Lstat(name)
	if err != nil {
		return err
	}
	stat, ok := opened.Sys().(*syscall.Stat_t)
	if !ok || !opened.Mode().IsRegular() || !os.SameFile(opened, named) || stat.Nlink != 1 {
		return errors.New("it is no plain file of its own; hint: move it away")
	}
	if c.root && stat.Uid == 0 {
		return f.Chown(c.uid, c.gid)
	}
	if int(stat.Uid) != c.uid {
		return fmt.Errorf("it belongs to uid %d; hint: move it away", stat.Uid)
	}
	return nil
}

// removeFolder removes a folder of ours with all that is in it.
func (c caller) removeFolder(path string) error {
	root, err := c.openFolder(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer root.Close()
	if err := root.RemoveAll(filepath.Base(path)); err != nil {
		return fmt.Errorf("remove a folder of ours: %w", err)
	}
	return nil
}

// The folders of one launcher are named after it, so that another one can tell
// whose launcher is gone.
func folderName(launcher string) string    { return strings.ReplaceAll(launcher, ":", "-") }
func launcherOfFolder(name string) string  { return strings.ReplaceAll(name, "-", ":") }
func (s *session) sandboxesFolder() string { return filepath.Join(s.caller.paths.Runtime, "sandboxes") }
func (s *session) sandboxFolder() string {
	return filepath.Join(s.sandboxesFolder(), folderName(s.launcher))
}
func (s *session) modelSocketFolder() string {
	return filepath.Join(s.caller.paths.Models(), folderName(s.launcher))
}

// sweepFolders removes what launchers that were killed left in our folders.
func (s *session) sweepFolders() error {
	for _, folder := range []string{s.sandboxesFolder(), s.caller.paths.Models()} {
		root, err := s.caller.openFolder(folder)
		if err != nil {
			return err
		}
		err = sweepFolder(root)
		if err := errors.Join(err, root.Close()); err != nil {
			return fmt.Errorf("clean up %s: %w", folder, err)
		}
	}
	return nil
}

func sweepFolder(root *os.Root) error {
	f, err := root.Open(".")
	if err != nil {
		return err
	}
	names, err := f.Readdirnames(-1)
	f.Close()
	for _, name := range names {
		if !launcherAlive(launcherOfFolder(name)) {
			err = errors.Join(err, root.RemoveAll(name))
		}
	}
	return err
}

// homeName names the home of a project: readable, and different for each path.
func homeName(project string) string {
	sum := sha256.Sum256([]byte(project))
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.' {
			return r
		}
		return '_'
	}, filepath.Base(project))
	return name[:min(len(name), 40)] + "-" + hex.EncodeToString(sum[:6])
}
