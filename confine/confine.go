// Package confine takes from a thread, and from the program that it then becomes,
// what is not needed any more: capabilities, the means to gain new ones, and by
// Landlock (landlock(7)) all files, programs and ports but those named. It knows
// how that is done and whether it was, not what any program needs.
//
// A Go program cannot confine its other threads where cgo is in it, so what is done
// here is done to the calling thread. Lock the goroutine to it (runtime.LockOSThread)
// and execute the program anew (execve(2)): all its threads begin confined.
package confine

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Rules are what Landlock leaves to a process. Nothing else may be opened, made,
// removed, executed or listened on; the zero value leaves nothing. A file that is
// open already stays usable. No rule takes away what Landlock knows nothing of:
// looking whether a file is there (stat), changing its mode, connecting to a socket
// that has a path.
type Rules struct {
	Read  []string // files, or folders with all that is in them; one that is not there is left out
	Write []string // read and written too; in a folder also made, renamed and removed; each must be there
	Run   []string // programs that may be executed; each must be there
	Bind  []uint16 // TCP ports that may be listened on; zero stands for any that is free
	// Connect leaves TCP connections to every port; false: to none.
	Connect bool
}

// Check reports a rule that would leave everything.
func (r Rules) Check() error {
	for _, list := range [][]string{r.Read, r.Write} {
		for _, path := range list {
			if path == "/" || path == "" {
				return fmt.Errorf("confine to %q: that is no confinement", path)
			}
		}
	}
	return nil
}

// Kernel is what the kernel has of Landlock.
type Kernel struct {
	ABI int    // version of its interface; zero: it has none, or it may not be used
	Why string // ABI zero: why
}

// Ask asks the kernel. An error is one that no kernel without Landlock gives.
func Ask() (Kernel, error) { return ask(version) }

// version is landlock_create_ruleset(2) with LANDLOCK_CREATE_RULESET_VERSION.
func version() (int, error) {
	v, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0, errno
	}
	return int(v), nil
}

func ask(version func() (int, error)) (Kernel, error) {
	abi, err := version()
	switch {
	case errors.Is(err, unix.ENOSYS):
		return Kernel{Why: "this kernel has no Landlock"}, nil
	case errors.Is(err, unix.EOPNOTSUPP):
		return Kernel{Why: "Landlock is switched off on this machine (boot parameter lsm=)"}, nil
	case errors.Is(err, unix.EPERM): // the filter of an engine that is older than Landlock
		return Kernel{Why: "a filter of system calls forbids Landlock here"}, nil
	case err != nil:
		return Kernel{}, fmt.Errorf("ask for the kernel's Landlock: %w", err)
	case abi < 1:
		return Kernel{}, fmt.Errorf("ask for the kernel's Landlock: it says version %d", abi)
	}
	return Kernel{ABI: abi}, nil
}

// InForce fails unless Landlock keeps this thread from what no rule can leave it.
// Without Landlock in the kernel there is nothing to look at.
func (k Kernel) InForce() error {
	if k.ABI == 0 {
		return nil
	}
	root, err := os.Open("/")
	if err == nil {
		root.Close()
		return errors.New("the root folder can be read, so Landlock is not in force although the kernel has it")
	}
	if !errors.Is(err, unix.EACCES) {
		return fmt.Errorf("look whether Landlock is in force: %w", err)
	}
	return nil
}

// NoNewPrivileges makes sure that nothing that this thread executes gives it more
// than it has: no set-user-id bit, no file capability (prctl(2)).
func NoNewPrivileges() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("gain no new privileges: %w", err)
	}
	return nil
}
