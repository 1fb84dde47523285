package origin

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// report is what a process in the sandbox says that it did.
type report struct {
	PID, UID int
	Src      netip.AddrPort
	Parents  []int `json:",omitempty"` // the nearest first
}

// parentsVariable has the pids of our parents, the first one first.
const parentsVariable = "SALLYPORT_TEST_PARENTS"

// tell reports what process pid, with us and ours above it or not, did.
func tell(pid int, src netip.AddrPort) error {
	r := report{PID: pid, UID: os.Getuid(), Src: src}
	for _, s := range strings.Fields(os.Getenv(parentsVariable)) {
		parent, err := strconv.Atoi(s)
		if err != nil {
			return err
		}
		r.Parents = append([]int{parent}, r.Parents...)
	}
	if pid != os.Getpid() {
		r.Parents = append([]int{os.Getpid()}, r.Parents...)
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

// runAgent is "N WAY PROTO ADDRESS [FROM]": below N parents it makes an attempt in
// one of several ways, reports it and waits for its end.
func runAgent(args []string) error {
	if depth, _ := strconv.Atoi(args[0]); depth > 0 {
		child := exec.Command("/proc/self/exe", append([]string{strconv.Itoa(depth - 1)}, args[1:]...)...)
		child.Stdin, child.Stdout, child.Stderr = os.Stdin, os.Stdout, os.Stderr
		child.Env = append(os.Environ(), fmt.Sprint(parentsVariable, "=", os.Getenv(parentsVariable), " ", os.Getpid()))
		return child.Run()
	}
	way, proto := args[1], args[2]
	to := netip.MustParseAddrPort(args[3])
	from := netip.AddrPortFrom(netip.IPv4Unspecified(), 0)
	if to.Addr().Is6() {
		from = netip.AddrPortFrom(netip.IPv6Unspecified(), 0)
	}
	if len(args) > 4 {
		from = netip.MustParseAddrPort(args[4])
	}
	switch way {
	case "flood":
		return flood(from, to)
	case "idle":
		return waitForEnd()
	case "hide", "hideandfork":
		if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
			return err
		}
	case "thread", "leader":
		if way == "leader" {
			go func() { // on a thread that outlives the first one
				runtime.LockOSThread()
				exitWith(attemptFrom(proto, from, to, 0))
			}()
			return endThread()
		}
		done := make(chan error)
		go func() { // on a thread with descriptors of its own
			runtime.LockOSThread()
			if err := unix.Unshare(unix.CLONE_FILES); err != nil {
				done <- err
				return
			}
			done <- attemptFrom(proto, from, to, 0)
		}()
		return <-done
	case "threadandchild":
		return apart(proto, from, to)
	case "namespace", "namespaces":
		// It connects, and goes on in user and network namespaces of its own.
		return elsewhere(proto, from, to, way == "namespaces")
	}
	return attemptFrom(proto, from, to, attemptFlags(way))
}

// What is done after an attempt.
const (
	andEnd = 1 << iota
	andClose
	andFork
	andExec
	andReset
)

func attemptFlags(way string) int {
	return map[string]int{"end": andEnd, "close": andClose, "fork": andFork, "hideandfork": andFork, "exec": andExec, "reset": andReset}[way]
}

// attemptFrom makes a socket, and attempts something with it.
func attemptFrom(proto string, from, to netip.AddrPort, and int) error {
	fd, src, err := attemptTo(proto, from, to)
	if err != nil {
		return err
	}
	if and&andReset != 0 { // the other end learns of it at once
		if err := unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}); err != nil {
			return err
		}
	}
	if and&(andClose|andReset) != 0 {
		unix.Close(fd)
	}
	if and&andFork != 0 {
		child := exec.Command("/proc/self/exe", "0", "idle", proto, to.String())
		child.Stdin, child.Stderr, child.ExtraFiles = os.Stdin, os.Stderr, []*os.File{os.NewFile(uintptr(fd), "socket")}
		if err := child.Start(); err != nil {
			return err
		}
		defer child.Wait()
		defer runtime.KeepAlive(child.ExtraFiles)
	}
	if err := tell(os.Getpid(), src); err != nil || and&andEnd != 0 {
		return err
	}
	if and&andExec != 0 {
		unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0)
		return syscall.Exec("/proc/self/exe", []string{"another", "0", "idle", proto, to.String()}, os.Environ())
	}
	return waitForEnd()
}

