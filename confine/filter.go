package confine

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// families are the socket families that agents get: what the wall or the container's
// own namespaces end. AF_VSOCK above all leads past every network namespace, to the
// machine's hypervisor; engines before 23 let it pass (moby 44712, 53551).
var families = []uint32{unix.AF_UNIX, unix.AF_INET, unix.AF_INET6, unix.AF_NETLINK, unix.AF_PACKET}

// abi is how one kind of program calls the kernel.
type abi struct {
	arch    uint32   // AUDIT_ARCH_…
	sockets []uint32 // calls that make a socket of a family, the first argument; empty: none is let through
	closed  []uint32 // calls that are refused: they hide the family in memory, or make sockets by themselves
}

const ioUringSetup = 425 // on every architecture

// abis are those that a kernel for this architecture runs, its own first.
var abis = map[string][]abi{
	"amd64": {
		{unix.AUDIT_ARCH_X86_64, []uint32{41}, []uint32{ioUringSetup}},
		{unix.AUDIT_ARCH_I386, []uint32{359}, []uint32{102, ioUringSetup}}, // socketcall
	},
	"arm64": {
		{unix.AUDIT_ARCH_AARCH64, []uint32{198}, []uint32{ioUringSetup}},
		{unix.AUDIT_ARCH_ARM, []uint32{281}, []uint32{102, ioUringSetup}},
	},
}

// Offsets in struct seccomp_data, and the mark of x32 calls (asm/unistd.h).
const (
	offsetCall = 0
	offsetArch = 4
	offsetArg0 = 16
	x32Bit     = 0x40000000
)

// Sockets lets every thread of this process, and what it executes, make no sockets but
// those of a few families: internet, unix, netlink, packet. Another one is
// EAFNOSUPPORT, io_uring EPERM. It sets no new privileges. It cannot be undone.
func Sockets() error {
	program, err := socketFilter(abis[runtime.GOARCH])
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := NoNewPrivileges(); err != nil { // of the other threads too, with the filter
		return err
	}
	fprog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	thread, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&fprog)))
	if errno != 0 {
		return fmt.Errorf("filter system calls: %w", errno)
	}
	if thread != 0 {
		return fmt.Errorf("filter system calls: thread %d has a filter of its own", thread)
	}
	return nil
}

// socketFilter writes the program (seccomp(2)). A program of another kind than those
// in list may call nothing.
func socketFilter(list []abi) ([]unix.SockFilter, error) {
	if len(list) == 0 {
		return nil, fmt.Errorf("filter system calls: not written for %s", runtime.GOARCH)
	}
	deny := func(errno unix.Errno) unix.SockFilter { return ret(unix.SECCOMP_RET_ERRNO | uint32(errno)) }
	var program []unix.SockFilter
	for _, a := range list {
		body := []unix.SockFilter{load(offsetCall)}
		if a.arch == unix.AUDIT_ARCH_X86_64 {
			body = append(body, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: x32Bit, Jf: 1}, deny(unix.ENOSYS))
		}
		for _, call := range a.closed {
			body = append(body, equal(call, 0, 1), deny(unix.EPERM))
		}
		for _, call := range a.sockets {
			check := []unix.SockFilter{load(offsetArg0)}
			for _, f := range families {
				check = append(check, equal(f, 0, 1), ret(unix.SECCOMP_RET_ALLOW))
			}
			check = append(check, deny(unix.EAFNOSUPPORT))
			body = append(append(body, equal(call, 0, uint8(len(check)))), check...)
		}
		body = append(body, ret(unix.SECCOMP_RET_ALLOW))
		program = append(append(program, load(offsetArch), equal(a.arch, 0, uint8(len(body)))), body...)
	}
	return append(program, deny(unix.EPERM)), nil
}

func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

func ret(k uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k} }

// equal skips yes or no instructions.
func equal(k uint32, yes, no uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: k, Jt: yes, Jf: no}
}
