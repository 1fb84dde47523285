package inside

import (
	"context"
	"fmt"
	"runtime/debug"
	"syscall"
	"unsafe"

	"github.com/sallyport/sallyport/verify/probe"
	"golang.org/x/sys/unix"
)

// compat makes a 32-bit system call (int $0x80). The kernel without
// CONFIG_IA32_EMULATION answers with SIGSEGV.
func compat(number, a, b, c uintptr) (result uintptr)

// The 32-bit numbers of the kernel's syscall_32.tbl and net.h.
const (
	compatSocketcall = 102
	callSocket       = 1
)

// compatVsock opens the socket by the 32-bit socketcall, as a 32-bit program would.
func compatVsock(context.Context, probe.Target) (did string, err error) {
	if !listed("AF_VSOCK") {
		return "", absence("protocol AF_VSOCK in the running kernel")
	}
	// The arguments are read at a 32-bit address.
	page, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_32BIT)
	if err != nil {
		return "", fmt.Errorf("mmap: %w", err)
	}
	defer unix.Munmap(page)
	arguments := (*[3]uint32)(unsafe.Pointer(&page[0]))
	*arguments = [3]uint32{unix.AF_VSOCK, unix.SOCK_STREAM | unix.SOCK_CLOEXEC, 0}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if recover() != nil {
			did, err = "", fmt.Errorf("32-bit system calls: %w", unix.ENOSYS)
		}
	}()
	result := int32(compat(compatSocketcall, callSocket, uintptr(unsafe.Pointer(arguments)), 0))
	if result < 0 {
		return "", fmt.Errorf("32-bit socketcall: %w", syscall.Errno(-result))
	}
	return opened("a 32-bit socketcall", int(result), nil)
}