func attemptTo(proto string, from, to netip.AddrPort) (fd int, src netip.AddrPort, err error) {
	family, kind := unix.AF_INET, unix.SOCK_STREAM
	if from.Addr().Is6() {
		family = unix.AF_INET6
	}
	if proto != "tcp" {
		kind = unix.SOCK_DGRAM
	}
	if fd, err = unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0); err != nil {
		return fd, src, err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return fd, src, err
	}
	if proto == "reuse" {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
			return fd, src, err
		}
	}
	if err := unix.Bind(fd, address(from)); err != nil {
		return fd, src, fmt.Errorf("bind: %w", err)
	}
	switch proto {
	case "tcp", "connected":
		err = unix.Connect(fd, addressFor(family, to))
	default:
		err = unix.Sendto(fd, []byte("hello"), 0, addressFor(family, to))
	}
	if err != nil {
		return fd, src, fmt.Errorf("attempt: %w", err)
	}
	if proto == "connected" {
		if _, err := unix.Write(fd, []byte("hello")); err != nil {
			return fd, src, err
		}
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return fd, src, err
	}
	switch a := name.(type) {
	case *unix.SockaddrInet4:
		src = netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		src = netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), uint16(a.Port))
	}
	if src.Addr().IsUnspecified() {
		src = netip.AddrPortFrom(to.Addr(), src.Port()) // on lo each address is a source
	}
	return fd, src, nil
}

func address(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// addressFor maps an IPv4 address for a socket of IPv6.
func addressFor(family int, a netip.AddrPort) unix.Sockaddr {
	if family == unix.AF_INET6 {
		return address(netip.AddrPortFrom(netip.AddrFrom16(a.Addr().As16()), a.Port()))
	}
	return address(a)
}

// elsewhere is a process in user and network namespaces of its own that has the
// socket of one that is not, alone or with it.
func elsewhere(proto string, from, to netip.AddrPort, both bool) error {
	fd, src, err := attemptTo(proto, from, to)
	if err != nil {
		return err
	}
	child := exec.Command("/proc/self/exe", "0", "idle", proto, to.String())
	child.Stdin, child.Stderr, child.ExtraFiles = os.Stdin, os.Stderr, []*os.File{os.NewFile(uintptr(fd), "socket")}
	child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET}
	if err := child.Start(); err != nil {
		return err
	}
	if !both {
		child.ExtraFiles[0].Close()
	}
	defer runtime.KeepAlive(child.ExtraFiles)
	if err := tell(child.Process.Pid, src); err != nil {
		return err
	}
	return child.Wait()
}

// apart is a process whose child has a socket that it has itself only in a thread
// with descriptors of its own.
func apart(proto string, from, to netip.AddrPort) error {
	fd, src, err := attemptTo(proto, from, to)
	if err != nil {
		return err
	}
	child := exec.Command("/proc/self/exe", "0", "idle", proto, to.String())
	child.Stdin, child.Stderr, child.ExtraFiles = os.Stdin, os.Stderr, []*os.File{os.NewFile(uintptr(fd), "socket")}
	if err := child.Start(); err != nil {
		return err
	}
	done, end := make(chan error), make(chan struct{})
	defer close(end)
	go func() {
		runtime.LockOSThread()
		done <- unix.Unshare(unix.CLONE_FILES)
		<-end
	}()
	if err := <-done; err != nil {
		return err
	}
	child.ExtraFiles[0].Close()
	if err := tell(os.Getpid(), src); err != nil {
		return err
	}
	return child.Wait()
}

func exitWith(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// endThread ends the process's first thread; the others go on.
func endThread() error {
	runtime.LockOSThread()
	syscall.Syscall(syscall.SYS_EXIT, 0, 0, 0)
	return nil
}

// flood connects again and again until the test ends it.
func flood(from, to netip.AddrPort) error {
	if err := tell(os.Getpid(), from); err != nil {
		return err
	}
	for {
		fd, _, err := attemptTo("tcp", from, to)
		if err == nil {
			unix.Read(fd, make([]byte, 1)) // until it is reset
		}
		unix.Close(fd)
	}
}
