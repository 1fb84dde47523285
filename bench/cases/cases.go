// Package cases is the list of all cases; each group is a package below.
package cases

import (
	"github.com/sallyport/sallyport/bench"
	"github.com/sallyport/sallyport/bench/cases/forward"
	sinkhole "github.com/sallyport/sallyport/bench/cases/names"
	"github.com/sallyport/sallyport/bench/cases/record"
	"github.com/sallyport/sallyport/bench/cases/roundtrip"
	"github.com/sallyport/sallyport/bench/cases/ssh"
	"github.com/sallyport/sallyport/bench/cases/stream"
	"github.com/sallyport/sallyport/bench/cases/whole"
)

// All are the cases, in the order of the report.
func All() []bench.Case {
	var all []bench.Case
	for _, group := range []func() []bench.Case{
		roundtrip.Cases, stream.Cases, ssh.Cases, forward.Cases, sinkhole.Cases, record.Cases, whole.Cases,
	} {
		all = append(all, group()...)
	}
	return all
}
