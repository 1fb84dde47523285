package inside

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"github.com/sallyport/sallyport/verify/probe"
	"golang.org/x/sys/unix"
)

// mountPoint is there in every container, and not needed by a probe.
const mountPoint = "/dev/shm"

func mountProbes() []probe.Probe {
	admin := []string{"SYS_ADMIN"}
	list := probes([]row{
		{"mount-bind", "a bind mount covers or uncovers what the container was given", "mount(2)", admin, mounting("/etc", "", unix.MS_BIND, "")},
		{"mount-tmpfs", "a mount of its own is where devices and set-user-ID programs count", "mount(2)", admin, mounting("tmpfs", "tmpfs", 0, "")},
		{"mount-proc", "a fresh /proc has none of the engine's masks", "CVE-2016-9962, proc(5)", admin, mounting("proc", "proc", 0, "")},
		{"mount-sysfs", "a fresh /sys is writable", "mount(2)", admin, mounting("sysfs", "sysfs", 0, "")},
		{"mount-overlay", "overlayfs has been a way to root more than once", "CVE-2021-3493", admin, mounting("overlay", "overlay", unix.MS_RDONLY, "lowerdir=/etc:/dev")},
		{"mount-cgroup", "the release agent of a cgroup hierarchy is run by the host's kernel as root", "CVE-2022-0492", admin, mountCgroup},
		{"fsopen", "the new mount interface, which filters of old do not know", "fsopen(2), Linux 5.2", admin, openFilesystem},
		{"open-tree", "the new mount interface clones mounts", "open_tree(2), Linux 5.2", admin, openTree},
		{"move-mount", "the new mount interface moves mounts", "move_mount(2), Linux 5.2", admin, moveMount},
		{"umount", "without the mounts that cover them, masked files and the read-only .git show", "umount(2)", admin, onThread(unmount)},
		{"pivot-root", "another root is another view of the host", "pivot_root(2)", admin, pivot},
		{"remount-root", "a writable root keeps what an agent plants", "mount(2)", admin, onThread(remountRoot)},
	})
	return append(list, row{"write-root", "a writable root keeps what an agent plants", "mount(2), MS_RDONLY", nil, writeRoot}.probe())
}

// apart gives the calling thread a mount namespace of its own, where it may have
// one, so that nobody else sees what succeeds.
func apart() {
	if unix.Unshare(unix.CLONE_NEWNS) == nil {
		_ = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") // an engine's mounts are private already
	}
}

func mounting(source, kind string, flags uintptr, data string) attempt {
	return onThread(func(context.Context, probe.Target) (string, error) {
		apart()
		did, err := passed("mount", unix.Mount(source, mountPoint, kind, flags, data), unix.EBUSY)
		if err == nil {
			_ = unix.Unmount(mountPoint, unix.MNT_DETACH) // of the thread's own namespace at most
		}
		return did, err
	})
}

// mountCgroup names an option that there is not, so that no hierarchy is made: it
// would be there for the whole machine.
func mountCgroup(context.Context, probe.Target) (string, error) {
	return passed("mount", unix.Mount("cgroup", mountPoint, "cgroup", 0, "sallyport_no_such_controller"), unix.EINVAL, unix.ENOENT)
}

func openFilesystem(context.Context, probe.Target) (string, error) {
	fd, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	return opened("fsopen", fd, err)
}

func openTree(context.Context, probe.Target) (string, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, "/", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	return opened("open_tree", fd, err)
}

func moveMount(context.Context, probe.Target) (string, error) {
	return passed("move_mount", unix.MoveMount(-1, "", -1, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH), unix.EBADF)
}

func unmount(context.Context, probe.Target) (string, error) {
	apart()
	return passed("umount2", unix.Unmount(mountPoint, unix.MNT_DETACH), unix.EINVAL)
}

func pivot(context.Context, probe.Target) (string, error) {
	return passed("pivot_root", unix.PivotRoot("/sallyport-no-such-folder", "/sallyport-no-such-folder"), unix.ENOENT)
}

func remountRoot(context.Context, probe.Target) (string, error) {
	apart()
	return passed("mount", unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_BIND, ""))
}

// writeRoot is about the agent's container alone: root has an ordinary one.
func writeRoot(_ context.Context, t probe.Target) (string, error) {
	if t.Setting == probe.Sandbox && t.Root {
		return "", absence("read-only root")
	}
	name := "/sallyport-probe-" + t.Run
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", err
	}
	return "a file was made in /", errors.Join(f.Close(), os.Remove(name))
}

// opened judges a call that makes a descriptor, and closes it.
func opened(call string, fd int, err error) (string, error) {
	if err != nil {
		return "", os.NewSyscallError(call, err)
	}
	_ = unix.Close(fd) // nothing was written
	return call + " gave a descriptor", nil
}

// writable opens a file for writing and writes nothing. Where a mount forbids it,
// it is tried again with the mounts above it made writable, on a thread apart.
func writable(file string) attempt {
	return onThread(func(context.Context, probe.Target) (string, error) {
		first := openOnly(file)
		if first == nil {
			return file + " was opened for writing", nil
		}
		if errors.Is(first, unix.ENOENT) {
			return "", first
		}
		apart()
		for at := file; at != "/"; at = path.Dir(at) {
			second := unix.Mount("", at, "", unix.MS_REMOUNT|unix.MS_BIND, "")
			if errors.Is(second, unix.EPERM) || errors.Is(second, unix.EACCES) {
				return "", fmt.Errorf("%w; remount %s: %w", first, at, second)
			}
			if second == nil && openOnly(file) == nil {
				return file + " was opened for writing, once " + at + " was mounted again", nil
			}
		}
		return "", first
	})
}

func openOnly(file string) error {
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return f.Close()
}

// uncovered reads a file that the engine masks, as it is or with the mask taken away
// on a thread apart.
func uncovered(file string) attempt {
	return onThread(func(context.Context, probe.Target) (string, error) {
		first := readable(file)
		if first == nil {
			return file + " was read", nil
		}
		if errors.Is(first, unix.ENOENT) {
			return "", first
		}
		apart()
		if err := unix.Unmount(file, unix.MNT_DETACH); err != nil {
			return "", fmt.Errorf("%s: %w; its mask stays: umount2: %w", file, first, err)
		}
		if err := readable(file); err != nil {
			return "", fmt.Errorf("%s without its mask: %w", file, err)
		}
		return file + " was read, once its mask was taken away", nil
	})
}

// readable reads one byte of a file, or one name of a folder; an empty one gives
// io.EOF.
func readable(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.IsDir() {
		_, err = f.Readdirnames(1)
		return err
	}
	_, err = io.ReadFull(f, make([]byte, 1))
	return err
}
