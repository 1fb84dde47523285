// Package endpoint holds the probes of the model endpoint: requests that a model
// server must never get, and a hostile model server, whose answers must not do in the
// sandbox what it wants. It starts no sandbox and reads no record; verify/battery does.
package endpoint

import (
	"slices"

	"github.com/sallyport/sallyport/verify/probe"
)

// Probes returns the probes of group probe.Model. In a sandbox they need a Server as
// its model server.
func Probes() []probe.Probe {
	return slices.Concat(adminProbes(), spellingProbes(), contentProbes(), smugglingProbes(), hostileProbes())
}
