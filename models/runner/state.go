package runner

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Phase is how far a server's life is.
type Phase string

// The phases. The zero Phase is no server.
const (
	PhaseStarting Phase = "starting" // the runner has the lock
	PhaseRunning  Phase = "running"  // the server's process runs
	PhaseExited   Phase = "exited"
)

const (
	stateVersion = 1
	maxState     = 64 << 10 // bytes
)

// State is what state.json says. Runners of other versions may have written it:
// fields are added, never changed.
type State struct {
	Version   int       `json:"version"`
	PID       int       `json:"pid"`        // of the runner, in its own pid namespace
	StartTime uint64    `json:"start_time"` // of that process, in clock ticks since boot: with it a pid is used once
	ServerPID int       `json:"server_pid,omitempty"`
	By        string    `json:"by,omitempty"`
	Argv      string    `json:"argv_sha256"`      // of the arguments, joined by zero bytes
	Launch    string    `json:"launch,omitempty"` // what the caller calls the way it is started
	IdleStop  string    `json:"idle_stop,omitempty"`
	Started   time.Time `json:"started"`
	Phase     Phase     `json:"phase"`
	ExitCode  int       `json:"exit_code"`        // once exited; 128 and the signal; -1: nobody knows
	Signal    int       `json:"signal,omitempty"` // that ended the server; zero: none
	Why       string    `json:"why,omitempty"`
	Error     string    `json:"error,omitempty"` // what kept the server from running
	OOM       bool      `json:"oom,omitempty"`   // the kernel killed it, and counted a kill for lack of memory
	Ended     time.Time `json:"ended,omitzero"`

	oomKills int // the kernel's count when it began
}

// outcome says how the server ended.
func (s State) outcome() string {
	if s.Signal != 0 {
		return "signal " + unix.SignalName(unix.Signal(s.Signal))
	}
	return "exit code " + strconv.Itoa(s.ExitCode)
}

// writeState replaces state.json at once.
func (f folder) writeState(s State) error {
	data, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("write the server's state: %w", err)
	}
	next := f.path(stateFile + ".new") // we have the lock: nobody else writes it
	if err := os.Remove(next); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("write the server's state: %w", err)
	}
	file, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("write the server's state: %w", err)
	}
	_, err = file.Write(append(data, '\n'))
	err = errors.Join(err, file.Close())
	if err == nil {
		err = os.Rename(next, f.path(stateFile))
	}
	if err != nil {
		return fmt.Errorf("write the server's state: %w", err)
	}
	return nil
}

// readState reads state.json; os.ErrNotExist if there is none.
func (f folder) readState() (State, error) {
	var s State
	file, err := f.open(stateFile)
	if err != nil {
		return s, fmt.Errorf("read the server's state: %w", err)
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxState))
	if err != nil {
		return s, fmt.Errorf("read the server's state: %w", err)
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return State{}, fmt.Errorf("read the server's state: %s: %w", printable(file.Name()), err)
	}
	s.By, s.Why, s.Error, s.Launch = printable(s.By), printable(s.Why), printable(s.Error), printable(s.Launch)
	return s, nil
}

// startTime is when a process began, in clock ticks since boot: proc_pid_stat(5).
func startTime(pid int) (uint64, error) {
	fields, err := stat(pid)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(fields[19], 10, 64) // field 22
}

// parent is a process's parent.
func parent(pid int) (int, error) {
	fields, err := stat(pid)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(fields[1]) // field 4
}

// stat returns the fields of a process from the third on: the second is a name
// that may hold anything.
func stat(pid int) ([]string, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(fields) < 20 {
		return nil, fmt.Errorf("/proc/%d/stat has too few fields", pid)
	}
	return fields, nil
}

// oomKills is how often this kernel has killed for lack of memory; zero if it
// does not tell.
func oomKills() int {
	data, err := os.ReadFile("/proc/vmstat")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		if n, ok := strings.CutPrefix(strings.TrimSpace(line), "oom_kill "); ok {
			count, _ := strconv.Atoi(n)
			return count
		}
	}
	return 0
}
