package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// tree is a host's file system: a Debian release below, a folder of the host's
// own above, and the machine's devices and cgroups.
type tree struct {
	lower string            // the release's root folder, shared and never written
	work  string            // a folder of the host's own, on a real disk
	binds map[string]string // host path → outside path of a folder
	files map[string]string // host path → content, written before the host starts

	// cgroup2 shows control groups of version 2 only, as most machines do, whatever
	// this machine has.
	cgroup2 bool

	// gpu gives the host a folder of devices of its own, with stand-ins of a GPU's.
	gpu bool
}

// enter makes the tree and the calling thread's root. The thread must have a
// file system state of its own.
func (t *tree) enter() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	root, err := t.overlay()
	if err != nil {
		return err
	}
	if err := t.populate(root); err != nil {
		return err
	}
	const old = "/mnt"
	if err := unix.PivotRoot(root, filepath.Join(root, old)); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return err
	}
	return unix.Unmount(old, unix.MNT_DETACH)
}

func (t *tree) overlay() (string, error) {
	upper, work, root := filepath.Join(t.work, "upper"), filepath.Join(t.work, "work"), filepath.Join(t.work, "root")
	for _, dir := range []string{upper, work, root} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return "", err
		}
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", t.lower, upper, work)
	if err := unix.Mount("overlay", root, "overlay", 0, options); err != nil {
		return "", fmt.Errorf("overlay of %s: %w", t.lower, err)
	}
	return root, nil
}

func (t *tree) populate(root string) error {
	type mount struct {
		source, target, kind string
		flags                uintptr
		data                 string
	}
	cgroups := mount{"/sys/fs/cgroup", "/sys/fs/cgroup", "", unix.MS_BIND | unix.MS_REC, ""}
	if t.cgroup2 {
		cgroups = mount{"cgroup2", "/sys/fs/cgroup", "cgroup2", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""}
	}
	mounts := []mount{
		{"sysfs", "/sys", "sysfs", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		cgroups,
		{"/dev", "/dev", "", unix.MS_BIND | unix.MS_REC, ""},
		{"tmpfs", "/run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=755"},
		{"tmpfs", "/tmp", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
	}
	for _, m := range mounts {
		if err := unix.Mount(m.source, filepath.Join(root, m.target), m.kind, m.flags, m.data); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	if t.gpu {
		if err := gpuDevices(filepath.Join(root, "dev")); err != nil {
			return fmt.Errorf("devices: %w", err)
		}
	}
	for target, source := range t.binds {
		at := filepath.Join(root, target)
		if err := errors.Join(os.MkdirAll(at, 0o755), unix.Mount(source, at, "", unix.MS_BIND|unix.MS_REC, "")); err != nil {
			return fmt.Errorf("bind %s: %w", target, err)
		}
	}
	for path, content := range t.files {
		at := filepath.Join(root, path)
		// Debian ships some of these as links to where a service would be.
		if err := os.Remove(at); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, []byte(content), 0o644)); err != nil {
			return err
		}
	}
	return nil
}
