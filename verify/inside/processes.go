package inside

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"syscall"

	"github.com/sallyport/sallyport/verify"
	"github.com/sallyport/sallyport/verify/probe"
	"golang.org/x/sys/unix"
)

// processProbes aim at verify's own process on the host. Inside, a process of
// the same user may be traced as anywhere: that is no way out.
func processProbes() []probe.Probe {
	trace := []string{"SYS_PTRACE"}
	list := []probe.Probe{}
	for _, r := range []row{
		{"ptrace-seize", "who traces a process of the host runs what it likes there", "ptrace(2)", trace, onThread(outside(seize))},
		{"ptrace-attach", "who traces a process of the host runs what it likes there", "ptrace(2)", trace, onThread(outside(attach))},
		{"process-vm-readv", "the memory of the host's processes holds keys", "process_vm_readv(2)", trace, outside(readMemory)},
		{"process-mem-file", "the memory of the host's processes holds keys", "proc_pid_mem(5)", trace, outside(openMemory)},
		{"pidfd-getfd", "a descriptor of the host's process is its open socket", "pidfd_getfd(2), Linux 5.6", trace, outside(takeDescriptor)},
		{"signal-outside", "who signals the host's processes ends them", "kill(2), pid_namespaces(7)", []string{"KILL"}, outside(signal)},
		{"process-root", "the root of the host's process is the host's file system", "proc_pid_root(5)", trace, outside(openRoot)},
		{"process-environ", "the environment of the host's processes holds tokens", "proc_pid_environ(5)", trace, outside(readEnvironment)},
		{"setns-outside", "the network of the host's process is the open one", "setns(2)", []string{"SYS_ADMIN", "SYS_PTRACE"}, onThread(outside(enter))},
	} {
		p := r.probe()
		p.Own = ownProcess
		list = append(list, p)
	}
	return list
}

// outside hands an attempt the host's process, by its number there. Inside, that
// number is nobody's, or another process's, which start times tell.
func outside(do func(pid int) (string, error)) attempt {
	return func(_ context.Context, t probe.Target) (string, error) {
		if t.Host.PID <= 0 {
			return "", absence("process of the host that is known")
		}
		started, err := verify.Started(t.Host.PID)
		switch {
		case err != nil:
			return do(t.Host.PID) // it is not to be seen; is it there all the same?
		case started != t.Host.Started:
			return "", fmt.Errorf("process %d is one of this container's own: %w", t.Host.PID, unix.ESRCH)
		}
		return do(t.Host.PID)
	}
}

func seize(pid int) (string, error) {
	if _, _, errno := syscall.Syscall6(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(pid), 0, 0, 0, 0); errno != 0 {
		return "", os.NewSyscallError("ptrace", errno)
	}
	// The tracer's thread ends, and with it the tracing.
	return "the process was seized", nil
}

func attach(pid int) (string, error) {
	if err := unix.PtraceAttach(pid); err != nil {
		return "", os.NewSyscallError("ptrace", err)
	}
	return "the process was attached to", nil
}

// readMemory reads nothing: the kernel checks who asks before it looks at the
// addresses, and fails at that of the other process, which is zero.
func readMemory(pid int) (string, error) {
	buf := make([]byte, 8)
	local := []unix.Iovec{{Base: &buf[0]}}
	local[0].SetLen(len(buf))
	_, err := unix.ProcessVMReadv(pid, local, []unix.RemoteIovec{{Base: 0, Len: len(buf)}}, 0)
	return passed("process_vm_readv", err, unix.EFAULT)
}

func openMemory(pid int) (string, error) {
	f, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	return "its memory was opened", f.Close()
}

func takeDescriptor(pid int) (string, error) {
	process, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return "", os.NewSyscallError("pidfd_open", err)
	}
	defer unix.Close(process)
	fd, err := unix.PidfdGetfd(process, 0, 0)
	if err == unix.EBADF { // it has no descriptor 0
		return passed("pidfd_getfd", err, unix.EBADF)
	}
	return opened("pidfd_getfd", fd, err)
}

// signal sends none: 0 asks whether it might.
func signal(pid int) (string, error) {
	return passed("kill", unix.Kill(pid, 0))
}

func openRoot(pid int) (string, error) {
	fd, err := unix.Open(fmt.Sprintf("/proc/%d/root", pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	return opened("open its root", fd, err)
}

func readEnvironment(pid int) (string, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		return "", err
	}
	return "its environment was opened", f.Close()
}

func enter(pid int) (string, error) {
	fd, err := unix.Open(fmt.Sprintf("/proc/%d/ns/net", pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", os.NewSyscallError("open", err)
	}
	defer unix.Close(fd)
	return passed("setns", unix.Setns(fd, unix.CLONE_NEWNET))
}

// ownProcess starts a process that stands for the host's: this program, stopped
// before its first instruction, and ended with ctx.
func ownProcess(ctx context.Context, t *probe.Target) error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // of a tracer, which this is until it lets go
		defer runtime.UnlockOSThread()
		pid, err := startStopped()
		if err == nil {
			t.Host.PID = pid
			t.Host.Started, err = verify.Started(pid)
		}
		started <- err
	}()
	err := <-started
	if pid := t.Host.PID; pid > 0 {
		context.AfterFunc(ctx, func() { end(pid) })
	}
	if err != nil {
		return fmt.Errorf("start a process to aim at: %w", err)
	}
	return nil
}

func startStopped() (pid int, err error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return 0, err
	}
	defer null.Close()
	pid, err = syscall.ForkExec("/proc/self/exe", []string{"stopped"}, &syscall.ProcAttr{
		Files: []uintptr{null.Fd()}, Sys: &syscall.SysProcAttr{Ptrace: true},
	})
	if err != nil {
		return 0, os.NewSyscallError("execve", err)
	}
	if err := wait(pid, 0); err != nil {
		return pid, err
	}
	// Let go with a stop signal, it stays where it is.
	if _, _, errno := syscall.Syscall6(unix.SYS_PTRACE, unix.PTRACE_DETACH, uintptr(pid), 0, uintptr(unix.SIGSTOP), 0, 0); errno != 0 {
		return pid, os.NewSyscallError("ptrace", errno)
	}
	return pid, wait(pid, unix.WUNTRACED)
}

// wait waits for a child's end, or as options say for its stop.
func wait(pid, options int) error {
	for {
		if _, err := unix.Wait4(pid, nil, options, nil); err != unix.EINTR {
			return os.NewSyscallError("wait4", err)
		}
	}
}

func end(pid int) {
	if unix.Kill(pid, unix.SIGKILL) == nil {
		_ = wait(pid, 0) // it is ours, and dead
	}
}
