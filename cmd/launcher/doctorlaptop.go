package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/sallyport/sallyport/config"
	"github.com/sallyport/sallyport/containers"
	"github.com/sallyport/sallyport/control"
)

// configChecks are about the configuration file.
func configChecks() []check[*doctor] {
	return []check[*doctor]{
		{name: "file", what: "the configuration", run: (*doctor).checkConfig},
		{name: "secret", what: "who may read the configuration", needs: []string{"file"}, run: (*doctor).checkConfigMode},
	}
}

// laptopChecks are about this machine, where agents run.
func laptopChecks() []check[*doctor] {
	return []check[*doctor]{
		{name: "engine", what: "the Docker engine for sandboxes", run: (*doctor).checkEngine},
		{name: "kernel", what: "the kernel's modules for the wall", run: (*doctor).checkKernel},
		{name: "binary", what: "the gateway's binary beside the launcher", run: (*doctor).checkBinary},
		{name: "folders", what: "who may open our folders", run: (*doctor).checkFolders},
		{name: "gateway", what: "the gateway", needs: []string{"binary"}, run: (*doctor).checkGateway},
		{name: "wall", what: "the wall", needs: []string{"gateway"}, run: (*doctor).checkWall},
		{name: "image", what: "the agents' image", needs: []string{"engine"}, run: (*doctor).checkImage},
	}
}

func (d *doctor) checkConfig(context.Context) finding {
	switch {
	case d.broken != nil:
		f := failed(d.broken)
		f.Hints = append(f.Hints, "mend it: until then hosts and models are not looked at")
		return f
	case d.config.Path == "":
		return fine("no file at %s: the defaults apply (launcher init writes one)", d.configPath())
	}
	return fine("%s, hosts: %d, models: %d", d.config.Path, len(d.config.Hosts), len(d.config.Models))
}

// configPath is where the configuration is, or would be.
func (d *doctor) configPath() string {
	if d.options.configFile != "" {
		return d.options.configFile
	}
	return config.DefaultPath(d.options.lookupenv, d.caller.ownHome)
}

func (d *doctor) checkConfigMode(context.Context) finding {
	if d.config.Path == "" {
		return skipped("there is no file")
	}
	info, err := os.Stat(d.config.Path)
	if err != nil {
		return failed(fmt.Errorf("look at the configuration: %w", err))
	}
	secret := ""
	for _, m := range d.config.Models {
		if m.Token != "" {
			secret = ", and it holds a token"
		}
	}
	switch mode := info.Mode().Perm(); {
	case mode&0o022 != 0:
		return warned("chmod go-w "+d.config.Path, "others may change it (mode %#o), and with it what agents may reach", mode)
	case mode&0o044 != 0 && secret != "":
		return warned("chmod 600 "+d.config.Path, "others may read it (mode %#o)%s", mode, secret)
	}
	return fine("nobody else may change it%s", secret)
}

func (d *doctor) checkEngine(ctx context.Context) finding {
	engine, err := containers.Open(ctx, d.options.dockerHost(d.config))
	if err != nil {
		return failed(err)
	}
	defer engine.Close()
	info, err := engine.Check(ctx)
	if err != nil {
		return failed(err)
	}
	return fine("Docker %s at %s", info.Version, engine.Socket())
}

// wallModules are what the wall's rules need of the kernel: wall/rules.go.
func wallModules() []string {
	return []string{"nf_tables", "nft_tproxy", "nft_socket", "nft_fib_inet", "nft_reject_inet", "nft_log", "nft_limit", "nfnetlink_log", "veth"}
}

