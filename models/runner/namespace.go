package runner

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// hiddenFolder holds the sockets of the machine's services: engines, resolvers,
// the user's own bus. A network namespace does not keep a program from those, and
// some of them speak to the network for whoever asks.
const hiddenFolder = "/run"

// keptMounts are mounted in hiddenFolder, and have no sockets: removable disks,
// where weights may lie.
var keptMounts = [...]string{"/run/media"}

// NewNamespaces asks for user, network and mount namespaces, with the caller's own
// uid and gid in them: what `unshare -rn` makes, but that it stays who it is.
// Supplementary groups stay (video and render open the GPU); setgroups is denied.
// What is started calls EnterNamespaces.
func NewNamespaces(sys *syscall.SysProcAttr) {
	sys.Cloneflags = unix.CLONE_NEWUSER | unix.CLONE_NEWNET | unix.CLONE_NEWNS
	sys.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Geteuid(), HostID: os.Geteuid(), Size: 1}}
	sys.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getegid(), HostID: os.Getegid(), Size: 1}}
	// In the new user namespace alone, and until EnterNamespaces has done its work.
	sys.AmbientCaps = []uintptr{unix.CAP_NET_ADMIN, unix.CAP_SYS_ADMIN, unix.CAP_SETPCAP}
}

// EnterNamespaces makes the new namespaces what they must be, and becomes this
// program again, with argv and without any capability: that calls AssertNamespaces
// with the same files. It returns only on failure.
func EnterNamespaces(files Files, argv, env []string) error {
	// What is set on this thread is what the program that it becomes starts with.
	runtime.LockOSThread()
	files, err := files.resolve()
	if err != nil {
		return err
	}
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"bring lo up", raiseLoopback},
		// Private: what is mounted outside later would come in writable.
		{"keep mounts to ourselves", func() error { return unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") }},
		{"keep the login's files to the login", files.arrange},
		{"give up capabilities", dropCapabilities},
	} {
		if err := step.do(); err != nil {
			return explainNamespace(fmt.Errorf("%s: %w", step.what, err))
		}
	}
	return fmt.Errorf("run ourselves again: %w", syscall.Exec("/proc/self/exe", argv, env))
}

// raiseLoopback brings lo up: servers talk to themselves over it.
func raiseLoopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, ifr); err != nil {
		return err
	}
	ifr.SetUint16(ifr.Uint16() | unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr)
}

// hideRun replaces hiddenFolder by an empty one with its symbolic links (some
// distributions have their programs behind them) and keptMounts.
func hideRun() error {
	entries, err := os.ReadDir(hiddenFolder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	links := map[string]string{}
	for _, e := range entries {
		if e.Type() == fs.ModeSymlink {
			path := filepath.Join(hiddenFolder, e.Name())
			if links[path], err = os.Readlink(path); err != nil {
				return err
			}
		}
	}
	kept := map[string]int{}
	for _, path := range keptMounts {
		fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
		if err == nil {
			kept[path] = fd
		} else if !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOSYS) {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	if err := cover(hiddenFolder); err != nil {
		return err
	}
	for path, target := range links {
		if err := os.Symlink(target, path); err != nil {
			return err
		}
	}
	for path, fd := range kept {
		err := os.MkdirAll(path, 0o755)
		if err == nil {
			err = unix.MoveMount(fd, "", unix.AT_FDCWD, path, unix.MOVE_MOUNT_F_EMPTY_PATH)
		}
		if err = errors.Join(err, unix.Close(fd)); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}

// cover mounts an empty folder over one.
func cover(path string) error {
	return unix.Mount("tmpfs", path, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, hiddenOptions)
}

// dropCapabilities leaves this thread none, and no means to gain one.
func dropCapabilities() error {
	for capability := range uintptr(64) {
		err := unix.Prctl(unix.PR_CAPBSET_DROP, capability, 0, 0, 0)
		if errors.Is(err, unix.EINVAL) { // past the last one
			break
		}
		if err != nil {
			return err
		}
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData // version 3 takes two
	return errors.Join(
		unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0),
		unix.Capset(&header, &none[0]),
		unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
	)
}
