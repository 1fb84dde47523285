// Package inside holds the probes of what a container's own kernel should refuse:
// mounts, namespaces, devices, capabilities, and sockets that no network namespace
// confines. It judges system calls; what leaves as packets is another group's. No
// attempt changes the machine: where success would, it is made such that it fails
// after the kernel's permission check, and passing that counts as success.
package inside

import (
	"context"
	"errors"
	"os"
	"runtime"
	"slices"
	"syscall"

	"github.com/sallyport/sallyport/verify/probe"
	"golang.org/x/sys/unix"
)

// Probes returns the group.
func Probes() []probe.Probe {
	return slices.Concat(mountProbes(), processProbes(), settingProbes(), netlinkProbes(), namespaceProbes(),
		familyProbes(), ringProbes(), kernelProbes(), deviceProbes(), privilegeProbes(), fileProbes())
}

// attempt is one thing to try. It returns what it did, or the kernel's refusal;
// an absence says that there was nothing to try it on.
type attempt func(ctx context.Context, t probe.Target) (did string, err error)

// absence names what a setting lacks.
type absence string

func (a absence) Error() string { return "no " + string(a) + " here" }

// row is a probe of this group in the tables of the other files.
type row struct {
	name, why, source string
	needs             []string
	do                attempt
}

func (r row) probe() probe.Probe {
	return probe.Probe{Name: r.name, Group: probe.Container, Why: r.why, Source: r.source, Needs: r.needs, Try: r.do.try}
}

func probes(rows []row) []probe.Probe {
	list := make([]probe.Probe, len(rows))
	for i, r := range rows {
		list[i] = r.probe()
	}
	return list
}

func (a attempt) try(ctx context.Context, t probe.Target) probe.Finding {
	did, err := a(ctx, t)
	lacks := absence("")
	switch {
	case errors.As(err, &lacks):
		return probe.Missing(string(lacks))
	case err != nil:
		return probe.Stopped(err, "refused")
	}
	return probe.Reached("%s", did)
}

// passed judges a call that cannot succeed: an errno of after comes later in the
// kernel than the permission check.
func passed(call string, err error, after ...syscall.Errno) (did string, refused error) {
	errno := syscall.Errno(0)
	switch {
	case err == nil:
		return call + " succeeded", nil
	case errors.As(err, &errno) && slices.Contains(after, errno):
		return call + " passed the permission check (" + errno.Error() + ")", nil
	}
	return "", os.NewSyscallError(call, err)
}

// onThread makes an attempt on an operating system thread of its own, which ends
// with it: what it changes of the thread is seen by nobody else.
func onThread(do attempt) attempt {
	return func(ctx context.Context, t probe.Target) (did string, err error) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			runtime.LockOSThread() // not unlocked: the runtime then ends the thread
			if unix.Gettid() != unix.Getpid() {
				did, err = do(ctx, t)
				return
			}
			// The process's first thread outlives its goroutine; held, it is not used again.
			did, err = onThread(do)(ctx, t)
			runtime.UnlockOSThread()
		}()
		<-done
		return did, err
	}
}

// errnoOf turns the third result of a raw system call into an error.
func errnoOf(errno syscall.Errno) error {
	if errno == 0 {
		return nil
	}
	return errno
}

// raw makes a system call by its number. Pointers are converted in its arguments,
// as for syscall.Syscall.
//
//go:uintptrescapes
func raw(number, a, b, c uintptr) error {
	_, _, errno := syscall.Syscall(number, a, b, c)
	return errnoOf(errno)
}
