package hub

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// listFolder holds, for each commit, what the repository has: the format of
// huggingface_hub's own trees/COMMIT.json (src/huggingface_hub/_tree_cache.py
// @ee0a451). It is not written there: that library then refuses a snapshot in
// which a listed file is missing, and we leave out what is not wanted.
const listFolder = "sallyport"

// store is the cache of one repository. All is reached through os.Root, so that
// no name and no symbolic link leads out of it.
type store struct {
	root *os.Root // the weights' folder
	repo *os.Root // hub/models--…
	name string   // of repo, below root
	lock *os.File
	tree []File // what the repository has
}

// openStore makes the folders that are missing and takes the pull's lock.
func openStore(j Job) (_ *store, err error) {
	s := &store{name: path.Join("hub", j.folder())}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.root, err = os.OpenRoot(j.Dir); err != nil {
		return nil, err
	}
	locks := path.Join("hub", ".locks", j.folder())
	for _, dir := range []string{locks, path.Join(s.name, "blobs"), path.Join(s.name, "snapshots"), path.Join(s.name, "refs"), path.Join(s.name, listFolder)} {
		if err := s.root.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	if s.repo, err = s.root.OpenRoot(s.name); err != nil {
		return nil, err
	}
	s.lock, err = takeLock(s.root, path.Join(locks, "sallyport-pull.lock"), j.By)
	if held, ok := errors.AsType[*heldError](err); ok {
		return nil, fail(KindRunning, "wait for it; launcher status shows it", "a pull of %s runs already%s", j.Repo, held.by())
	}
	return s, err
}

func (s *store) close() {
	if s.lock != nil {
		s.lock.Close()
	}
	if s.repo != nil {
		s.repo.Close()
	}
	if s.root != nil {
		s.root.Close()
	}
}

// path is where a name of the repository's folder is, below the weights' folder.
func (s *store) path(name string) string { return path.Join(s.name, name) }

func snapshot(commit string) string { return path.Join("snapshots", commit) }

// heldError is a lock that another process has.
type heldError struct{ text string }

func (e *heldError) Error() string { return "the lock is held" + e.by() }

func (e *heldError) by() string {
	if e.text == "" {
		return ""
	}
	return " (" + e.text + ")"
}

// takeLock takes a lock that ends with the process, and writes into it who has it.
func takeLock(root *os.Root, name, by string) (*os.File, error) {
	f, err := root.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		text, _ := io.ReadAll(io.LimitReader(f, 200))
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, &heldError{printable(strings.TrimSpace(string(text)))}
		}
		return nil, fmt.Errorf("take the lock %s: %w", name, err)
	}
	if by != "" {
		err = errors.Join(f.Truncate(0), second(f.WriteAt([]byte(printable(by)+"\n"), 0)))
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func second(_ int, err error) error { return err }

// have reports whether a file is in the snapshot with its size, and if not, how
// much of it there is.
func (s *store) have(commit string, f File) (bool, int64, error) {
	info, err := s.repo.Stat(path.Join(snapshot(commit), f.Path))
	if err == nil && info.Mode().IsRegular() && info.Size() == f.Size {
		return true, f.Size, nil
	}
	size, err := s.size(path.Join("blobs", f.blob()))
	if err != nil {
		return false, 0, err
	}
	if size == f.Size {
		return false, size, nil // it has to be linked
	}
	size, err = s.size(incomplete(f))
	if err != nil || size > f.Size {
		return false, 0, err
	}
	return false, max(size, 0), nil
}

// size is that of a file; -1 if it is not there, or no file.
func (s *store) size(name string) (int64, error) {
	info, err := s.repo.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return -1, nil
	case err != nil:
		return -1, err
	case !info.Mode().IsRegular():
		return -1, nil
	}
	return info.Size(), nil
}

// incomplete is where a blob is until all of it is there, as in huggingface_hub.
func incomplete(f File) string { return path.Join("blobs", f.blob()+".incomplete") }

// open opens the incomplete blob of a file.
func (s *store) open(f File) (*os.File, error) {
	name := incomplete(f)
	if info, err := s.repo.Lstat(name); err == nil && !info.Mode().IsRegular() {
		if err := s.repo.Remove(name); err != nil {
			return nil, err
		}
	}
	return s.repo.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o644)
}

// link lets the snapshot's file lead to its blob, relatively, as _create_symlink of
// huggingface_hub src/huggingface_hub/file_download.py@ee0a451 does.
func (s *store) link(commit string, f File) error {
	name := path.Join(snapshot(commit), f.Path)
	if err := s.repo.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	target, err := filepath.Rel(path.Dir(name), path.Join("blobs", f.blob()))
	if err != nil {
		return err
	}
	if old, err := s.repo.Readlink(name); err == nil && old == target {
		return nil
	}
	if err := s.repo.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return s.repo.Symlink(target, name)
}

// list is the file in listFolder.
type list struct {
	Version int                 `json:"format_version"` // 1
	Files   map[string]listFile `json:"files"`          // by path
}

type listFile struct {
	Size int64  `json:"size"`
	Blob string `json:"blob_id"`
	LFS  string `json:"lfs_sha256,omitempty"`
	// LFSSize is what Size is too, for readers that expect it with LFS.
	LFSSize int64 `json:"lfs_size,omitempty"`
}

// finish writes the list of files and which commit a name means. A pinned commit
// becomes main only where main is not there yet: servers that are told no
// revision look for main.
func (s *store) finish(w Want, commit string) error {
	l := list{Version: 1, Files: map[string]listFile{}}
	for _, f := range s.tree {
		entry := listFile{Size: f.Size, Blob: f.Git, LFS: f.LFS}
		if f.LFS != "" {
			entry.LFSSize = f.Size
		}
		l.Files[f.Path] = entry
	}
	data, err := json.MarshalIndent(l, "", " ")
	if err != nil {
		return err
	}
	if err := replace(s.repo, path.Join(listFolder, commit+".json"), data); err != nil {
		return err
	}
	ref := path.Join("refs", w.revision())
	if w.pinned() {
		ref = "refs/main"
		if _, err := s.repo.Lstat(ref); err == nil {
			return nil
		}
	}
	if err := s.repo.MkdirAll(path.Dir(ref), 0o755); err != nil {
		return err
	}
	return replace(s.repo, ref, []byte(commit))
}

// replace writes a small file at once or not at all.
func replace(root *os.Root, name string, data []byte) error {
	temporary := name + ".tmp"
	if err := root.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := root.OpenFile(temporary, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, root.Remove(temporary))
	}
	return root.Rename(temporary, name)
}

// free is how much of the disk is free for us, in bytes.
func (s *store) free() (int64, error) {
	f, err := s.repo.Open("blobs")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return 0, fmt.Errorf("statfs: %w", err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}
