package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"github.com/sallyport/sallyport/config"
	"github.com/sallyport/sallyport/confine"
	"github.com/sallyport/sallyport/control"
)

// confinedVariable tells a program that it has confined itself and executed itself
// anew: "ABI,FD,PID", with the gateway's lookout; without one "ABI,-1,0".
const confinedVariable = "SALLYPORT_CONFINED"

// begun is what confinedVariable says.
type begun struct {
	abi         int
	lookout     int // descriptor; below zero: none
	lookoutsPID int
}

// confined returns what this process did before it executed itself anew; nil: it
// has not yet. What it says is held against the kernel.
func confined(p process) (*begun, error) {
	text, said := p.lookupenv(confinedVariable)
	if !said {
		return nil, nil
	}
	var b begun
	if n, err := fmt.Sscanf(text, "%d,%d,%d", &b.abi, &b.lookout, &b.lookoutsPID); n != 3 || err != nil {
		return nil, fmt.Errorf("the variable %s is %q, which is not ours; hint: unset it", confinedVariable, text)
	}
	kernel, err := confine.Ask()
	if err != nil {
		return nil, err
	}
	if kernel.ABI != b.abi {
		return nil, fmt.Errorf("the variable %s speaks of Landlock %d, the kernel of %d; hint: unset it", confinedVariable, b.abi, kernel.ABI)
	}
	return &b, kernel.InForce()
}

// startConfined executes this program anew, with r in force and b told. It returns
// only on failure.
func startConfined(kernel confine.Kernel, r confine.Rules, b begun, environ []string) error {
	runtime.LockOSThread()
	run, read, err := confine.Program()
	if err != nil {
		return err
	}
	r.Run, r.Read = append(r.Run, run...), append(r.Read, read...)
	if err := kernel.Confine(r); err != nil {
		return fmt.Errorf("confine ourselves: %w", err)
	}
	environ = append(without(environ, confinedVariable), fmt.Sprintf("%s=%d,%d,%d", confinedVariable, kernel.ABI, b.lookout, b.lookoutsPID))
	// By the link rather than by its name: the folder may be closed to this user.
	return fmt.Errorf("run ourselves again: %w", syscall.Exec("/proc/self/exe", os.Args, environ))
}

// without is environ without variables.
func without(environ []string, names ...string) []string {
	var kept []string
	for _, v := range environ {
		name, _, _ := strings.Cut(v, "=")
		drop := false
		for _, n := range names {
			drop = drop || name == n
		}
		if !drop {
			kept = append(kept, v)
		}
	}
	return kept
}

// confine gives up what the gateway does not need, starts the lookout, and starts
// again. It returns only on failure.
func (g *gateway) confine() error {
	runtime.LockOSThread() // what is set on this thread is what the next program starts with
	if err := errors.Join(confine.Capabilities(0), confine.NoNewPrivileges()); err != nil {
		return err
	}
	kernel, err := confine.Ask()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(g.temporary(), 0o700); err != nil {
		return fmt.Errorf("make our folder for temporary files: %w", err)
	}
	file, err := g.configPath()
	if err != nil {
		return err
	}
	ours, pid, err := startLookout(g.process, file)
	if err != nil {
		return err
	}
	defer ours.Close()
	kept, err := syscall.Dup(int(ours.Fd())) // a duplicate outlives the execution
	if err != nil {
		return fmt.Errorf("keep the lookout's socket: %w", err)
	}
	environ := append(without(g.environ(), "TMPDIR", "SQLITE_TMPDIR"), "TMPDIR="+g.temporary())
	return startConfined(kernel, g.rules(), begun{lookout: kept, lookoutsPID: pid}, environ)
}

// temporary is the folder for temporary files. Those of everybody are left alone.
func (g *gateway) temporary() string { return filepath.Join(g.paths.State, "tmp") }

