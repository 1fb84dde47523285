package inside

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"unsafe"

	"github.com/sallyport/sallyport/verify/probe"
	"golang.org/x/sys/unix"
)

// nowhere is a path that there is not: a call that takes it fails after the
// permission check.
const nowhere = "/proc/sallyport-no-such-file"

func kernelProbes() []probe.Probe {
	admin := []string{"SYS_ADMIN"}
	return probes([]row{
		{"keyctl", "key rings know no container: the host's keys", "keyrings(7), CVE-2016-0728", nil, readKeyring},
		{"add-key", "key rings know no container: the host's keys", "add_key(2), CVE-2016-0728", nil, addKey},
		{"request-key", "the host's kernel runs /sbin/request-key, outside", "request_key(2)", nil, requestKey},
		{"bpf", "a program in the kernel sees and changes every packet of the host", "CVE-2021-3490, bpf(2)", admin, makeMap},
		{"perf-event-open", "it watches the host's processes, and has been a way to root", "CVE-2013-2094, perf_event_open(2)", admin, openPerf},
		{"userfaultfd", "it holds the kernel still while an attack takes its time", "userfaultfd(2)", []string{"SYS_PTRACE"}, openUserfault},
		{"fanotify", "it watches every file of the host's file system", "fanotify_init(2)", admin, openFanotify},
		{"kexec-load", "another kernel in place of the host's", "kexec_load(2)", []string{"SYS_BOOT"}, loadKernel},
		{"init-module", "a module is the host's kernel", "init_module(2)", []string{"SYS_MODULE"}, loadModule},
		{"finit-module", "a module is the host's kernel", "finit_module(2)", []string{"SYS_MODULE"}, loadModuleFile},
		{"delete-module", "modules of the wall's rules may be taken away", "delete_module(2)", []string{"SYS_MODULE"}, deleteModule},
		{"io-ports", "the machine's hardware", "iopl(2), ioperm(2)", []string{"SYS_RAWIO"}, onThread(usePorts)},
		{"open-by-handle", "a file by its number instead of its path: the host's files (Shocker)", "open_by_handle_at(2), CVE-2014-3519", []string{"DAC_READ_SEARCH"}, openHandle},
		{"reboot", "the machine's end", "reboot(2)", []string{"SYS_BOOT"}, restart},
		{"swapon", "memory of every process, in a file of one's own", "swapon(2)", admin, swapOn},
		{"sethostname", "another name in the host's logs", "sethostname(2)", admin, setHostname},
		{"set-clock", "another time in the record, and for certificates", "settimeofday(2)", []string{"SYS_TIME"}, setClock},
		{"adjust-clock", "another time in the record, and for certificates", "adjtimex(2)", []string{"SYS_TIME"}, adjustClock},
		{"kernel-log", "addresses in the kernel, and what the host does", "syslog(2)", []string{"SYSLOG"}, readLog},
		{"process-accounting", "the host's kernel writes to a file of one's own", "acct(2)", []string{"SYS_PACCT"}, account},
		{"quota", "the limits of the host's users", "quotactl(2)", admin, quota},
	})
}

func readKeyring(context.Context, probe.Target) (string, error) {
	_, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_USER_KEYRING, true)
	return passed("keyctl", err, unix.ENOKEY)
}

// addKey adds one to the thread's own ring, which ends with the thread.
func addKey(ctx context.Context, t probe.Target) (string, error) {
	return onThread(func(context.Context, probe.Target) (string, error) {
		_, err := unix.AddKey("user", "sallyport-probe", []byte("none"), unix.KEY_SPEC_THREAD_KEYRING)
		return passed("add_key", err)
	})(ctx, t)
}

// requestKey names no program that could be asked: without callout information
// nothing is run.
func requestKey(context.Context, probe.Target) (string, error) {
	kind, name := cString("user"), cString("sallyport-probe")
	return passed("request_key", raw(unix.SYS_REQUEST_KEY, uintptr(unsafe.Pointer(kind)), uintptr(unsafe.Pointer(name)), 0), unix.ENOKEY)
}

func makeMap(context.Context, probe.Target) (string, error) {
	const create, array = 0, 2
	attributes := struct{ kind, keySize, valueSize, entries, flags uint32 }{array, 4, 4, 1, 0}
	fd, _, errno := syscall.Syscall(unix.SYS_BPF, create, uintptr(unsafe.Pointer(&attributes)), unsafe.Sizeof(attributes))
	return opened("bpf", int(fd), errnoOf(errno))
}

func openPerf(context.Context, probe.Target) (string, error) {
	attributes := &unix.PerfEventAttr{Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_CPU_CLOCK, Size: uint32(unsafe.Sizeof(unix.PerfEventAttr{}))}
	fd, err := unix.PerfEventOpen(attributes, -1, 0, -1, unix.PERF_FLAG_FD_CLOEXEC) // all that one processor does
	return opened("perf_event_open", fd, err)
}

