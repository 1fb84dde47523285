// Package proc reads from /proc what a process and its children have used.
package proc

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Usage is what a process and its children use.
type Usage struct {
	RSS int64         // bytes now; what several of them share counts for each
	CPU time.Duration // user and system so far; ended children that were waited for included
}

// tick is the unit of processor times in /proc: USER_HZ, 100 on Linux.
const tick = 10 * time.Millisecond

// Of is what the process and its children use. Without the process it is an error.
func Of(pid int) (Usage, error) {
	all, err := readAll()
	if err != nil {
		return Usage{}, err
	}
	if _, ok := all[pid]; !ok {
		return Usage{}, fmt.Errorf("proc: no process %d", pid)
	}
	children := map[int][]int{}
	for p, s := range all {
		children[s.parent] = append(children[s.parent], p)
	}
	var sum Usage
	for queue := []int{pid}; len(queue) > 0; queue = queue[1:] {
		s := all[queue[0]]
		sum.CPU += s.cpu
		sum.RSS += s.rss
		queue = append(queue, children[queue[0]]...)
	}
	return sum, nil
}

// Inside finds the process that another process namespace knows by a number: proc is
// that namespace's /proc, as we reach it.
func Inside(proc string, inner int) (int, error) {
	want, err := os.Readlink(filepath.Join(proc, strconv.Itoa(inner), "ns/pid"))
	if err != nil {
		return 0, fmt.Errorf("proc: process %d: %w", inner, err)
	}
	own, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return 0, fmt.Errorf("proc: %w", err)
	}
	if want == own {
		return inner, nil
	}
	pids, err := pids()
	if err != nil {
		return 0, err
	}
	for _, pid := range pids {
		if ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid)); err != nil || ns != want {
			continue
		}
		if numbers := nested(pid); len(numbers) > 1 && numbers[1] == inner {
			return pid, nil
		}
	}
	return 0, fmt.Errorf("proc: process %d of %s is none of ours", inner, proc)
}

// nested are a process's numbers in each namespace, ours first; nil if it has ended.
func nested(pid int) []int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return nil
	}
	_, rest, _ := strings.Cut(string(text), "\nNSpid:")
	line, _, _ := strings.Cut(rest, "\n")
	var numbers []int
	for _, field := range strings.Fields(line) {
		n, err := strconv.Atoi(field)
		if err != nil {
			return nil
		}
		numbers = append(numbers, n)
	}
	return numbers
}

// stat is what is read of one process.
type stat struct {
	parent int
	cpu    time.Duration
	rss    int64
}

func pids() ([]int, error) {
	dirs, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("proc: %w", err)
	}
	var all []int
	for _, d := range dirs {
		if pid, err := strconv.Atoi(d.Name()); err == nil {
			all = append(all, pid)
		}
	}
	return all, nil
}

func readAll() (map[int]stat, error) {
	pids, err := pids()
	if err != nil {
		return nil, err
	}
	all := map[int]stat{}
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // it has ended
		}
		if err != nil {
			return nil, fmt.Errorf("proc: %w", err)
		}
		if all[pid], err = parse(text); err != nil {
			return nil, fmt.Errorf("proc: /proc/%d/stat: %w", pid, err)
		}
	}
	return all, nil
}

// Fields of proc(5)'s stat, counted from the state, which follows the name.
const (
	fieldParent = 1
	fieldTimes  = 11 // utime, stime, cutime, cstime
	fieldRSS    = 21 // pages
)

// parse reads the text of a stat file. A name may have blanks and brackets in it.
func parse(text []byte) (stat, error) {
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) <= fieldRSS {
		return stat{}, fmt.Errorf("%d fields", len(fields))
	}
	var numbers [6]int64
	for i, at := range []int{fieldParent, fieldRSS, fieldTimes, fieldTimes + 1, fieldTimes + 2, fieldTimes + 3} {
		var err error
		if numbers[i], err = strconv.ParseInt(fields[at], 10, 64); err != nil {
			return stat{}, err
		}
	}
	ticks := numbers[2] + numbers[3] + numbers[4] + numbers[5]
	return stat{parent: int(numbers[0]), rss: numbers[1] * int64(os.Getpagesize()), cpu: time.Duration(ticks) * tick}, nil
}
