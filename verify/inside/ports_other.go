//go:build !amd64

package inside

import (
	"context"

	"github.com/sallyport/sallyport/verify/probe"
)

func usePorts(context.Context, probe.Target) (string, error) {
	return "", absence("hardware port on this architecture")
}
