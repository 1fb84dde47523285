// Package host holds the probes that aim at the host and at a sandbox's neighbours,
// and the traps there: listeners of verify's own, which tell who reached them. In
// the controls, where an attempt may succeed, only the traps are aimed at.
package host

import (
	"slices"

	"github.com/sallyport/sallyport/verify/probe"
)

// Probes returns the group.
func Probes() []probe.Probe {
	return slices.Concat(portProbes(), neighbourProbes(), nameProbes(), sharedProbes())
}
