package main

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// runWithoutLeak runs the tests, which fail where they leave a goroutine behind.
func runWithoutLeak(m *testing.M) int {
	if code := m.Run(); code != 0 {
		return code
	}
	// A program that listens to signals does so until it ends.
	if err := goleak.Find(goleak.IgnoreAnyFunction("os/signal.loop"), goleak.IgnoreAnyFunction("os/signal.signal_recv")); err != nil {
		fmt.Fprintln(os.Stderr, "goleak:", err)
		return 1
	}
	return 0
}
