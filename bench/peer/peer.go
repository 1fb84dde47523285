// Package peer is what Sallyport is compared with: daemons of Debian's packages and
// small Go programs around a library, each with the least configuration that does
// the same job, its log on. How one is started is in bench/field.
package peer

import "time"

// Spec is a program that runs on the laptop. Paths are the laptop's.
type Spec struct {
	Name    string            // in messages
	Root    bool              // as root; else as the user
	Command []string          // a name without a slash is looked up in PATH
	Env     []string          // added to the environment
	Files   map[string]string // written before the start, owned by who runs it: path and content
	Ready   string            // waited for: "tcp:ADDR", "unix:PATH" or "udp:ADDR" (bound); empty: nothing
	Dir     string            // working folder; made if it is missing. Empty: home, or / as root
	Grace   time.Duration     // from SIGTERM to SIGKILL at the end; zero: 5 s
}

// Process is a program of a Spec that runs.
type Process struct {
	pid  int
	stop func() error
}

// NewProcess is for who starts one: its pid, as this process sees it, and what ends it.
func NewProcess(pid int, stop func() error) *Process { return &Process{pid: pid, stop: stop} }

// PID is the process's, as this process sees it.
func (p *Process) PID() int { return p.pid }

// Stop ends the process and its children, and waits for it. More than once is no error.
func (p *Process) Stop() error { return p.stop() }