func openUserfault(context.Context, probe.Target) (string, error) {
	fd, _, errno := syscall.Syscall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC|unix.O_NONBLOCK, 0, 0)
	return opened("userfaultfd", int(fd), errnoOf(errno))
}

func openFanotify(context.Context, probe.Target) (string, error) {
	fd, err := unix.FanotifyInit(unix.FAN_CLASS_CONTENT|unix.FAN_CLOEXEC, unix.O_RDONLY)
	return opened("fanotify_init", fd, err)
}

// loadKernel has flags that there are not: no flags and no segments would unload
// the machine's crash kernel.
func loadKernel(context.Context, probe.Target) (string, error) {
	const unknownFlags, tooMany = 0xff00, 1 << 20
	_, _, errno := syscall.Syscall6(unix.SYS_KEXEC_LOAD, 0, tooMany, 0, unknownFlags, 0, 0)
	return passed("kexec_load", errnoOf(errno), unix.EINVAL)
}

func loadModule(context.Context, probe.Target) (string, error) {
	none := cString("")
	return passed("init_module", raw(unix.SYS_INIT_MODULE, 0, 0, uintptr(unsafe.Pointer(none))), unix.ENOEXEC, unix.EFAULT)
}

func loadModuleFile(context.Context, probe.Target) (string, error) {
	const unknownFlags = 1 << 20
	none := cString("")
	return passed("finit_module", raw(unix.SYS_FINIT_MODULE, ^uintptr(0), uintptr(unsafe.Pointer(none)), unknownFlags), unix.EINVAL, unix.EBADF)
}

func deleteModule(context.Context, probe.Target) (string, error) {
	return passed("delete_module", unix.DeleteModule("sallyport_no_such_module", unix.O_NONBLOCK), unix.ENOENT)
}

// openHandle opens a file that the engine mounts from the host's file system.
func openHandle(context.Context, probe.Target) (string, error) {
	const file = "/etc/hosts"
	handle, _, err := unix.NameToHandleAt(unix.AT_FDCWD, file, 0)
	if errors.Is(err, unix.EOPNOTSUPP) {
		handle, err = unix.NewFileHandle(1, make([]byte, 8)), nil // of another: ESTALE comes after the check
	}
	if err != nil {
		return "", os.NewSyscallError("name_to_handle_at", err)
	}
	mount, err := unix.Open(file, unix.O_RDONLY|unix.O_CLOEXEC, 0) // any file of the mount stands for it
	if err != nil {
		return "", fmt.Errorf("open %s: %w", file, err)
	}
	defer unix.Close(mount)
	fd, err := unix.OpenByHandleAt(mount, handle, unix.O_RDONLY|unix.O_CLOEXEC)
	if err != nil {
		return passed("open_by_handle_at", err, unix.ESTALE)
	}
	return opened("open_by_handle_at", fd, nil)
}

// restart lacks the numbers without which the kernel restarts nothing.
func restart(context.Context, probe.Target) (string, error) {
	return passed("reboot", raw(unix.SYS_REBOOT, 0, 0, 0), unix.EINVAL)
}

func swapOn(context.Context, probe.Target) (string, error) {
	file := cString(nowhere)
	return passed("swapon", raw(unix.SYS_SWAPON, uintptr(unsafe.Pointer(file)), 0, 0), unix.ENOENT)
}

// setHostname sets the name that there is.
func setHostname(context.Context, probe.Target) (string, error) {
	name, err := os.Hostname()
	if err != nil {
		return "", err
	}
	return passed("sethostname", unix.Sethostname([]byte(name)))
}

// setClock names neither a time nor a zone, which sets nothing.
func setClock(context.Context, probe.Target) (string, error) {
	return passed("settimeofday", raw(unix.SYS_SETTIMEOFDAY, 0, 0, 0))
}

// adjustClock asks for a tick of no length, which the kernel refuses to everybody.
func adjustClock(context.Context, probe.Target) (string, error) {
	_, err := unix.Adjtimex(&unix.Timex{Modes: unix.ADJ_TICK, Tick: 0})
	return passed("adjtimex", err, unix.EINVAL)
}

func readLog(context.Context, probe.Target) (string, error) {
	const readAll = 3
	_, err := unix.Klogctl(readAll, make([]byte, 64))
	return passed("syslog", err)
}

func account(context.Context, probe.Target) (string, error) {
	return passed("acct", unix.Acct(nowhere), unix.ENOENT)
}

// quota is refused by the engine's filter alone: the kernel looks for the device
// before it looks at who asks.
func quota(context.Context, probe.Target) (string, error) {
	const getFormat = 0x800004 << 8
	device, format := cString(nowhere), uint32(0)
	_, _, errno := syscall.Syscall6(unix.SYS_QUOTACTL, getFormat, uintptr(unsafe.Pointer(device)), 0, uintptr(unsafe.Pointer(&format)), 0, 0)
	return passed("quotactl", errnoOf(errno), unix.ENOENT, unix.ENODEV, unix.ENOTBLK)
}

func cString(s string) *byte {
	b := append([]byte(s), 0)
	return &b[0]
}
