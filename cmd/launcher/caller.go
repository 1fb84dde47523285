package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/sallyport/sallyport/config"
	"github.com/sallyport/sallyport/control"
)

// caller is who runs the launcher, and as whom the agent and the gateway run.
type caller struct {
	uid, gid int    // of agent, gateway, wall and holders: never root
	home     string // of that user: the gateway's state and the agents' homes
	ownHome  string // of the user who called: ssh and git settings
	root     bool   // the launcher itself runs as root
	folder   string // the project
	paths    control.Paths
}

func (p process) caller() (caller, error) {
	folder, err := os.Getwd()
	if err != nil {
		return caller{}, fmt.Errorf("find the current folder: %w", err)
	}
	folder, err = filepath.EvalSymlinks(folder)
	if err != nil {
		return caller{}, fmt.Errorf("find the current folder: %w", err)
	}
	c := caller{uid: os.Getuid(), gid: os.Getgid(), folder: folder, ownHome: p.getenv("HOME")}
	if c.ownHome == "" {
		return caller{}, usage(errors.New("HOME is not set; hint: it says where the state and the configuration are"))
	}
	c.home = c.ownHome
	if c.uid != 0 {
		c.paths = control.PathsFor(c.uid, c.home, p.getenv)
		return c, nil
	}
	c.root = true
	u := control.OrdinaryUser(folder, p.getenv)
	c.uid, c.gid, c.home = u.UID, u.GID, u.Home
	c.paths = control.PathsFor(c.uid, c.home, nil)
	return c, nil
}

// makeHome makes, for root's agents, the home of a user who has none.
func (c caller) makeHome() error {
	if !c.root {
		return nil
	}
	return control.User{UID: c.uid, GID: c.gid, Home: c.home}.MakeHome()
}

func (o *options) loadConfig(c caller) (*config.Config, error) {
	if o.configFile != "" { // the gateway's current folder is another one
		path, err := filepath.Abs(o.configFile)
		if err != nil {
			return nil, fmt.Errorf("find the configuration: %w", err)
		}
		o.configFile = path
	}
	return config.Load(config.Options{Path: o.configFile, Environ: o.lookupenv, Home: c.ownHome})
}

// launcherID names this process for as long as it lives: "pid:starttime".
func launcherID(pid int) (string, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", fmt.Errorf("read a process's start time: %w", err)
	}
	started, err := startTime(string(data))
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d:%s", pid, started), nil
}

// startTime is the 22nd field of proc_pid_stat(5). The second, a name in
// parentheses, may hold anything.
func startTime(stat string) (string, error) {
	const starttime = 22 - 3 // counted from "state", the third field
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) <= starttime {
		return "", errors.New("read a process's start time: /proc gives too few fields")
	}
	return fields[starttime], nil
}

// launcherAlive reports whether the launcher of a container's label still runs.
func launcherAlive(label string) bool {
	pid, err := strconv.Atoi(strings.SplitN(label, ":", 2)[0])
	if err != nil || pid <= 0 {
		return false
	}
	id, err := launcherID(pid)
	return err == nil && id == label
}

// gatewayBinary is the gateway beside the launcher.
func (p process) gatewayBinary() (string, error) {
	self, err := filepath.EvalSymlinks(p.self)
	if err != nil {
		return "", fmt.Errorf("find our own binary: %w", err)
	}
	beside := filepath.Join(filepath.Dir(self), "gateway")
	if info, err := os.Stat(beside); err == nil && info.Mode().IsRegular() {
		return beside, nil
	}
	return "", fmt.Errorf("there is no gateway at %s; hint: launcher and gateway are installed together", beside)
}

// version is the module's version, or the commit that it was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return info.Main.Version
}
