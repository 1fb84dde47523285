package inside

import (
	"context"
	"fmt"
	"os"
	"syscall"

	"github.com/sallyport/sallyport/verify/probe"
	"golang.org/x/sys/unix"
)

func privilegeProbes() []probe.Probe {
	return probes([]row{
		{"capset", "with one more capability, what the others try here works", "capabilities(7)", []string{"SYS_ADMIN"}, onThread(raiseCapability)},
		{"bounding-set", "a program with file capabilities would give what the bounding set holds", "capabilities(7)", []string{"SYS_ADMIN"}, onThread(raiseAmbient)},
		{"become-root", "root in the container owns what root owns on the host", "setresuid(2)", nil, onThread(becomeRoot)},
		{"set-user-id", "a set-user-ID program would run as root", "Linux, Documentation/userspace-api/no_new_privs.rst", nil, newPrivileges},
	})
}

// ordinary are the capabilities that Docker gives to a container's root.
var ordinary = []uint{unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FSETID, unix.CAP_FOWNER, unix.CAP_MKNOD, unix.CAP_NET_RAW, unix.CAP_SETGID,
	unix.CAP_SETUID, unix.CAP_SETFCAP, unix.CAP_SETPCAP, unix.CAP_NET_BIND_SERVICE, unix.CAP_SYS_CHROOT, unix.CAP_KILL, unix.CAP_AUDIT_WRITE}

// beyond are the capabilities that whoever runs here should not be able to have:
// all, but for what root in an ordinary container has.
func beyond(t probe.Target) []uint {
	var list []uint
	for c := uint(0); c <= unix.CAP_LAST_CAP; c++ {
		if !t.Root || !has(ordinary, c) {
			list = append(list, c)
		}
	}
	return list
}

func has(list []uint, c uint) bool {
	for _, one := range list {
		if one == c {
			return true
		}
	}
	return false
}

// raiseCapability asks for each by itself, on a thread that ends.
func raiseCapability(_ context.Context, t probe.Target) (string, error) {
	header := &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var before [2]unix.CapUserData
	if err := unix.Capget(header, &before[0]); err != nil {
		return "", os.NewSyscallError("capget", err)
	}
	refused := error(absence("capability to ask for"))
	for _, c := range beyond(t) {
		wanted := before
		wanted[c/32].Permitted |= 1 << (c % 32)
		wanted[c/32].Effective |= 1 << (c % 32)
		if refused = unix.Capset(header, &wanted[0]); refused == nil {
			return fmt.Sprintf("capability %d is to be had", c), nil
		}
	}
	return "", os.NewSyscallError("capset", refused)
}

// raiseAmbient asks for what survives the execution of a program, and looks at what
// the bounding set would let it gain there.
func raiseAmbient(_ context.Context, t probe.Target) (string, error) {
	refused := error(absence("capability to ask for"))
	for _, c := range beyond(t) {
		if in, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(c), 0, 0, 0); err == nil && in == 1 {
			return fmt.Sprintf("capability %d is in the bounding set", c), nil
		}
		if refused = unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, uintptr(c), 0, 0); refused == nil {
			return fmt.Sprintf("capability %d can be handed on", c), nil
		}
	}
	return "", os.NewSyscallError("prctl", refused)
}

// notRoot leaves out who is root already.
func notRoot(t probe.Target) error {
	if t.Setting == probe.Sandbox && t.Root {
		return absence("user other than root")
	}
	return nil
}

// becomeRoot changes its own thread alone: unix.Setresuid would change all.
func becomeRoot(_ context.Context, t probe.Target) (string, error) {
	if err := notRoot(t); err != nil {
		return "", err
	}
	return passed("setresuid", raw(syscall.SYS_SETRESUID, 0, 0, 0))
}

// newPrivileges asks whether executing a program may give any. The errno is that
// of getting them otherwise: execve itself refuses nothing, it gives nothing.
func newPrivileges(ctx context.Context, t probe.Target) (string, error) {
	if err := notRoot(t); err != nil {
		return "", err
	}
	set, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	if err != nil {
		return "", os.NewSyscallError("prctl", err)
	}
	if set != 1 {
		return "no_new_privs is not set", nil
	}
	if _, err = onThread(becomeRoot)(ctx, t); err == nil {
		return "no_new_privs is set, and of no use: this is root", nil
	}
	return "", fmt.Errorf("no_new_privs is set; without a program: %w", err)
}
