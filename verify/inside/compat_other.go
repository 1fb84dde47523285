//go:build !amd64

package inside

import (
	"context"

	"github.com/sallyport/sallyport/verify/probe"
)

func compatVsock(context.Context, probe.Target) (string, error) {
	return "", absence("32-bit system call on this architecture")
}
