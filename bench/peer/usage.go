package peer

import (
	"time"

	"github.com/sallyport/sallyport/bench/proc"
)

// CPU is the processor time that the process and its children took so far, in steps
// of 10 ms.
func (p *Process) CPU() (time.Duration, error) {
	u, err := proc.Of(p.pid)
	return u.CPU, err
}

// RSS is the memory that the process and its children have now, in bytes: what is
// shared between them counts for each.
func (p *Process) RSS() (int64, error) {
	u, err := proc.Of(p.pid)
	return u.RSS, err
}
