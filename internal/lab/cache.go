package lab

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cacheDir holds what is slow to make: release trees, images, the tiny model,
// the engines' image stores. It has to be on a disk that overlays can lie on.
func cacheDir() string {
	if dir := os.Getenv("SALLYPORT_LAB_CACHE"); dir != "" {
		return dir
	}
	return "/var/cache/sallyport-lab"
}

// script runs one of the repository's scripts and returns the last line it
// printed.
func script(ctx context.Context, name string, args ...string) (string, error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(root, "scripts", name), args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("lab: scripts/%s %s: %w", name, strings.Join(args, " "), err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[len(lines)-1], nil
}

// moduleRoot is the checkout that the test belongs to: go test runs in the
// package's folder.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for at := dir; ; at = filepath.Dir(at) {
		if _, err := os.Stat(filepath.Join(at, "go.mod")); err == nil {
			return at, nil
		}
		if at == "/" {
			return "", fmt.Errorf("lab: no go.mod in or above %s", dir)
		}
	}
}

// place is a lab's own folders; they are gone when it is closed.
type place struct {
	id     string
	disk   string // overlays
	shared string // under the temporary folder, at the same path on every host
	lock   *os.File
}

const prefix = "sp-lab-"

// newPlace makes the folders of a new lab, after removing those of labs whose
// test process is gone.
func newPlace() (*place, error) {
	runs := filepath.Join(cacheDir(), "run")
	if err := os.MkdirAll(runs, 0o755); err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	if err := sweep(runs); err != nil {
		return nil, err
	}
	var random [4]byte
	_, _ = rand.Read(random[:]) // never fails
	p := &place{id: prefix + hex.EncodeToString(random[:])}
	p.disk, p.shared = filepath.Join(runs, p.id), filepath.Join(os.TempDir(), p.id)
	var err error
	if p.lock, err = lockFile(p.disk+".lock", unix.LOCK_NB); err != nil {
		return nil, err
	}
	if _, err := p.lock.WriteString(p.shared); err != nil {
		return nil, errors.Join(err, p.remove())
	}
	if err := errors.Join(os.Mkdir(p.disk, 0o755), os.Mkdir(p.shared, 0o755)); err != nil {
		return nil, errors.Join(err, p.remove())
	}
	return p, nil
}

// lockFile opens a file and takes its lock, which is let go when the file is
// closed or the process dies. With LOCK_NB it does not wait.
func lockFile(path string, flags int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|flags)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lab: lock %s: %w", path, err), f.Close())
	}
	return f, nil
}

// sweep removes the folders of labs whose process is gone.
func sweep(runs string) error {
	locks, err := filepath.Glob(filepath.Join(runs, prefix+"*.lock"))
	if err != nil {
		return err
	}
	for _, path := range locks {
		f, err := lockFile(path, unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			continue // its lab lives
		}
		if err != nil {
			return err
		}
		shared, err := os.ReadFile(path)
		if err != nil {
			return errors.Join(err, f.Close())
		}
		disk := strings.TrimSuffix(path, ".lock")
		dead := &place{id: filepath.Base(disk), disk: disk, shared: string(shared), lock: f}
		if err := dead.remove(); err != nil {
			return fmt.Errorf("lab: remove a dead lab: %w", err)
		}
	}
	return nil
}

// remove removes the lab's folders, its cgroups, and last the lock by which
// another process would find what is left.
func (p *place) remove() error {
	errs := []error{os.RemoveAll(p.disk), removeCgroups(p.id)}
	// Written by us, but a torn write must not have us remove something else.
	if filepath.Base(p.shared) == p.id {
		errs = append(errs, os.RemoveAll(p.shared))
	}
	if err := errors.Join(errs...); err != nil {
		return errors.Join(err, p.lock.Close())
	}
	return errors.Join(os.Remove(p.lock.Name()), p.lock.Close())
}

// cgroupEmpty bounds the wait for the end of killed processes.
const cgroupEmpty = 10 * time.Second

// removeCgroups removes the cgroups that the lab's engine made for containers
// that were killed with it.
func removeCgroups(id string) error {
	tops, err := filepath.Glob("/sys/fs/cgroup/" + id)
	if err != nil {
		return err
	}
	v1, err := filepath.Glob("/sys/fs/cgroup/*/" + id)
	if err != nil {
		return err
	}
	for _, top := range append(tops, v1...) {
		var dirs []string
		err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return err
		})
		if err != nil {
			return err
		}
		for i := len(dirs) - 1; i >= 0; i-- {
			// A killed process leaves its cgroup a moment after its end.
			ctx, cancel := context.WithTimeout(context.Background(), cgroupEmpty)
			err := until(ctx, func() error { return unix.Rmdir(dirs[i]) })
			cancel()
			if err != nil {
				return fmt.Errorf("lab: remove cgroup %s: %w", dirs[i], err)
			}
		}
	}
	return nil
}

// store is an engine's folder of images, kept from one lab to the next and used
// by one lab at a time.
type store struct {
	dir  string
	lock *os.File
}

// takeStore takes the first free store of that kind, or makes one.
func takeStore(kind string) (*store, error) {
	dir := filepath.Join(cacheDir(), "store-"+kind)
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	for n := 0; ; n++ {
		at := filepath.Join(dir, fmt.Sprint(n))
		lock, err := lockFile(at+".lock", unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if err := os.MkdirAll(at, 0o711); err != nil {
			return nil, errors.Join(err, lock.Close())
		}
		return &store{dir: at, lock: lock}, nil
	}
}

func (s *store) release() error { return s.lock.Close() }
