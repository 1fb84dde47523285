package lab

import (
	"errors"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// errEnded is what a call on an ended host gets.
var errEnded = errors.New("lab: the host has ended")

// thread is an operating system thread of its own, in namespaces of its own. A
// process or socket made by a function that it runs belongs to those namespaces.
type thread struct {
	jobs chan func()
	quit chan struct{} // closed to end the thread
	done chan struct{} // closed when it has ended
	once sync.Once
}

// newThread starts a thread; it is still in the process's namespaces.
func newThread() *thread {
	t := &thread{jobs: make(chan func()), quit: make(chan struct{}), done: make(chan struct{})}
	startLocked(t.loop)
	return t
}

// startLocked runs f on a locked thread that is not the process's main one: the
// main thread stands for the process in /proc, so its namespaces have to stay.
func startLocked(f func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			f() // returns locked: the runtime ends the thread
			return
		}
		defer runtime.UnlockOSThread()
		locked := make(chan struct{})
		go func() {
			runtime.LockOSThread()
			close(locked)
			f()
		}()
		<-locked
	}()
}

func (t *thread) loop() {
	defer close(t.done)
	for {
		select {
		case job := <-t.jobs:
			job()
		case <-t.quit:
			return
		}
	}
}

// do runs f on the thread and returns its error.
func (t *thread) do(f func() error) error {
	result := make(chan error, 1)
	select {
	case t.jobs <- func() { result <- f() }:
		return <-result
	case <-t.done:
		return errEnded
	}
}

// end ends the thread, and with it the last hold on its mounts.
func (t *thread) end() {
	t.once.Do(func() { close(t.quit) })
	<-t.done
}
