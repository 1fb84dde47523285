package confine

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Rights, by the version of the interface that brought them (linux/landlock.h).
const (
	filesFirst    = unix.LANDLOCK_ACCESS_FS_MAKE_SYM<<1 - 1
	filesRefer    = unix.LANDLOCK_ACCESS_FS_REFER     // 2
	filesTruncate = unix.LANDLOCK_ACCESS_FS_TRUNCATE  // 3
	filesIoctl    = unix.LANDLOCK_ACCESS_FS_IOCTL_DEV // 5

	toRead = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	toMake = unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_SOCK |
		unix.LANDLOCK_ACCESS_FS_REMOVE_FILE | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR
	toWrite = unix.LANDLOCK_ACCESS_FS_WRITE_FILE | filesTruncate
	toRun   = unix.LANDLOCK_ACCESS_FS_EXECUTE
	// ofFile are the rights that a rule about a file, not a folder, may have.
	ofFile = toRun | toWrite | unix.LANDLOCK_ACCESS_FS_READ_FILE | filesIoctl
)

// rulePort is LANDLOCK_RULE_NET_PORT.
const rulePort = 2

// rulesetAttr is struct landlock_ruleset_attr as version 6 has it; what an older
// kernel does not know is zero, and so it takes it.
type rulesetAttr struct{ files, net, scoped uint64 }

type portAttr struct{ access, port uint64 }

// handled is what the kernel is told to forbid unless a rule leaves it. Newer
// versions can forbid more: connections to sockets with a path (9), UDP (10). What
// the agents' own users' sockets are is not known at the start, and UDP is what
// names are asked by, so these are left alone.
func (k Kernel) handled(r Rules) rulesetAttr {
	a := rulesetAttr{files: filesFirst}
	if k.ABI >= 2 {
		a.files |= filesRefer
	}
	if k.ABI >= 3 {
		a.files |= filesTruncate
	}
	if k.ABI >= 4 {
		a.net = unix.LANDLOCK_ACCESS_NET_BIND_TCP
		if !r.Connect {
			a.net |= unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
		}
	}
	if k.ABI >= 5 {
		a.files |= filesIoctl
	}
	if k.ABI >= 6 {
		a.scoped = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL
	}
	return a
}

// Confine leaves this thread what r says, for good. Privileges cannot be gained any
// more either. Without Landlock in the kernel it does that much only.
func (k Kernel) Confine(r Rules) error {
	if err := r.Check(); err != nil {
		return err
	}
	if err := NoNewPrivileges(); err != nil {
		return err
	}
	if k.ABI == 0 {
		return nil
	}
	attr := k.handled(r)
	ruleset, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
	if errno != 0 {
		return fmt.Errorf("make Landlock's rules: %w", errno)
	}
	defer unix.Close(int(ruleset))
	if err := r.add(int(ruleset), attr); err != nil {
		return err
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, ruleset, 0, 0); errno != 0 {
		return fmt.Errorf("put Landlock's rules in force: %w", errno)
	}
	return nil
}

// add adds each rule to the kernel's set of them.
func (r Rules) add(ruleset int, attr rulesetAttr) error {
	lists := []struct {
		paths    []string
		access   uint64
		optional bool
	}{
		{r.Read, toRead, true},
		{r.Write, toRead | toWrite | toMake, false},
		{r.Run, toRun | unix.LANDLOCK_ACCESS_FS_READ_FILE, false},
	}
	for _, list := range lists {
		for _, path := range list.paths {
			if err := addPath(ruleset, path, list.access&attr.files); err != nil && !(list.optional && unreachable(err)) {
				return fmt.Errorf("leave %s usable: %w", path, err)
			}
		}
	}
	if attr.net == 0 {
		return nil
	}
	for _, port := range r.Bind {
		rule := portAttr{access: unix.LANDLOCK_ACCESS_NET_BIND_TCP, port: uint64(port)}
		if err := addRule(ruleset, rulePort, unsafe.Pointer(&rule)); err != nil {
			return fmt.Errorf("leave TCP port %d usable: %w", port, err)
		}
	}
	return nil
}

// unreachable: this process could not use the path anyway.
func unreachable(err error) bool {
	for _, is := range []error{unix.ENOENT, unix.ENOTDIR, unix.EACCES, unix.ELOOP} {
		if errors.Is(err, is) {
			return true
		}
	}
	return false
}

func addPath(ruleset int, path string, access uint64) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		access &= ofFile
	}
	rule := unix.LandlockPathBeneathAttr{Allowed_access: access, Parent_fd: int32(fd)}
	return addRule(ruleset, unix.LANDLOCK_RULE_PATH_BENEATH, unsafe.Pointer(&rule))
}

func addRule(ruleset int, kind uintptr, rule unsafe.Pointer) error {
	if _, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), kind, uintptr(rule), 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}
