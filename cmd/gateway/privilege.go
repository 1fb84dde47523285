package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"github.com/sallyport/sallyport/control"
	"golang.org/x/sys/unix"
)

// becomeUser replaces this process, started by root, by itself as an ordinary
// user: no groups, an empty bounding set, no new privileges, that user's home, no
// file of root's open but the three standard ones. It returns only on failure.
func becomeUser(u control.User, environ []string) error {
	if u.UID <= 0 || u.GID <= 0 {
		return errors.New("the gateway does not run as root; hint: --as UID:GID names an ordinary user")
	}
	if err := u.MakeHome(); err != nil {
		return err
	}
	// What is set on this thread is what the program that it becomes starts with.
	runtime.LockOSThread()
	if err := unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("keep root's open files to ourselves: %w", err)
	}
	for capability := range uintptr(64) {
		err := unix.Prctl(unix.PR_CAPBSET_DROP, capability, 0, 0, 0)
		if errors.Is(err, unix.EINVAL) { // past the last one
			break
		}
		if err != nil {
			return fmt.Errorf("empty the bounding set: %w", err)
		}
	}
	if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(u.GID), syscall.Setuid(u.UID)); err != nil {
		return fmt.Errorf("become uid %d: %w", u.UID, err)
	}
	return startAgain(asUser(environ, u.Home))
}

// asUser is environ without what speaks of root's own folders.
func asUser(environ []string, home string) []string {
	kept := []string{"HOME=" + home}
	for _, v := range environ {
		name, _, _ := strings.Cut(v, "=")
		if name != "HOME" && !strings.HasPrefix(name, "XDG_") && !strings.HasPrefix(name, "SUDO_") {
			kept = append(kept, v)
		}
	}
	return kept
}

// startAgain replaces this process by itself without any capability and without
// the means to gain one. It returns only on failure.
func startAgain(environ []string) error {
	runtime.LockOSThread()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData // version 3 takes two
	if err := errors.Join(
		unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0),
		unix.Capset(&header, &none[0]),
		unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
	); err != nil {
		return fmt.Errorf("give up capabilities: %w", err)
	}
	// By the link rather than by its name: the folder may be closed to this user.
	return fmt.Errorf("run ourselves again: %w", syscall.Exec("/proc/self/exe", os.Args, environ))
}

// settled reports whether startAgain has done its work, or somebody before us.
func settled() (bool, error) {
	set, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	if err != nil {
		return false, fmt.Errorf("ask whether new privileges can be gained: %w", err)
	}
	return set == 1, nil
}

// assertUnprivileged fails unless this process holds no capability and can gain
// none.
func assertUnprivileged() error {
	f, err := os.Open("/proc/self/status")
	if err != nil {
		return fmt.Errorf("read our own status: %w", err)
	}
	defer f.Close()
	return checkStatus(f)
}

// checkStatus reads proc_pid_status(5).
func checkStatus(status io.Reader) error {
	const zeroCaps = "0000000000000000"
	want := map[string]string{"CapInh": zeroCaps, "CapPrm": zeroCaps, "CapEff": zeroCaps, "CapAmb": zeroCaps, "NoNewPrivs": "1"}
	users := false
	lines := bufio.NewScanner(status)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimSpace(value)
		if expected, checked := want[name]; checked && value != expected {
			return fmt.Errorf("the gateway must hold no capability and gain none, but %s is %s; hint: start it as an ordinary user", name, value)
		}
		delete(want, name)
		if name == "Uid" {
			ids := strings.Fields(value) // real, effective, saved, file system
			if users = len(ids) == 4; slices.Contains(ids, "0") {
				return errors.New("the gateway does not run as root")
			}
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read our own status: %w", err)
	}
	if len(want) > 0 || !users {
		return errors.New("our own status does not say which capabilities we hold")
	}
	return nil
}
