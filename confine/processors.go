package confine

import (
	"os"
	"runtime"
	"sync"
)

// Processors leaves half of the processors, rounded up, to other programs. Whoever
// set GOMAXPROCS in the environment has decided already. Unlike the rest of this
// package it is of the whole process, and a program that is executed begins anew; a
// second call does nothing.
//
// What a program does that waits for others most of the time is hand over: with a
// processor to spare, Go wakes a thread for each goroutine that becomes ready.
func Processors() { processors() }

var processors = sync.OnceFunc(func() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(half(runtime.GOMAXPROCS(0)))
	}
})

// half is at least 1.
func half(n int) int { return max(1, n/2) }
