package confine

import (
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// TestSocketFilter runs the program on calls of every kind of program.
func TestSocketFilter(t *testing.T) {
	for goarch, list := range abis {
		filter, err := socketFilter(list)
		if err != nil {
			t.Fatal(err)
		}
		var program []bpf.Instruction
		for _, f := range filter {
			program = append(program, bpf.RawInstruction{Op: f.Code, Jt: f.Jt, Jf: f.Jf, K: f.K}.Disassemble())
		}
		vm, err := bpf.NewVM(program)
		if err != nil {
			t.Fatalf("%s: %v", goarch, err)
		}
		verdict := func(arch, call uint32, arg0 uint64) uint32 {
			// The machine here reads numbers big-endian, the kernel its own way.
			var data [64]byte
			binary.BigEndian.PutUint32(data[offsetCall:], call)
			binary.BigEndian.PutUint32(data[offsetArch:], arch)
			binary.BigEndian.PutUint32(data[offsetArg0:], uint32(arg0))
			binary.BigEndian.PutUint32(data[offsetArg0+4:], uint32(arg0>>32))
			n, err := vm.Run(data[:])
			if err != nil {
				t.Fatal(err)
			}
			return uint32(n)
		}
		errno := func(e unix.Errno) uint32 { return unix.SECCOMP_RET_ERRNO | uint32(e) }
		for _, a := range list {
			for _, call := range a.sockets {
				for family := range uint64(64) {
					want := errno(unix.EAFNOSUPPORT)
					switch family {
					case unix.AF_UNIX, unix.AF_INET, unix.AF_INET6, unix.AF_NETLINK, unix.AF_PACKET:
						want = unix.SECCOMP_RET_ALLOW
					}
					if got := verdict(a.arch, call, family); got != want {
						t.Errorf("%s, %#x: socket of family %d: %#x", goarch, a.arch, family, got)
					}
				}
				// The kernel takes the family from the lower half.
				if got := verdict(a.arch, call, 1<<32|unix.AF_VSOCK); got != errno(unix.EAFNOSUPPORT) {
					t.Errorf("%s: a family with a high half: %#x", goarch, got)
				}
			}
			for _, call := range a.closed {
				if got := verdict(a.arch, call, 0); got != errno(unix.EPERM) {
					t.Errorf("%s, %#x: call %d: %#x", goarch, a.arch, call, got)
				}
			}
			if got := verdict(a.arch, 0, 0); got != unix.SECCOMP_RET_ALLOW {
				t.Errorf("%s, %#x: an ordinary call: %#x", goarch, a.arch, got)
			}
		}
		if got := verdict(unix.AUDIT_ARCH_S390X, 0, 0); got != errno(unix.EPERM) {
			t.Errorf("%s: a foreign program: %#x", goarch, got)
		}
		if goarch == "amd64" {
			if got := verdict(unix.AUDIT_ARCH_X86_64, x32Bit|41, unix.AF_VSOCK); got != errno(unix.ENOSYS) {
				t.Errorf("x32: %#x", got)
			}
		}
	}
	if _, err := socketFilter(nil); err == nil {
		t.Error("an architecture without a filter is let through")
	}
}

// A process with the filter, which another thread has set.
func TestSockets(t *testing.T) {
	const child = "SALLYPORT_TEST_SOCKETS"
	if os.Getenv(child) == "" {
		c := exec.Command(os.Args[0], "-test.run=^TestSockets$", "-test.v")
		c.Env = append(os.Environ(), child+"=yes")
		if out, err := c.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestSockets") {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	ready, done := make(chan struct{}), make(chan error)
	go func() {
		runtime.LockOSThread() // a thread that was there before
		close(ready)
		done <- func() error {
			<-done
			return socketOf(unix.AF_VSOCK)
		}()
	}()
	<-ready
	if err := Sockets(); err != nil {
		t.Fatal(err)
	}
	done <- nil
	if err := <-done; !errors.Is(err, unix.EAFNOSUPPORT) {
		t.Errorf("AF_VSOCK of another thread: %v", err)
	}
	for family, want := range map[int]error{unix.AF_VSOCK: unix.EAFNOSUPPORT, unix.AF_ALG: unix.EAFNOSUPPORT, unix.AF_CAN: unix.EAFNOSUPPORT, unix.AF_UNIX: nil, unix.AF_INET: nil} {
		if err := socketOf(family); !errors.Is(err, want) {
			t.Errorf("family %d: %v, not %v", family, err, want)
		}
	}
	if _, _, err := unix.Syscall(ioUringSetup, 1, 0, 0); err != unix.EPERM {
		t.Errorf("io_uring_setup: %v", err)
	}
	held, err := Held()
	if err != nil || !held.NoNewPrivileges {
		t.Errorf("%+v, %v", held, err)
	}
}

func socketOf(family int) error {
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		unix.Close(fd)
	}
	return err
}
