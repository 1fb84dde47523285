package runner

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// killPause is between two looks for descendants that are still there.
const killPause = 10 * time.Millisecond

// spawn is a process to start.
type spawn struct {
	path       string
	argv, env  []string
	out, err   *os.File   // nil: /dev/null
	pass       []*os.File // as descriptors from 3 on
	mortal     bool       // the kernel kills it when we die
	cloneflags uintptr
	attr       func(*syscall.SysProcAttr) // nil: no more to set
}

// child is the process that was started, with a group of its own, and all its
// descendants: those whose parent dies become ours, and are waited for.
type child struct {
	pid   int
	ended chan struct{} // closed when it has ended
	gone  chan struct{} // closed when no child is left

	server int           // the server's pid, where the child is only its parent; zero: the child is it
	told   chan struct{} // closed when such a parent has said how the server ended, or no more will; nil: it is no parent

	mu       sync.Mutex // no pid is reaped while it is held, so none is used anew
	reaped   bool
	reported bool // waited is the server's, as its parent says
	waited   unix.WaitStatus
}

// startChild starts s. One at a time: it reaps all children of this process.
func startChild(s spawn) (*child, error) {
	// Orphans come to us, also where we are not the first process.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, os.NewSyscallError("prctl(PR_SET_CHILD_SUBREAPER)", err)
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	c := &child{ended: make(chan struct{}), gone: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The death of the thread that forks is what a mortal child dies of: this
		// one lives until no child is left.
		runtime.LockOSThread()
		pid, err := fork(s, null)
		c.pid = pid
		started <- err
		if err == nil {
			c.reap()
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return c, nil
}

// fork starts s with /dev/null as its input.
func fork(s spawn, null *os.File) (int, error) {
	files := []uintptr{null.Fd(), null.Fd(), null.Fd()}
	for i, f := range []*os.File{s.out, s.err} {
		if f != nil {
			files[i+1] = f.Fd()
		}
	}
	for _, f := range s.pass {
		files = append(files, f.Fd())
	}
	sys := &syscall.SysProcAttr{Setpgid: true, Cloneflags: s.cloneflags}
	if s.mortal {
		sys.Pdeathsig = unix.SIGKILL
	}
	if s.attr != nil {
		s.attr(sys)
	}
	env := s.env
	if env == nil {
		env = []string{}
	}
	return syscall.ForkExec(s.path, s.argv, &syscall.ProcAttr{Env: env, Files: files, Sys: sys})
}

// reap waits for every child until there is none.
func (c *child) reap() {
	defer close(c.gone)
	for {
		// Look first, then reap under the lock.
		err := unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil { // ECHILD
			return
		}
		c.mu.Lock()
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		if err == nil && pid == c.pid {
			if c.reaped = true; !c.reported {
				c.waited = status
			}
			close(c.ended)
		}
		c.mu.Unlock()
	}
}

// signal sends a signal to the child's process group.
func (c *child) signal(sig unix.Signal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.reaped {
		_ = unix.Kill(-c.pid, sig) // it may be ending just now
	}
}

// stop asks the group to end, and kills it after grace.
func (c *child) stop(grace time.Duration) {
	c.signal(unix.SIGTERM)
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-c.ended:
		return
	case <-timer.C:
	}
	c.signal(unix.SIGKILL)
	<-c.ended
}

// killAll kills what is left of the child's descendants, in whatever group or
// session, and returns when they are gone. The children of one that dies become
// ours and are next.
func (c *child) killAll() {
	tick := time.NewTicker(killPause)
	defer tick.Stop()
	for {
		c.killChildren()
		select {
		case <-c.gone:
			return
		case <-tick.C:
		}
	}
}

// killChildren kills every child of ours.
func (c *child) killChildren() {
	c.mu.Lock()
	defer c.mu.Unlock()
	self := os.Getpid()
	entries, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return
	}
	for _, entry := range entries {
		pid, err := strconv.Atoi(filepath.Base(entry))
		if err != nil || pid > math.MaxInt32 {
			continue
		}
		if p, err := parent(pid); err == nil && p == self {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}

// status is how the server ended, once it has.
func (c *child) status() unix.WaitStatus {
	if c.told != nil {
		<-c.told
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.waited
}

// exitCode is a wait status as a shell tells it.
func exitCode(s unix.WaitStatus) int {
	if s.Signaled() {
		return 128 + int(s.Signal())
	}
	return s.ExitStatus()
}

// keepFiles keeps every open file but the standard ones from programs that we
// start, also those that we have inherited.
func keepFiles() error {
	err := unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC)
	if err == nil {
		return nil
	}
	// Before Linux 5.11.
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return fmt.Errorf("keep our open files to ourselves: %w", err)
	}
	for _, f := range files {
		if fd, err := strconv.Atoi(f.Name()); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}
