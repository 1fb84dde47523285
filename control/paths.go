package control

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// Paths are the gateway's files and folders. All are of one user, mode 0700.
type Paths struct {
	State   string // kept: the record, the log, the registrations
	Config  string // the user's config folder
	Data    string // kept: the sandboxes' homes
	Runtime string // sockets, in a folder each
}

// PathsFor returns the paths of the user with that uid and home folder. getenv
// is consulted for the XDG base directories (freedesktop.org); nil: not at all.
func PathsFor(uid int, home string, getenv func(string) string) Paths {
	if getenv == nil {
		getenv = func(string) string { return "" }
	}
	dir := func(variable string, fallback ...string) string {
		if base := getenv(variable); filepath.IsAbs(base) {
			return filepath.Join(base, "sallyport")
		}
		return filepath.Join(append([]string{home}, append(fallback, "sallyport")...)...)
	}
	p := Paths{
		State:  dir("XDG_STATE_HOME", ".local", "state"),
		Config: dir("XDG_CONFIG_HOME", ".config"),
		Data:   dir("XDG_DATA_HOME", ".local", "share"),
	}
	p.Runtime = filepath.Join(p.State, "run")
	for _, base := range []string{getenv("XDG_RUNTIME_DIR"), filepath.Join("/run/user", strconv.Itoa(uid))} {
		if filepath.IsAbs(base) && isFolderOf(base, uid) {
			p.Runtime = filepath.Join(base, "sallyport")
			break
		}
	}
	return p
}

// Audit is the record of attempts.
func (p Paths) Audit() string { return filepath.Join(p.State, "audit.db") }

// MetricsSocket serves metrics, without the page's protection: only its user can
// open it.
func (p Paths) MetricsSocket() string { return filepath.Join(p.ControlFolder(), "metrics.sock") }

// Log is the gateway's own log.
func (p Paths) Log() string { return filepath.Join(p.State, "gateway.log") }

// Registrations is the file of running sandboxes.
func (p Paths) Registrations() string { return filepath.Join(p.State, "registrations.json") }

// Hosts is the file of GPU hosts, without secrets.
func (p Paths) Hosts() string { return filepath.Join(p.State, "hosts.json") }

// WallToken is the file of the token that proves the wall.
func (p Paths) WallToken() string { return filepath.Join(p.State, "wall-token") }

// ControlFolder holds the control socket and that of metrics. No container of ours
// mounts it.
func (p Paths) ControlFolder() string { return filepath.Join(p.Runtime, "control") }

// ControlSocket is the control API's.
func (p Paths) ControlSocket() string { return filepath.Join(p.ControlFolder(), "control.sock") }

// WallFolder holds the wall socket alone. Wall and holders mount it.
func (p Paths) WallFolder() string { return filepath.Join(p.Runtime, "wall") }

// WallSocket is where wall and holders connect.
func (p Paths) WallSocket() string { return filepath.Join(p.WallFolder(), "wall.sock") }

// Models holds a folder for the socket of each stand-in model ("demo") that a
// launcher has started. The sockets of real models' servers lie in their own folder
// (machine's login, hosts[].folder).
func (p Paths) Models() string { return filepath.Join(p.Runtime, "models") }

// Pulls holds a folder for the socket of each pull of weights that is under way.
func (p Paths) Pulls() string { return filepath.Join(p.Runtime, "pulls") }

// Homes holds the persistent home of each project.
func (p Paths) Homes() string { return filepath.Join(p.Data, "homes") }

// Protected are the folders that no sandbox may see.
func (p Paths) Protected() []string { return []string{p.State, p.Config, p.Data, p.Runtime} }

// Make makes the folders that the gateway needs, and fails if one belongs to
// somebody else or may be opened by others.
func (p Paths) Make() error {
	for _, dir := range []string{p.State, p.Runtime, p.ControlFolder(), p.WallFolder(), p.Models(), p.Pulls()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("make our folder: %w", err)
		}
		info, err := os.Lstat(dir)
		if err != nil {
			return fmt.Errorf("look at our folder: %w", err)
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		if !ok || !info.IsDir() || int(stat.Uid) != os.Getuid() {
			return fmt.Errorf("%s must be a folder of uid %d; hint: somebody else made it, move it away", dir, os.Getuid())
		}
		if info.Mode().Perm()&0o077 != 0 {
			if err := os.Chmod(dir, 0o700); err != nil {
				return fmt.Errorf("close our folder to others: %w", err)
			}
		}
	}
	return nil
}