func (d *doctor) checkKernel(context.Context) finding {
	k, err := readKernel("/")
	if err != nil {
		return skipped("whether the wall's modules are there is not known: %v", err)
	}
	var missing []string
	for _, name := range wallModules() {
		if !k.has(name) {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return warned("install the kernel's package of further modules, or: sudo modprobe "+strings.Join(missing, " "),
			"the kernel seems to lack %s, which the wall needs", strings.Join(missing, ", "))
	}
	return fine("%d modules that the wall needs are loaded, built in, or there to be loaded", len(wallModules()))
}

func (d *doctor) checkBinary(context.Context) finding {
	path, err := d.options.gatewayBinary()
	if err != nil {
		return failed(err)
	}
	sum, err := hashFile(path)
	if err != nil {
		return failed(fmt.Errorf("read the gateway's binary: %w", err))
	}
	return fine("%s, %.12s…", path, sum)
}

func (d *doctor) checkFolders(context.Context) finding {
	p := d.caller.paths
	n := 0
	var bad finding
	for _, folder := range []string{p.State, p.Runtime, p.ControlFolder(), p.WallFolder(), p.Models(), p.Pulls(), p.Homes()} {
		info, err := os.Lstat(folder)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		n++
		if why, hint := folderTrouble(info, err, d.caller.uid, folder); why != "" {
			bad.Detail = append(bad.Detail, folder+": "+why)
			bad.Hints = append(bad.Hints, hint)
		}
	}
	if len(bad.Detail) > 0 {
		bad.Verdict, bad.Text = verdictFail, fmt.Sprintf("%d of our folders are not ours alone", len(bad.Detail))
		return bad
	}
	return fine("%d folders of ours, which nobody else may open", n)
}

// folderTrouble says why a folder is not the user's alone; empty: it is.
func folderTrouble(info fs.FileInfo, err error, uid int, path string) (why, hint string) {
	if err != nil {
		return err.Error(), "move it away"
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !ok || !info.IsDir():
		return "it is no folder", "mv " + shellQuote([]string{path, path + ".old"})
	case int(stat.Uid) != uid:
		return "it belongs to uid " + strconv.Itoa(int(stat.Uid)), "mv " + shellQuote([]string{path, path + ".old"})
	case info.Mode().Perm()&0o077 != 0:
		return fmt.Sprintf("others may open it (mode %#o)", info.Mode().Perm()), "chmod 700 " + shellQuote([]string{path})
	}
	return "", ""
}

func (d *doctor) gateway(ctx context.Context) (control.Status, error) {
	return control.NewClient(d.caller.paths.ControlSocket()).Status(ctx)
}

func (d *doctor) checkGateway(ctx context.Context) finding {
	status, err := d.gateway(ctx)
	switch {
	case errors.Is(err, control.ErrNotRunning):
		return fine("does not run: the next agent starts it")
	case err != nil:
		return failed(fmt.Errorf("ask the gateway how it is: %w; hint: gateway down --force", err))
	}
	path, err := d.options.gatewayBinary()
	if err != nil {
		return failed(err)
	}
	sum, err := hashFile(path)
	if err != nil {
		return failed(fmt.Errorf("read the gateway's binary: %w", err))
	}
	switch {
	case status.Binary != sum:
		return warned("gateway down --force: the next agent starts the new one, and agents that run wait for it", "runs (pid %d), and is of another version than %s", status.PID, path)
	case status.Config != d.config.Path && d.broken == nil && !d.caller.root:
		return warned("gateway down --force: the next agent starts one with these rules, and agents that run wait for it", "runs (pid %d) with the rules of %s, not of %s", status.PID, orDefaults(status.Config), orDefaults(d.config.Path))
	}
	return fine("runs, pid %d, the version that is installed; %s", status.PID, status.Confinement)
}

func (d *doctor) checkWall(ctx context.Context) finding {
	status, err := d.gateway(ctx)
	switch {
	case err != nil || len(status.Sandboxes) == 0 && !status.Wall.Up:
		return skipped("does not run: the next agent starts it")
	case !status.Wall.Up:
		return failed(fmt.Errorf("%d sandboxes run and the wall is not connected: they reach nothing; hint: the next launcher starts it, or: docker logs sallyport-wall-%d",
			len(status.Sandboxes), d.caller.uid))
	case !status.Wall.IPv6:
		return fine("connected, IPv4 alone")
	}
	return fine("connected, IPv4 and IPv6")
}

func (d *doctor) checkImage(ctx context.Context) finding {
	spec, err := d.options.imageSpec(d.config, d.caller, newProgress(d.options.stderr, true, false))
	if err != nil {
		return failed(err)
	}
	tag, err := containers.AgentTag(spec)
	if err != nil {
		return failed(err)
	}
	engine, err := containers.Open(ctx, d.options.dockerHost(d.config))
	if err != nil {
		return failed(err)
	}
	defer engine.Close()
	there, err := engine.ImageExists(ctx, tag)
	if err != nil {
		return failed(err)
	}
	if there {
		return fine("%s", tag)
	}
	return warned("launcher build, or leave it to the first launcher claude", "not built yet: %s", tag)
}
