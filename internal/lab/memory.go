package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// killTime bounds the wait for the end of a process that is being killed.
const killTime = 10 * time.Second

// smallMemory is what a group of processes may have while one of it is to die.
const smallMemory = 96 << 20

// hog is told a group's list of processes, its victim's pid, and how many MiB to
// take at most: it joins both to the group and takes memory until the kernel has
// killed the victim, which it is told to choose.
const hog = `
my ($procs, $victim, $most) = @ARGV;
sub put { open(my $f, ">", $_[0]) or die "$_[0]: $!"; syswrite($f, $_[1]) or die "$_[0]: $!"; close $f }
put("/proc/$victim/oom_score_adj", "1000");
put($procs, $victim);
put($procs, $$);
my @taken;
while (@taken < $most && -e "/proc/$victim/exe") { push @taken, chr(@taken % 256) x (1 << 20) }
`

// ExhaustMemory has the kernel kill a process of the laptop, named by its pid
// there, because its control group has no memory left. A process that has no group
// of the lab's is given one.
func (l *Laptop) ExhaustMemory(ctx context.Context, pid string) error {
	group, err := l.memoryGroup(pid)
	if err != nil {
		return fmt.Errorf("lab: memory group of process %s: %w", pid, err)
	}
	limit := filepath.Join(group, "memory.limit_in_bytes")
	if _, err := os.Stat(limit); errors.Is(err, os.ErrNotExist) {
		limit = filepath.Join(group, "memory.max")
	}
	if err := os.WriteFile(limit, fmt.Append(nil, smallMemory), 0); err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	// The hog may be killed too: what a process took before it joined is not the group's.
	_, hogged := l.CommandRoot(ctx, "perl", "-e", hog, filepath.Join(group, "cgroup.procs"), pid, fmt.Sprint(2*smallMemory>>20)).Output()
	ctx, cancel := context.WithTimeout(ctx, killTime)
	defer cancel()
	err = until(ctx, func() error {
		if _, err := os.Readlink(l.Outside("/proc/" + pid + "/exe")); err != nil {
			return nil
		}
		return errors.New("it lives")
	})
	if err != nil {
		return fmt.Errorf("lab: process %s did not run out of memory: %w", pid, errors.Join(err, hogged))
	}
	return nil
}

// memoryGroup is the folder of the memory control group that a process is in, of
// version 1 or 2, or of one of the lab's that was made for it. It has the same path
// on the laptop and on this machine.
func (l *Laptop) memoryGroup(pid string) (string, error) {
	text, err := os.ReadFile(l.Outside("/proc/" + pid + "/cgroup"))
	if err != nil {
		return "", err
	}
	top, at := "", ""
	for line := range strings.Lines(string(text)) {
		switch number, rest, _ := strings.Cut(strings.TrimSpace(line), ":"); {
		case strings.HasPrefix(rest, "memory:"):
			top, at = "/sys/fs/cgroup/memory", strings.TrimPrefix(rest, "memory:")
		case number == "0" && top == "":
			top, at = "/sys/fs/cgroup", strings.TrimPrefix(rest, ":")
		}
	}
	if strings.Contains(at, l.id) {
		return filepath.Join(top, at), nil
	}
	own := filepath.Join(top, l.id, "exhausted-"+pid)
	return own, os.MkdirAll(own, 0o755)
}
