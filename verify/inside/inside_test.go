package inside

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sallyport/sallyport/verify"
	"github.com/sallyport/sallyport/verify/probe"
	"golang.org/x/sys/unix"
)

func TestProbesAreDescribed(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range Probes() {
		if !regexp.MustCompile(`^[a-z0-9-]+$`).MatchString(p.Name) || seen[p.Name] {
			t.Errorf("name %q", p.Name)
		}
		seen[p.Name] = true
		if p.Group != probe.Container || p.Why == "" || p.Source == "" || p.Try == nil || strings.Contains(p.Why+p.Source, "\n") {
			t.Errorf("%s: %+v", p.Name, p)
		}
	}
}

// kernelDecides are probes that succeed only where the kernel has what they aim at,
// or where this test's own machine lets root do it.
var kernelDecides = []string{"modprobe-path", "sysrq-trigger", "uevent-helper", "release-agent", "cgroup-limits", "cgroup-devices", "oom-score",
	"mask-kcore", "vsock", "vsock-32-bit", "bluetooth", "nfc", "qipcrtr", "can", "tipc", "rds", "smc", "kernel-crypto", "xdp", "pfkey", "rare-families",
	"kexec-load", "init-module", "finit-module", "delete-module", "io-ports", "userfaultfd", "process-accounting", "quota", "set-clock", "adjust-clock", "kernel-log",
	"block-device", "dev-mem", "dev-kmsg", "dev-kvm", "dev-vhost-net", "dev-vhost-vsock", "dev-fuse", "dev-uinput", "dev-loop-control", "tun",
	"io-uring-connect"} // the last has a test of its own

// Every probe can succeed: else it would show nothing where it does not.
func TestEachReachesWhatNothingForbids(t *testing.T) {
	if !inChild(t, false) {
		return
	}
	for _, p := range Probes() {
		ctx, cancel := context.WithCancel(t.Context())
		to := target(probe.OwnListener, true)
		if p.Own != nil {
			if err := p.Own(ctx, &to); err != nil {
				t.Errorf("%s: %v", p.Name, err)
			}
		}
		f := p.Try(ctx, to)
		cancel()
		t.Logf("%s: %s %s: %s", p.Name, f.Outcome, f.Errno, f.Detail)
		switch {
		case f.Outcome == verify.Reached:
		case !slices.Contains(kernelDecides, p.Name):
			t.Errorf("%s: %+v", p.Name, f)
		case f.Outcome == verify.StoppedInside && f.Errno == "" || f.Outcome != verify.StoppedInside && !f.Absent:
			t.Errorf("%s says neither what it lacks nor an errno: %+v", p.Name, f)
		}
	}
}

// The attempts of one container are made beside each other.
func TestTogether(t *testing.T) {
	if !inChild(t, false) {
		return
	}
	var wait sync.WaitGroup
	for _, p := range slices.Concat(Probes(), Probes()[:10]) {
		if p.Own != nil || p.Alone || slices.Contains(kernelDecides, p.Name) {
			continue
		}
		wait.Go(func() {
			if f := p.Try(t.Context(), target(probe.Unconfined, true)); f.Outcome != verify.Reached {
				t.Errorf("%s: %+v", p.Name, f)
			}
		})
	}
	wait.Wait()
}

// filterOnly are those that a kernel lets everybody do: an engine's seccomp filter,
// its masks and its mounts are what forbids them.
var filterOnly = []string{"unshare-user", "clone-user", "clone3", "keyctl", "add-key", "request-key", "quota", "kernel-log", "userfaultfd",
	"vsock", "vsock-32-bit", "qipcrtr", "tipc", "rds", "smc", "kernel-crypto", "mask-keys", "mask-timer-list", "mask-firmware", "dev-fuse", "dev-kvm"}

// Whoever has no capability is refused by the kernel, with an errno.
func TestEachIsStoppedWithoutCapabilities(t *testing.T) {
	if !inChild(t, true) {
		return
	}
	to := target(probe.Sandbox, false)
	to.Host.PID, to.Host.Started, to.Host.Abstract = 1<<21, 1, "sallyport-verify-none"
	for _, p := range Probes() {
		f := p.Try(t.Context(), to)
		t.Logf("%s: %s %s: %s", p.Name, f.Outcome, f.Errno, f.Detail)
		switch {
		case f.Absent, f.Outcome == verify.StoppedInside && f.Errno != "":
		case f.Outcome == verify.Reached && slices.Contains(filterOnly, p.Name):
		default:
			t.Errorf("%s: %+v", p.Name, f)
		}
	}
}

func TestPassed(t *testing.T) {
	for _, c := range []struct {
		name    string
		err     error
		refused bool
	}{
		{"success", nil, false},
		{"an errno after the check", unix.ENOENT, false},
		{"one that is wrapped", os.NewSyscallError("call", unix.ENOENT), false},
		{"the check itself", unix.EPERM, true},
		{"no errno", errors.New("broken"), true},
	} {
		if _, err := passed("call", c.err, unix.ENOENT); (err != nil) != c.refused {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// What an attempt changes of its thread is seen by nobody else, not even where it
// began on the process's first thread.
func TestThreadsOfTheirOwn(t *testing.T) {
	if !inChild(t, false) {
		return
	}
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		if _, err := unsharing(unix.CLONE_NEWNET)(t.Context(), probe.Target{}); err != nil {
			t.Fatal(err)
		}
		for _, link := range []string{"/proc/self/ns/net", "/proc/thread-self/ns/net"} {
			if now, err := os.Readlink(link); err != nil || now != own {
				t.Fatalf("%s is %s now, was %s: %v", link, now, own, err)
			}
		}
	}
}

// Inside, the number of the host's process is another's.
func TestAnotherProcessIsNotTheHosts(t *testing.T) {
	to := target(probe.Sandbox, false)
	to.Host.PID, to.Host.Started = os.Getpid(), 1
	f := attempt(outside(signal)).try(t.Context(), to)
	if f.Outcome != verify.StoppedInside || f.Errno != "ESRCH" {
		t.Errorf("got %+v", f)
	}
	to.Host.Started, _ = verify.Started(os.Getpid())
	if f := attempt(outside(signal)).try(t.Context(), to); f.Outcome != verify.Reached {
		t.Errorf("the host's own: %+v", f)
	}
	if f := attempt(outside(signal)).try(t.Context(), probe.Target{}); !f.Absent {
		t.Errorf("none: %+v", f)
	}
}

func TestNewPrivilegesAreLookedAt(t *testing.T) {
	if !inChild(t, false) {
		return
	}
	if did, err := newPrivileges(t.Context(), target(probe.Ordinary, true)); err != nil || did != "no_new_privs is not set" {
		t.Errorf("got %q, %v", did, err)
	}
	if f := attempt(newPrivileges).try(t.Context(), target(probe.Sandbox, true)); !f.Absent {
		t.Errorf("root in a sandbox: %+v", f)
	}
}

// What stands for the host's process runs nothing, and ends with its context.
func TestOwnProcessStands(t *testing.T) {
	if !inChild(t, false) {
		return
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	to := target(probe.OwnListener, true)
	if err := ownProcess(ctx, &to); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", to.Host.PID))
	if err != nil || !strings.Contains(string(text), ") T ") {
		t.Errorf("%s, %v", text, err)
	}
}
