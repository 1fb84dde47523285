package containers

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Git says how a project's repository is given to an agent: it can commit and
// branch, but not change what git on the host would run later. The mounts have
// two limits, which is what Watch is for. A file that did not exist can appear
// (commondir, config.worktree). And when the host itself replaces config while
// the agent runs, as every `git config` does, the kernel takes the mount away
// with the file that it covered, and the new one is the agent's to write.
type Git struct {
	Binds   []Bind   // come besides the project's own bind
	Outside []string // folders outside the project that Binds makes writable: to be judged by MountPolicy as the project is
	Watch   []string // host paths that git on the host obeys, to be compared before and after, see below
	Note    string   // why git will not work inside; empty: it will, or there is no repository
}

// maxGitFile bounds, in bytes, the small files of git that are read here: they
// may have been written by an agent.
const maxGitFile = 4 << 10

// GitMounts works out the mounts for the repository of a project folder,
// without running git. A missing .git/config or .git/hooks is made, empty, as
// `git init` would, since a mount can only cover what exists. What the agent
// could replace from inside, such as a symbolic link, is a *MountError.
func GitMounts(folder string) (Git, error) {
	folder, err := filepath.EvalSymlinks(folder)
	if err != nil {
		return Git{}, fmt.Errorf("look for a git repository: %w", err)
	}
	dotGit := filepath.Join(folder, ".git")
	info, err := os.Lstat(dotGit)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Git{Watch: []string{dotGit}}, nil
	case err != nil:
		return Git{}, fmt.Errorf("look for a git repository: %w", err)
	case info.IsDir():
		var g Git
		return g, g.addRepository(dotGit)
	case info.Mode().IsRegular():
		return worktreeMounts(folder, dotGit)
	}
	return Git{}, replaceable(dotGit)
}

func replaceable(path string) error {
	return &MountError{
		Path: path,
		Why:  "is neither a plain file nor a plain folder, so the agent could put another one in its place",
		Hint: "make it a real file or folder, or override with --unsafe-mount",
	}
}

// addRepository mounts a repository's folder with the parts read-only that
// decide what git runs. The folder is mounted on itself: a mount point cannot be
// renamed, and so not be replaced by one with another config.
func (g *Git) addRepository(dir string) error {
	if err := makeMissing(dir); err != nil {
		return err
	}
	g.Binds = append(g.Binds, Bind{Source: dir, Target: dir})
	// Other worktrees and submodules have configs of their own in the last two.
	for _, name := range []string{"config", "hooks", "config.worktree", "commondir", "worktrees", "modules"} {
		if err := g.addReadOnly(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	for _, name := range []string{"config", "hooks", "config.worktree", "commondir"} {
		g.Watch = append(g.Watch, filepath.Join(dir, name))
	}
	return nil
}

// addReadOnly mounts path read-only if it exists.
func (g *Git) addReadOnly(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("examine the git repository: %w", err)
	case !info.IsDir() && !info.Mode().IsRegular():
		return replaceable(path)
	}
	g.Binds = append(g.Binds, Bind{Source: path, Target: path, ReadOnly: true})
	return nil
}

// makeMissing makes an absent config or hooks folder, owned like the repository.
func makeMissing(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("open the git repository: %w", err)
	}
	defer root.Close()
	made := []string{}
	f, err := root.OpenFile("config", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err == nil {
		made = append(made, "config")
		err = f.Close()
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make the git repository's missing config: %w", err)
	}
	if err := root.Mkdir("hooks", 0o755); err == nil {
		made = append(made, "hooks")
	} else if !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make the git repository's missing hooks folder: %w", err)
	}
	info, err := root.Stat(".")
	if err != nil {
		return fmt.Errorf("examine the git repository: %w", err)
	}
	owner := info.Sys().(*syscall.Stat_t)
	for _, name := range made {
		if err := root.Lchown(name, int(owner.Uid), int(owner.Gid)); err != nil {
			return fmt.Errorf("give %s to the repository's owner: %w", filepath.Join(dir, name), err)
		}
	}
	return nil
}

// worktreeMounts handles a .git that is a file. It is mounted read-only. The
// folder it names comes along only if it is a linked worktree's and names this
// project in its turn: the file alone may have been written by an agent, to be
// given another folder of the host next time.
func worktreeMounts(folder, dotGit string) (Git, error) {
	g := Git{Watch: []string{dotGit}, Binds: []Bind{{Source: dotGit, Target: dotGit, ReadOnly: true}}}
	own, common, why := linkedWorktree(folder, dotGit)
	if why != "" {
		g.Note = "git will not work inside: " + why
		return g, nil
	}
	if err := g.addRepository(common); err != nil {
		return Git{}, err
	}
	g.Binds = append(g.Binds, Bind{Source: own, Target: own})
	for _, name := range []string{"commondir", "gitdir", "config.worktree"} {
		if err := g.addReadOnly(filepath.Join(own, name)); err != nil {
			return Git{}, err
		}
	}
	g.Watch = append(g.Watch, filepath.Join(own, "commondir"), filepath.Join(own, "config.worktree"))
	if rel, err := filepath.Rel(folder, common); err != nil || !filepath.IsLocal(rel) {
		g.Outside = []string{common}
	}
	return g, nil
}

// linkedWorktree returns the worktree's own folder in the repository and the
// repository's, or why this is no linked worktree.
func linkedWorktree(folder, dotGit string) (own, common, why string) {
	text, err := readGitFile(dotGit)
	target, ok := strings.CutPrefix(text, "gitdir: ")
	if err != nil || !ok || target == "" {
		return "", "", ".git is a file that names no repository"
	}
	if own, err = resolveFrom(folder, target); err != nil {
		return "", "", fmt.Sprintf("the repository that .git names (%s) is not there", plain(target))
	}
	common = filepath.Dir(filepath.Dir(own))
	if filepath.Base(filepath.Dir(own)) != "worktrees" {
		return "", "", "this is a submodule or has its repository elsewhere; start in the folder that holds the repository"
	}
	link, err := readGitFile(filepath.Join(own, "commondir"))
	if err != nil {
		return "", "", fmt.Sprintf("%s is no worktree's folder", own)
	}
	if back, err := resolveFrom(own, link); err != nil || back != common {
		return "", "", fmt.Sprintf("%s belongs to another repository than it lies in", own)
	}
	link, err = readGitFile(filepath.Join(own, "gitdir"))
	if err != nil {
		return "", "", fmt.Sprintf("%s is no worktree's folder", own)
	}
	if back, err := resolveFrom(own, filepath.Dir(link)); err != nil || back != folder || filepath.Base(link) != ".git" {
		return "", "", fmt.Sprintf("%s does not name this folder as its worktree; `git worktree repair` mends it", own)
	}
	return own, common, ""
}

// resolveFrom returns path, which may be relative to base, without symbolic
// links.
func resolveFrom(base, path string) (string, error) {
	if !filepath.IsAbs(path) {
		path = filepath.Join(base, path)
	}
	return filepath.EvalSymlinks(path)
}

// readGitFile returns the one line of a small plain file.
func readGitFile(path string) (string, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return "", fmt.Errorf("read %s: not a plain file", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxGitFile+1))
	if err != nil {
		return "", err
	}
	text := strings.TrimRight(string(data), "\r\n")
	if len(data) > maxGitFile || strings.ContainsAny(text, "\r\n\x00") {
		return "", fmt.Errorf("read %s: more than one line", path)
	}
	return text, nil
}
