package field

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/bench/peer"
)

// Facts are what a reader of results has to know of the machine.
type Facts struct {
	Date     string   `json:"date"`
	Commit   string   `json:"commit"` // "+" behind it: there were changes
	Kernel   string   `json:"kernel"`
	CPU      string   `json:"cpu"`
	Cores    int      `json:"cores"`
	Memory   int64    `json:"memory"` // bytes
	Disk     string   `json:"disk"`   // file system that the record and the peers' logs lie on
	Go       string   `json:"go"`
	Engine   string   `json:"engine"`
	Versions []string `json:"versions"` // of the peers, sorted: "nginx 1.22.1-9"
}

// packages are the peers' on the laptop, and modules those that are compiled in.
var (
	packages = []string{"nginx-light", "squid", "tinyproxy-bin", "dnsmasq-base", "unbound", "openssh-server", "openssh-client"}
	modules  = []string{"github.com/elazarl/goproxy", "github.com/miekg/dns", "golang.org/x/crypto"}
)

// Facts looks at this machine and at the laptop.
func (f *Field) Facts(ctx context.Context) (Facts, error) {
	facts := Facts{Date: time.Now().UTC().Format("2006-01-02 15:04 MST"), Cores: runtime.NumCPU(), Go: strings.TrimPrefix(runtime.Version(), "go")}
	var host unix.Utsname
	var memory unix.Sysinfo_t
	var disk unix.Statfs_t
	for _, err := range []error{unix.Uname(&host), unix.Sysinfo(&memory), unix.Statfs(f.Disk, &disk)} {
		if err != nil {
			return facts, fmt.Errorf("look at this machine: %w", err)
		}
	}
	facts.Kernel = unix.ByteSliceToString(host.Release[:])
	facts.Memory = int64(memory.Totalram) * int64(memory.Unit)
	facts.Disk = fileSystem(int64(disk.Type))
	var err error
	if facts.CPU, err = cpuModel(); err != nil {
		return facts, err
	}
	facts.Commit = commit(ctx)
	if facts.Engine, err = f.Lab.Laptop.Docker(ctx, "version", "--format", "{{.Server.Version}}"); err != nil {
		return facts, err
	}
	facts.Versions = append(f.packageVersions(ctx), moduleVersions()...)
	slices.Sort(facts.Versions)
	return facts, nil
}

// fileSystem names those that a temporary folder usually lies on.
func fileSystem(kind int64) string {
	for name, magic := range map[string]int64{"tmpfs": unix.TMPFS_MAGIC, "ext4": unix.EXT4_SUPER_MAGIC, "xfs": unix.XFS_SUPER_MAGIC,
		"btrfs": unix.BTRFS_SUPER_MAGIC, "overlayfs": unix.OVERLAYFS_SUPER_MAGIC} {
		if kind == magic {
			return name
		}
	}
	return fmt.Sprintf("type %#x", kind)
}

func cpuModel() (string, error) {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value), nil
		}
	}
	return runtime.GOARCH, nil // ARM's has no such line
}

// commit is the checkout's; a tree without git has none.
func commit(ctx context.Context) string {
	head, err := exec.CommandContext(ctx, "git", "rev-parse", "--short", "HEAD").Output()
	if err != nil {
		return "unknown"
	}
	changed, err := exec.CommandContext(ctx, "git", "status", "--porcelain", "--", ":!docs").Output() // where the results are written
	if err != nil || len(changed) > 0 {
		return strings.TrimSpace(string(head)) + "+"
	}
	return strings.TrimSpace(string(head))
}

// packageVersions are those that the laptop has.
func (f *Field) packageVersions(ctx context.Context) []string {
	args := append([]string{"-W", "-f", "${Package} ${Version}\n"}, packages...)
	out, _ := f.Lab.Laptop.CommandRoot(ctx, "dpkg-query", args...).Output() // fails where one is missing, and prints the others
	return strings.FieldsFunc(string(out), func(r rune) bool { return r == '\n' })
}

func moduleVersions() []string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return nil
	}
	versions := []string{"coredns " + peer.CoreDNSVersion}
	for _, dep := range info.Deps {
		if slices.Contains(modules, dep.Path) {
			versions = append(versions, strings.TrimPrefix(dep.Path, "github.com/")+" "+dep.Version)
		}
	}
	return versions
}
