package confine

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Privileges are those of a process: of all its threads together.
type Privileges struct {
	Capabilities    uint64 // permitted, effective, inheritable or ambient in any thread: a set of 1<<unix.CAP_…
	Bounding        uint64 // in any thread's bounding set: what could be gained by executing a program, if new privileges could
	NoNewPrivileges bool   // no thread can gain any
}

// Held reads the privileges of every thread of this process.
func Held() (Privileges, error) {
	files, err := filepath.Glob("/proc/self/task/*/status")
	if err != nil || len(files) == 0 {
		return Privileges{}, errors.Join(err, errors.New("read our privileges: /proc shows no thread of ours"))
	}
	all := Privileges{NoNewPrivileges: true}
	for _, name := range files {
		one, err := heldBy(name)
		if errors.Is(err, os.ErrNotExist) {
			continue // a thread that has ended
		}
		if err != nil {
			return Privileges{}, fmt.Errorf("read our privileges: %w", err)
		}
		all.Capabilities |= one.Capabilities
		all.Bounding |= one.Bounding
		all.NoNewPrivileges = all.NoNewPrivileges && one.NoNewPrivileges
	}
	return all, nil
}

func heldBy(name string) (Privileges, error) {
	f, err := os.Open(name)
	if err != nil {
		return Privileges{}, err
	}
	defer f.Close()
	return parse(f)
}

// parse reads proc_pid_status(5); that it lacks a line is an error.
func parse(status io.Reader) (Privileges, error) {
	var p Privileges
	sets := map[string]*uint64{"CapInh": &p.Capabilities, "CapPrm": &p.Capabilities, "CapEff": &p.Capabilities, "CapAmb": &p.Capabilities, "CapBnd": &p.Bounding}
	missing := len(sets) + 1
	for lines := bufio.NewScanner(status); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimSpace(value)
		if name == "NoNewPrivs" {
			p.NoNewPrivileges = value == "1"
			missing--
		}
		if set := sets[name]; set != nil {
			n, err := strconv.ParseUint(value, 16, 64)
			if err != nil {
				return p, fmt.Errorf("%s: %w", name, err)
			}
			*set |= n
			missing--
		}
	}
	if missing > 0 {
		return p, errors.New("the status of a thread does not say which capabilities it has")
	}
	return p, nil
}
