package inside

import (
	"context"

	"github.com/sallyport/sallyport/verify/probe"
	"golang.org/x/sys/unix"
)

// usePorts lets its thread use all ports, and uses none.
func usePorts(context.Context, probe.Target) (string, error) {
	return passed("iopl", unix.Iopl(3))
}
