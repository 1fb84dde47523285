package whole

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/bench/field"
)

// process is one of the product's, by its number as this process sees it.
type process int

// proc is a file of its in /proc.
func (p process) proc(name string) string { return filepath.Join("/proc", strconv.Itoa(int(p)), name) }

// status is a size of proc(5)'s status, "VmRSS" or "VmHWM", in bytes.
func (p process) status(key string) (int64, error) {
	text, err := os.ReadFile(p.proc("status"))
	if err != nil {
		return 0, err
	}
	_, rest, found := strings.Cut(string(text), key+":")
	fields := strings.Fields(rest)
	if !found || len(fields) == 0 {
		return 0, fmt.Errorf("process %d: its status has no %s", p, key)
	}
	kB, err := strconv.ParseInt(fields[0], 10, 64)
	return kB << 10, err
}

// busy is the processor time of all its threads so far, to the nanosecond: the usual
// ten milliseconds are a thousandth of ten seconds. A thread that ends takes its own
// with it; Go's do not.
func (p process) busy() (sum time.Duration, err error) {
	threads, err := filepath.Glob(p.proc("task/*/schedstat"))
	if err != nil {
		return 0, err
	}
	for _, path := range threads {
		text, err := os.ReadFile(path)
		if err != nil {
			return 0, err
		}
		ns, err := strconv.ParseInt(strings.Fields(string(text))[0], 10, 64)
		if err != nil {
			return 0, err
		}
		sum += time.Duration(ns)
	}
	if len(threads) == 0 {
		return 0, fmt.Errorf("process %d has no threads", p)
	}
	return sum, nil
}

// descriptors counts those that are open.
func (p process) descriptors() (int, error) {
	all, err := os.ReadDir(p.proc("fd"))
	return len(all), err
}

// children are its own.
func (p process) children() ([]process, error) {
	files, err := filepath.Glob(p.proc("task/*/children"))
	if err != nil {
		return nil, err
	}
	var all []process
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		for _, number := range strings.Fields(string(text)) {
			pid, err := strconv.Atoi(number)
			if err != nil {
				return nil, err
			}
			all = append(all, process(pid))
		}
	}
	return all, nil
}

// product are the processes of a gateway and its wall.
type product struct{ gateway, lookout, wall process }

func productOf(ctx context.Context, f *field.Field) (p product, err error) {
	gateway, err := f.Gateway(ctx)
	if err != nil {
		return p, err
	}
	wall, err := f.Wall(ctx)
	if err != nil {
		return p, err
	}
	p.gateway, p.wall = process(gateway.PID), process(wall.PID)
	children, err := p.gateway.children()
	if err != nil {
		return p, err
	}
	if len(children) != 1 {
		return p, fmt.Errorf("the gateway has %d children instead of its lookout", len(children))
	}
	p.lookout = children[0]
	return p, nil
}

// settled is the least resident memory of a process in some seconds.
func settled(ctx context.Context, p process) (least int64, err error) {
	for range 12 {
		if err := wait(ctx, 250*time.Millisecond); err != nil {
			return 0, err
		}
		now, err := p.status("VmRSS")
		if err != nil {
			return 0, err
		}
		if least == 0 || now < least {
			least = now
		}
	}
	return least, nil
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
