package runner

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// setting is a kernel setting that forbids user namespaces to ordinary users.
type setting struct{ path, forbids, what, remedy string }

var settings = [...]setting{
	// Debian's own patch, and those who took it over.
	{"/proc/sys/kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone is 0",
		"sudo sysctl -w kernel.unprivileged_userns_clone=1 (to keep it: a file in /etc/sysctl.d)"},
	// user_namespaces(7)
	{"/proc/sys/user/max_user_namespaces", "0", "user.max_user_namespaces is 0",
		"sudo sysctl -w user.max_user_namespaces=15000 (to keep it: a file in /etc/sysctl.d)"},
	// Ubuntu from 23.10 on
	{"/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1", "AppArmor keeps user namespaces from programs without a profile (kernel.apparmor_restrict_unprivileged_userns is 1)",
		"give the gateway binary an AppArmor profile with the rule `userns,`, or sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"},
}

// explainNamespace says why this machine does not let us make the namespaces, and
// what to do. Any other error is returned as it is.
func explainNamespace(err error) error {
	return explain(err, func(path string) string {
		data, _ := os.ReadFile(path)
		return strings.TrimSpace(string(data))
	})
}

func explain(err error, read func(path string) string) error {
	if exit := new(ExitError); errors.As(err, &exit) { // explained
		return &ExitError{exit.Code, err}
	}
	reasons := []error{unix.EPERM, unix.EACCES, unix.ENOSPC, unix.EUSERS, unix.EINVAL, unix.ENOSYS}
	forbidden := false
	for _, reason := range reasons {
		forbidden = forbidden || errors.Is(err, reason)
	}
	if !forbidden {
		return fmt.Errorf("make a namespace without network for the model server: %w", err)
	}
	what, remedy := "this machine forbids user namespaces to ordinary users", "see whether it is a container, or has a security policy (SELinux, seccomp) that says so"
	switch {
	case errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS):
		what, remedy = "this kernel lacks user or network namespaces", "use a kernel with CONFIG_USER_NS and CONFIG_NET_NS"
	case errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EUSERS):
		what, remedy = "the limit of user or network namespaces is reached", "raise user.max_user_namespaces and user.max_net_namespaces with sysctl"
	}
	for _, s := range settings {
		if read(s.path) == s.forbids {
			what, remedy = s.what, s.remedy
			break
		}
	}
	return &ExitError{CodeForbidden, fmt.Errorf("a process cannot have a namespace without network here: %s: %w\nhint: %s; or `runtime: docker` or `podman` for this host", what, err, remedy)}
}
