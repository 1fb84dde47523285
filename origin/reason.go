package origin

import (
	"errors"
	"fmt"

	"github.com/sallyport/sallyport/audit"
	"golang.org/x/sys/unix"
)

// Why a process is unknown. A reason holds nothing that a sandbox can choose
// freely, so that refusals with it can be joined.
const (
	NoSocket   = "only TCP and UDP have a socket to look for"
	NoHolder   = "its sandbox's holder is not known"
	HolderGone = "its sandbox has ended"
	HidePID    = "/proc hides processes here (mount option hidepid)"
	Gone       = "its socket was closed before it was looked at: the process ended, or went on without it"
	Hidden     = "it hides itself from /proc (not dumpable)"
	Unreadable = "it cannot be read: another group, or it has capabilities"
	MayShare   = "its socket may be shared with a process that hides itself or cannot be read"
	NoProcess  = "no process that can be read has its socket"
	Several    = "sockets of several processes fit"
	Crafted    = "a raw socket is open in its sandbox: its address could be forged"
	Changing   = "it changed while it was looked at"
	TooMany    = "more processes, descriptors or sockets than are looked at"
	Busy       = "too many attempts at once to look"
	Slow       = "looking took too long"
)

// OtherUser is the reason for a socket of a user that we are not. uid is that in
// the container.
func OtherUser(uid int) string { return fmt.Sprintf("it runs as another user (uid %d)", uid) }

// Shared is the reason for a socket that n processes have open, as after a fork:
// any of them may have made the attempt.
func Shared(n int) string {
	if n > 99 {
		return "its socket is shared by 100 or more processes"
	}
	return fmt.Sprintf("its socket is shared by %d processes", n)
}

func unknown(why string) *audit.Process { return &audit.Process{Unknown: why} }

// whyNoHolder says why the holder's folder, or its tables, cannot be opened.
func (f *Finder) whyNoHolder() string {
	// Signal 0 is none: it only asks whether there is such a process.
	if err := unix.Kill(f.sandbox.Holder, 0); errors.Is(err, unix.ESRCH) {
		return HolderGone
	}
	return HidePID
}
