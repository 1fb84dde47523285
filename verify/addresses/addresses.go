// Package addresses has the probes of `gateway verify` that go straight to an
// address, past proxy and DNS: by every transport, by crafted packets, and by what
// the link itself believes (ARP, neighbours, routers). Names and requests are the
// matter of other folders under verify.
package addresses

import (
	"slices"

	"github.com/sallyport/sallyport/verify/probe"
)

// Probes returns the probes, in the order of the report.
func Probes() []probe.Probe {
	return slices.Concat(tcpProbes(), datagramProbes(), translatedProbes(), pingProbes(),
		segmentProbes(), protocolProbes(), pieceProbes(), optionProbes(), frameProbes(), linkProbes(), deviceProbes())
}
