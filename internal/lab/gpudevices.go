package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// The group that may use the stand-ins of a GPU's devices, as udev names it; the
// user is in it.
const (
	renderGroup   = "render"
	RenderGroupID = 992
)

// device is a character device file.
type device struct {
	path         string
	major, minor uint32
	mode         uint32
	gid          int
}

// gpuDevices puts a new folder over dev: with what every program expects, and the
// device files of an AMD GPU. Those are stand-ins: they have the real ones' names
// and owners, and do what /dev/null does.
func gpuDevices(dev string) error {
	if err := unix.Mount("tmpfs", dev, "tmpfs", unix.MS_NOSUID, "mode=755"); err != nil {
		return err
	}
	for _, dir := range []string{"pts", "shm", "dri", "net"} {
		if err := os.Mkdir(filepath.Join(dev, dir), 0o755); err != nil {
			return err
		}
	}
	for _, d := range []device{
		{"null", 1, 3, 0o666, 0}, {"zero", 1, 5, 0o666, 0}, {"full", 1, 7, 0o666, 0}, {"random", 1, 8, 0o666, 0}, {"urandom", 1, 9, 0o666, 0},
		{"tty", 5, 0, 0o666, 0}, {"kmsg", 1, 11, 0o600, 0}, {"fuse", 10, 229, 0o666, 0}, {"net/tun", 10, 200, 0o666, 0},
		{"kfd", 1, 3, 0o660, RenderGroupID}, {"dri/renderD128", 1, 3, 0o660, RenderGroupID}, {"dri/card0", 1, 3, 0o660, RenderGroupID},
	} {
		at := filepath.Join(dev, d.path)
		err := errors.Join(unix.Mknod(at, unix.S_IFCHR|d.mode, int(unix.Mkdev(d.major, d.minor))), os.Chmod(at, os.FileMode(d.mode)), os.Chown(at, 0, d.gid))
		if err != nil {
			return fmt.Errorf("%s: %w", d.path, err)
		}
	}
	for name, target := range map[string]string{"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"} {
		if err := os.Symlink(target, filepath.Join(dev, name)); err != nil {
			return err
		}
	}
	return errors.Join(
		unix.Mount("devpts", filepath.Join(dev, "pts"), "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620,gid=5"),
		unix.Mount("tmpfs", filepath.Join(dev, "shm"), "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777"),
	)
}
