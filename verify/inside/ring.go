package inside

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"
	"unsafe"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/verify/probe"
	"golang.org/x/sys/unix"
)

const ringName = "io-uring-connect"

func ringProbes() []probe.Probe {
	return []probe.Probe{{
		Name: ringName, Group: probe.Container, Why: "io_uring opens and connects sockets without the system calls that filters see",
		Source: "moby/moby pull request 46762, CVE-2023-2598", Try: connectByRing,
	}}
}

// The layout of io_uring(7): offsets into the parameters and the two rings.
const (
	ringEntries   = 4
	submitSize    = 64 // of struct io_uring_sqe
	completeSize  = 16 // of struct io_uring_cqe
	offsetSubmits = 0x10000000
	opConnect     = 16
	opSocket      = 45
	getEvents     = 1
	alwaysAsync   = 1 << 4 // by a worker of the kernel's, which no signal of the runtime interrupts
)

type ringParams struct {
	submitEntries, completeEntries, flags, cpu, idle, features, queue uint32
	_                                                                 [3]uint32
	submit                                                            struct {
		head, tail, mask, entries, flags, dropped, array, _ uint32
		_                                                   uint64
	}
	complete struct {
		head, tail, mask, entries, overflow, cqes, flags, _ uint32
		_                                                   uint64
	}
}

// ring is an io_uring of which one operation at a time is used.
type ring struct {
	fd                        int
	params                    ringParams
	submits, completes, queue []byte
}

func openRing() (*ring, error) {
	r := &ring{}
	fd, _, errno := syscall.Syscall(unix.SYS_IO_URING_SETUP, ringEntries, uintptr(unsafe.Pointer(&r.params)), 0)
	if errno != 0 {
		return nil, os.NewSyscallError("io_uring_setup", errno)
	}
	r.fd = int(fd)
	p := &r.params
	for _, m := range []struct {
		to     *[]byte
		offset int64
		size   uint32
	}{
		{&r.submits, 0, p.submit.array + p.submitEntries*4},
		{&r.completes, 0x8000000, p.complete.cqes + p.completeEntries*completeSize},
		{&r.queue, offsetSubmits, p.submitEntries * submitSize},
	} {
		var err error
		if *m.to, err = unix.Mmap(r.fd, m.offset, int(m.size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE); err != nil {
			r.close()
			return nil, os.NewSyscallError("mmap", err)
		}
	}
	return r, nil
}

func (r *ring) close() {
	for _, m := range [][]byte{r.submits, r.completes, r.queue} {
		if m != nil {
			_ = unix.Munmap(m)
		}
	}
	_ = unix.Close(r.fd)
}

func word(ring []byte, offset uint32) *uint32 { return (*uint32)(unsafe.Pointer(&ring[offset])) }

// do runs one operation and returns its result. fd, off, address and length are
// the fields of struct io_uring_sqe that it uses.
func (r *ring) do(op uint8, fd int32, off, address uint64, length uint32) (int, error) {
	p := &r.params
	tail := word(r.submits, p.submit.tail)
	slot := *tail & *word(r.submits, p.submit.mask)
	entry := r.queue[slot*submitSize : (slot+1)*submitSize]
	clear(entry)
	entry[0], entry[1] = op, alwaysAsync
	*(*int32)(unsafe.Pointer(&entry[4])) = fd
	*(*uint64)(unsafe.Pointer(&entry[8])) = off
	*(*uint64)(unsafe.Pointer(&entry[16])) = address
	*(*uint32)(unsafe.Pointer(&entry[24])) = length
	*word(r.submits, p.submit.array+slot*4) = slot
	atomic.AddUint32(tail, 1)
	head := word(r.completes, p.complete.head)
	for {
		_, _, errno := syscall.Syscall6(unix.SYS_IO_URING_ENTER, uintptr(r.fd), 1, 1, getEvents, 0, 0)
		if errno != 0 && errno != unix.EINTR {
			return 0, os.NewSyscallError("io_uring_enter", errno)
		}
		if at := *head; at != atomic.LoadUint32(word(r.completes, p.complete.tail)) {
			result := *(*int32)(unsafe.Pointer(&r.completes[p.complete.cqes+(at&*word(r.completes, p.complete.mask))*completeSize+8]))
			atomic.AddUint32(head, 1)
			if result < 0 {
				return 0, syscall.Errno(-result)
			}
			return int(result), nil
		}
	}
}

// connectByRing connects to the internet by a ring, and asks for a page under a
// name that is this probe's own: if it gets as far as that, the record has it.
func connectByRing(ctx context.Context, t probe.Target) probe.Finding {
	r, err := openRing()
	if err != nil {
		return probe.Stopped(err, "refused")
	}
	defer r.close()
	if !t.Public4.IsValid() {
		return probe.Missing("internet")
	}
	fd, err := r.do(opSocket, unix.AF_INET, unix.SOCK_STREAM, 0, 0)
	if errors.Is(err, unix.EINVAL) { // before Linux 5.19
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	}
	if err != nil {
		return probe.Stopped(err, "a socket by io_uring")
	}
	defer unix.Close(fd)
	to := netip.AddrPortFrom(t.Public4, 443)
	address := &unix.RawSockaddrInet4{Family: unix.AF_INET, Port: 443>>8 | 443&0xff<<8, Addr: to.Addr().As4()}
	var pinned runtime.Pinner // the kernel reads it by its number alone
	pinned.Pin(address)
	defer pinned.Unpin()
	_, err = r.do(opConnect, int32(fd), uint64(unsafe.Sizeof(*address)), uint64(uintptr(unsafe.Pointer(address))), 0)
	if err != nil {
		return connected(err, t, to)
	}
	return talk(fd, t, to)
}

// talk says what it wants and listens. The wall accepts every connection to learn
// that, and refuses then.
func talk(fd int, t probe.Target, to netip.AddrPort) probe.Finding {
	wait := unix.Timeval{Sec: 2}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
		return probe.Unproven("set a deadline: %v", err)
	}
	if _, err := unix.Write(fd, fmt.Appendf(nil, "GET / HTTP/1.0\r\nHost: %s\r\n\r\n", t.Name(ringName))); err != nil {
		return connected(err, t, to)
	}
	answer := make([]byte, 512)
	n, err := unix.Read(fd, answer)
	for err == unix.EINTR {
		n, err = unix.Read(fd, answer)
	}
	switch {
	case err != nil:
		return connected(err, t, to)
	case n == 0:
		return probe.Unproven("connected by io_uring; closed without a word")
	case refusedByUs(answer[:n]):
		return probe.Blocked("connected by io_uring, and got the gateway's 403", wanted(t, to))
	}
	return probe.Reached("connected by io_uring; it answered %.60q", answer[:n])
}

func connected(err error, t probe.Target, to netip.AddrPort) probe.Finding {
	if errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.ECONNREFUSED) {
		return probe.Blocked("connect by io_uring: "+err.Error(), wanted(t, to))
	}
	return probe.Stopped(err, "connect by io_uring")
}

func wanted(t probe.Target, to netip.AddrPort) probe.Event {
	return probe.Event{Layer: audit.LayerIntercept, Proto: "tcp", Dst: to.String(), Host: t.Name(ringName)}
}

// refusedByUs tells the gateway's own refusal by its header.
func refusedByUs(answer []byte) bool {
	return bytes.HasPrefix(answer, []byte("HTTP/1.")) && bytes.Contains(answer, []byte("\r\nX-Sallyport-Reason:"))
}
