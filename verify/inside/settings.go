package inside

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/sallyport/sallyport/verify/probe"
	"golang.org/x/sys/unix"
)

func settingProbes() []probe.Probe {
	admin, net := []string{"SYS_ADMIN"}, []string{"SYS_ADMIN", "NET_ADMIN"}
	rows := []row{
		{"core-pattern", "the host's kernel runs the program that core_pattern names, as root and outside", "core(5)", admin, writable("/proc/sys/kernel/core_pattern")},
		{"modprobe-path", "the host's kernel runs the program that modprobe names, as root and outside", "proc_sys_kernel(5)", admin, writable("/proc/sys/kernel/modprobe")},
		{"ip-forward", "a sandbox that forwards is a router for its neighbours", "ip(7)", net, writable("/proc/sys/net/ipv4/ip_forward")},
		{"route-localnet", "with it, packets for 127.0.0.0/8 leave the interface and reach the host's own services", "CVE-2020-8558", net, writable("/proc/sys/net/ipv4/conf/all/route_localnet")},
		{"sysrq-trigger", "one letter restarts the machine or ends its processes", "proc(5)", admin, writable("/proc/sysrq-trigger")},
		{"uevent-helper", "the host's kernel runs the program that it names, as root and outside", "Linux, Documentation/ABI/testing/sysfs-uevent", admin, writable("/sys/kernel/uevent_helper")},
		{"release-agent", "the host's kernel runs the release agent, as root and outside", "CVE-2022-0492", admin, firstWritable("/sys/fs/cgroup/memory/release_agent", "/sys/fs/cgroup/rdma/release_agent", "/sys/fs/cgroup/release_agent")},
		{"cgroup-limits", "who writes its own limits has none", "cgroups(7)", admin, firstWritable("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")},
		{"cgroup-devices", "the list of devices that a container may open", "Linux, Documentation/admin-guide/cgroup-v1/devices.rst", admin, firstWritable("/sys/fs/cgroup/devices/devices.allow")},
		{"oom-score", "a process that is never ended for want of memory takes the host's", "proc_pid_oom_score_adj(5)", nil, lowerOOMScore},
		{"mask-kcore", "the host's memory", "moby/moby, oci/defaults.go: MaskedPaths", []string{"SYS_ADMIN", "SYS_RAWIO"}, uncovered("/proc/kcore")},
		{"mask-keys", "keys of the host's users: key rings know no container", "keyrings(7), moby/moby, oci/defaults.go: MaskedPaths", admin, uncovered("/proc/keys")},
		{"mask-timer-list", "addresses in the kernel and what the host runs", "moby/moby, oci/defaults.go: MaskedPaths", admin, uncovered("/proc/timer_list")},
		{"mask-firmware", "the firmware's variables, of which some may be written", "moby/moby, oci/defaults.go: MaskedPaths", admin, uncovered("/sys/firmware")},
	}
	return probes(rows)
}

// firstWritable is writable for the first file that is there.
func firstWritable(files ...string) attempt {
	return func(ctx context.Context, t probe.Target) (string, error) {
		for _, file := range files {
			if _, err := os.Stat(file); err == nil {
				return writable(file)(ctx, t)
			}
		}
		return "", fmt.Errorf("%s: %w", strings.Join(files, ", "), unix.ENOENT)
	}
}

// lowerOOMScore lowers the process's own score by one below what it may, and puts
// it back.
func lowerOOMScore(context.Context, probe.Target) (string, error) {
	const file = "/proc/self/oom_score_adj"
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	now, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return "", fmt.Errorf("%s: %w", file, err)
	}
	if err := os.WriteFile(file, []byte(strconv.Itoa(max(now-1, -1000))), 0); err != nil {
		return "", err
	}
	return "the score was lowered", os.WriteFile(file, text, 0)
}
