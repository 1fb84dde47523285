package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"github.com/sallyport/sallyport/confine"
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
	if err := confine.Bounding(0); err != nil {
		return err
	}
	if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(u.GID), syscall.Setuid(u.UID)); err != nil {
		return fmt.Errorf("become uid %d: %w", u.UID, err)
	}
	if err := errors.Join(confine.Capabilities(0), confine.NoNewPrivileges()); err != nil {
		return err
	}
	// By the link rather than by its name: the folder may be closed to this user.
	return fmt.Errorf("run ourselves again: %w", syscall.Exec("/proc/self/exe", os.Args, asUser(environ, u.Home)))
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

// assertUnprivileged fails unless no thread of this process holds a capability or
// can gain one.
func assertUnprivileged() error {
	threads, err := filepath.Glob("/proc/self/task/*/status")
	if err != nil || len(threads) == 0 {
		return errors.Join(err, errors.New("read our own status: /proc shows no thread of ours"))
	}
	for _, name := range threads {
		f, err := os.Open(name)
		if errors.Is(err, os.ErrNotExist) {
			continue // a thread that has ended
		}
		if err != nil {
			return fmt.Errorf("read our own status: %w", err)
		}
		err = checkStatus(f)
		f.Close()
		if err != nil {
			return err
		}
	}
	return nil
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
