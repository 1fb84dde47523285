package verify

import (
	"context"
	"os"
	"syscall"
	"testing"
)

// A connection that hangs is no proof: a closed sandbox refuses at once. Taken for
// a refusal, it hid that IPv6 attempts left no record.
func TestSilenceIsNotARefusal(t *testing.T) {
	for _, err := range []error{os.ErrDeadlineExceeded, context.DeadlineExceeded, syscall.ETIMEDOUT} {
		if outcome, detail := failed(err); outcome != Unproven {
			t.Errorf("%v: %s %s", err, outcome, detail)
		}
	}
}
