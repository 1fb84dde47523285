package probe

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/sallyport/sallyport/verify"
	"golang.org/x/sys/unix"
)

// Missing is the finding where a setting lacks what the probe aims at.
func Missing(what string) Finding {
	return Finding{Outcome: verify.Unproven, Detail: "not tried: no " + what + " here", Absent: true}
}

// Reached is the finding of an attempt that did what it is for.
func Reached(format string, args ...any) Finding {
	return Finding{Outcome: verify.Reached, Detail: fmt.Sprintf(format, args...)}
}

// Blocked is the finding of an attempt that was refused on its way, and must have
// left events.
func Blocked(detail string, events ...Event) Finding {
	return Finding{Outcome: verify.Blocked, Detail: detail, Events: events}
}

// Stopped is the finding of an attempt that the kernel refused before anything
// left: err holds an errno, or the finding is unproven.
func Stopped(err error, what string) Finding {
	f := Finding{Outcome: verify.Unproven, Detail: fmt.Sprintf("%s: %v", what, err)}
	if errno := syscall.Errno(0); errors.As(err, &errno) && errno != 0 {
		f.Outcome, f.Errno = verify.StoppedInside, unix.ErrnoName(errno)
	}
	return f
}

// Unproven is the finding of an attempt of which nobody can say whether it worked.
func Unproven(format string, args ...any) Finding {
	return Finding{Outcome: verify.Unproven, Detail: fmt.Sprintf(format, args...)}
}
