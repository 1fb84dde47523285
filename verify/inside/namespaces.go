package inside

import (
	"context"
	"fmt"
	"syscall"
	"unsafe"

	"github.com/sallyport/sallyport/verify/probe"
	"golang.org/x/sys/unix"
)

func namespaceProbes() []probe.Probe {
	admin := []string{"SYS_ADMIN", "SYS_PTRACE"}
	rows := []row{
		{"setns-net", "the way into another network namespace", "setns(2)", admin, entering("net", unix.CLONE_NEWNET)},
		{"setns-mnt", "the way into another view of the files", "setns(2)", admin, entering("mnt", unix.CLONE_NEWNS)},
		{"setns-pid", "the way to see other processes", "setns(2)", admin, entering("pid", unix.CLONE_NEWPID)},
		{"setns-ipc", "the way to other processes' shared memory", "setns(2)", admin, entering("ipc", unix.CLONE_NEWIPC)},
		{"setns-cgroup", "the way to other limits", "setns(2)", admin, entering("cgroup", unix.CLONE_NEWCGROUP)},
		{"unshare-net", "in a network namespace of its own nothing is recorded", "unshare(2)", admin, unsharing(unix.CLONE_NEWNET)},
		{"unshare-mount", "in a mount namespace of its own covered files show", "CVE-2022-0185", admin, unsharing(unix.CLONE_NEWNS)},
		{"unshare-pid", "in a pid namespace of its own a process hides who it is", "unshare(2)", admin, unsharing(unix.CLONE_NEWPID)},
		{"unshare-ipc", "message queues have been a way to root", "CVE-2021-22555", admin, unsharing(unix.CLONE_NEWIPC)},
		{"unshare-time", "another clock", "time_namespaces(7)", admin, unsharing(unix.CLONE_NEWTIME)},
		{"unshare-user", "in a user namespace of its own an agent has every capability: unshare -rn", "CVE-2022-0185, CVE-2024-1086", nil,
			starting(&syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNET})},
		{"clone-user", "in a user namespace of its own an agent has every capability: unshare -rn", "CVE-2022-0185, CVE-2024-1086", nil,
			starting(&syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNET})},
		{"clone3", "its flags are in memory, where no filter sees CLONE_NEWUSER", "clone(2), moby/moby pull request 42681", nil, cloneThree},
	}
	return probes(rows)
}

// entering joins a namespace of the container's first process, which is the own
// one where all is well: what counts is whether it may.
func entering(kind string, flag int) attempt {
	return onThread(func(context.Context, probe.Target) (string, error) {
		fd, err := unix.Open("/proc/1/ns/"+kind, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return "", fmt.Errorf("open /proc/1/ns/%s: %w", kind, err)
		}
		defer unix.Close(fd)
		if flag == unix.CLONE_NEWNS {
			_ = unix.Unshare(unix.CLONE_FS) // else EINVAL follows, which counts as well
		}
		return passed("setns", unix.Setns(fd, flag), unix.EINVAL)
	})
}

func unsharing(flag int) attempt {
	return onThread(func(context.Context, probe.Target) (string, error) {
		return passed("unshare", unix.Unshare(flag))
	})
}

// starting makes the namespaces in a child, since a process of many threads gets no
// user namespace. The child is to execute a file that there is not, so that ENOENT
// says that it had its namespaces.
func starting(how *syscall.SysProcAttr) attempt {
	return func(context.Context, probe.Target) (string, error) {
		pid, err := syscall.ForkExec("/proc/sallyport-no-such-file", []string{"none"}, &syscall.ProcAttr{Sys: how})
		if err == nil {
			end(pid)
		}
		return passed("a user namespace", err, unix.ENOENT)
	}
}

// cloneThree asks for what the kernel refuses to everybody, twice over: a thread
// without shared memory, and a user namespace with shared folders.
func cloneThree(context.Context, probe.Target) (string, error) {
	args := struct{ flags, pidfd, childTID, parentTID, exitSignal, stack, stackSize, tls uint64 }{
		flags: unix.CLONE_NEWUSER | unix.CLONE_FS | unix.CLONE_THREAD,
	}
	_, _, errno := syscall.RawSyscall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&args)), unsafe.Sizeof(args), 0)
	return passed("clone3", errnoOf(errno), unix.EINVAL)
}
