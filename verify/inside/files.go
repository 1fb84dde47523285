package inside

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/sallyport/sallyport/verify/probe"
	"golang.org/x/sys/unix"
)

// fileProbes are about what an agent may leave behind in the folders of the host
// that it is given.
func fileProbes() []probe.Probe {
	list := []probe.Probe{}
	for _, r := range []row{
		{"git-hooks", "git on the host runs what lies in .git/hooks", "githooks(5), CVE-2024-32002", nil, inProject(plantHook)},
		{"git-config", "git on the host runs what core.fsmonitor and others in .git/config name", "git-config(1), CVE-2022-24765", nil, inProject(openConfig)},
		{"git-replace", "a .git of its own in place of the one that is guarded", "git-config(1), rename(2)", nil, inProject(replaceGit)},
	} {
		p := r.probe()
		p.Own = ownProject
		list = append(list, p)
	}
	for _, r := range []row{
		{"home-device", "a device in the home is one on the host, for whoever opens it there", "mknod(2)", []string{"MKNOD"}, inHome(plantDevice)},
		{"home-hard-link", "a second name of a file of the host's stays when the sandbox has ended", "link(2)", nil, inHome(linkOutside)},
	} {
		p := r.probe()
		p.Own = ownHome
		list = append(list, p)
	}
	return list
}

func inProject(do func(git, run string) (string, error)) attempt {
	return func(_ context.Context, t probe.Target) (string, error) {
		git := filepath.Join(t.Project, ".git")
		if info, err := os.Lstat(git); t.Project == "" || err != nil || !info.IsDir() {
			return "", absence("project with a .git folder")
		}
		return do(git, t.Run)
	}
}

func plantHook(git, run string) (string, error) {
	name := filepath.Join(git, "hooks", "sallyport-probe-"+run)
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o700)
	if err != nil {
		return "", err
	}
	return "a hook was made", errors.Join(f.Close(), os.Remove(name))
}

func openConfig(git, _ string) (string, error) {
	if err := openOnly(filepath.Join(git, "config")); err != nil {
		return "", err
	}
	return ".git/config was opened for writing", nil
}

func replaceGit(git, run string) (string, error) {
	aside := git + "-sallyport-probe-" + run
	if err := os.Rename(git, aside); err != nil {
		return "", err
	}
	return ".git was renamed", os.Rename(aside, git)
}

func ownProject(ctx context.Context, t *probe.Target) error {
	folder, err := temporary(ctx)
	if err != nil {
		return err
	}
	t.Project = folder
	git := filepath.Join(folder, ".git")
	if err := os.MkdirAll(filepath.Join(git, "hooks"), 0o700); err != nil {
		return fmt.Errorf("make a project: %w", err)
	}
	return os.WriteFile(filepath.Join(git, "config"), nil, 0o600)
}

func inHome(do func(home, run string) (string, error)) attempt {
	return func(_ context.Context, t probe.Target) (string, error) {
		if t.Home == "" {
			return "", absence("home")
		}
		return do(t.Home, t.Run)
	}
}

// plantDevice makes the device and opens it from inside no further: on the host
// there is no device controller to forbid that.
func plantDevice(home, run string) (string, error) {
	d, err := firstDisk()
	if err != nil {
		d = device{major: 1, minor: 1}
	}
	node := filepath.Join(home, "sallyport-probe-device-"+run)
	if err := unix.Mknod(node, unix.S_IFBLK|0o600, int(unix.Mkdev(d.major, d.minor))); err != nil {
		return "", os.NewSyscallError("mknod", err)
	}
	return "a block device was made in the home", unix.Unlink(node)
}

// linkOutside links files that the engine or the launcher mount from the host.
func linkOutside(home, run string) (string, error) {
	name := filepath.Join(home, "sallyport-probe-link-"+run)
	refused := error(absence("file of the host"))
	for _, file := range []string{"/etc/hosts", "/etc/resolv.conf", "/etc/hostname", "/proc/self/exe"} {
		if refused = unix.Linkat(unix.AT_FDCWD, file, unix.AT_FDCWD, name, unix.AT_SYMLINK_FOLLOW); refused == nil {
			return file + " got a second name in the home", unix.Unlink(name)
		}
	}
	return "", os.NewSyscallError("linkat", refused)
}

// ownHome is the folder in which the linked files lie themselves.
func ownHome(ctx context.Context, t *probe.Target) error {
	folder, err := temporary(ctx)
	if err != nil {
		return err
	}
	t.Home = folder
	return nil
}

func temporary(ctx context.Context) (string, error) {
	folder, err := os.MkdirTemp("", "sallyport-probe-")
	if err != nil {
		return "", fmt.Errorf("make a folder to aim at: %w", err)
	}
	context.AfterFunc(ctx, func() { _ = os.RemoveAll(folder) }) // of a container that is thrown away
	return folder, nil
}