// clearTemporary removes what a gateway that was killed left there.
func (g *gateway) clearTemporary() error {
	left, err := filepath.Glob(filepath.Join(g.temporary(), "*"))
	for _, path := range left {
		err = errors.Join(err, os.RemoveAll(path))
	}
	if err != nil {
		return fmt.Errorf("clear our folder for temporary files: %w", err)
	}
	return nil
}

// configPath is the absolute path of the configuration, whether there is one or not.
func (g *gateway) configPath() (string, error) {
	if g.configFile == "" {
		return config.DefaultPath(g.lookupenv, g.getenv("HOME")), nil
	}
	path, err := filepath.Abs(g.configFile)
	if err != nil {
		return "", fmt.Errorf("find the configuration: %w", err)
	}
	return path, nil
}

// rules are what the gateway needs: its own folders, the sink's, the page's port,
// connections to wherever a rule or a model leads, and what the Go runtime and the
// resolver read. Neither the user's home nor anything of ssh: launchers hand over
// keys and host keys, and the lookout reads the configuration.
func (g *gateway) rules() confine.Rules {
	r := confine.Rules{
		Read: append(systemFiles(), "/proc", "/sys/fs/cgroup", "/sys/kernel/mm/transparent_hugepage"),
		// The file comm is what ps shows, which is set once more.
		Write:   []string{g.paths.State, g.paths.Runtime, os.DevNull, "/proc/self/comm"},
		Connect: true,
	}
	if g.config.Web.Serve == config.ServeLoopback {
		r.Bind = []uint16{uint16(g.config.Web.Port)}
	}
	if g.config.Audit.Sink != "" {
		r.Write = append(r.Write, g.sinkPlace(g.config.Audit.Sink)...)
	}
	return r
}

// sinkPlace is where the sink may be written: its folder, since it is rotated.
func (g *gateway) sinkPlace(sink string) []string {
	folder := filepath.Dir(sink)
	info, err := os.Stat(folder)
	home := g.getenv("HOME")
	switch inside, relErr := filepath.Rel(folder, home); {
	case err != nil || !info.IsDir():
		g.log.Warn("the folder of audit.sink is not there, and the gateway will not be able to write to it later; hint: make it, then gateway down", "folder", folder)
		return nil
	case folder == "/":
		g.log.Warn("audit.sink lies in the root folder, which the gateway may not change: it is not rotated; hint: give it a folder")
		if _, err := os.Stat(sink); err != nil {
			return nil
		}
		return []string{sink}
	case relErr == nil && !strings.HasPrefix(inside, ".."):
		g.log.Warn("audit.sink lies in a folder that holds your home, so the gateway may write all of it; hint: give it a folder of its own", "folder", folder)
	}
	return []string{folder}
}

// systemFiles are what the resolver and the Go runtime read, all readable by everybody. Links lead
// out of /etc on many systems, to files that are replaced: then to their folder.
func systemFiles() []string {
	files := []string{"/etc", "/usr/share/zoneinfo", "/usr/share/mime", "/run/systemd/resolve", "/run/resolvconf", "/run/NetworkManager/resolv.conf"}
	for _, name := range []string{"/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/localtime"} {
		target, err := filepath.EvalSymlinks(name)
		if err != nil || strings.HasPrefix(target, "/etc/") {
			continue
		}
		files = append(files, target)
		if folder := filepath.Dir(target); name == "/etc/resolv.conf" && folder != "/" {
			files = append(files, folder)
		}
	}
	return files
}

// confinement says what this process is confined to, as the kernel has it.
func (g *gateway) confinement() control.Confinement {
	c := control.Confinement{Landlock: g.kernel.ABI, NoLandlock: g.kernel.Why, Capabilities: "none"}
	held, err := confine.Held()
	if err != nil {
		c.Capabilities = "not known"
		return c
	}
	c.NoNewPrivileges = held.NoNewPrivileges
	if held.Capabilities != 0 {
		c.Capabilities = strconv.FormatUint(held.Capabilities, 16)
	}
	return c
}
