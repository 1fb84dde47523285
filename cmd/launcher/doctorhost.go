package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/machine"
	"github.com/sallyport/sallyport/models"
)

// checkup is what is found out about one machine that runs model servers.
type checkup struct {
	doctor *doctor
	host   string // of the configuration; empty: this machine
	ssh    string // its SSH destination
	title  string
	site   *site // nil: it could not be opened
	err    error // why
	links  *links
}

// openChecks opens this machine.
func openChecks() []check[*checkup] {
	return []check[*checkup]{{name: "shell", what: "commands here", run: func(c *checkup, ctx context.Context) finding {
		c.open(ctx)
		return c.checkShell(ctx)
	}}}
}

// open opens the machine, once.
func (c *checkup) open(ctx context.Context) {
	if c.site == nil && c.err == nil {
		c.site, c.err = c.doctor.sites.get(ctx, c.host)
	}
}

func (c *checkup) checkShell(context.Context) finding {
	if c.err != nil {
		return failed(c.err)
	}
	f := c.site.facts
	return fine("%s as %s (uid %d), Linux %s, %s", f.Hostname, f.User, f.UID, f.Kernel, f.Arch)
}

// serverChecks are about a machine that runs model servers, this one or another.
func serverChecks() []check[*checkup] {
	shell := []string{"shell"}
	return []check[*checkup]{
		{name: "runtime", what: "what servers run in", needs: shell, run: (*checkup).checkRuntime},
		{name: "process", what: "namespaces for runtime: process", needs: shell, run: (*checkup).checkNamespaces},
		{name: "cpu", what: "whether our binary runs there", needs: shell, run: (*checkup).checkArch},
		{name: "devices", what: "the GPU's devices", needs: shell, run: (*checkup).checkDevices},
		{name: "memory", what: "memory", needs: shell, run: (*checkup).checkMemory},
		{name: "disk", what: "free disk for weights", needs: shell, run: (*checkup).checkDisk},
	}
}

func (c *checkup) checkRuntime(ctx context.Context) finding {
	h, err := c.site.host(ctx)
	if err != nil {
		return failed(err)
	}
	f := fine("%s", h)
	if len(h.passed) > 0 {
		f = warned("", "%s; an engine that is there was passed over", h)
		for _, why := range h.passed {
			p := takeApart(why)
			f.Detail, f.Hints = append(append(f.Detail, p.Text), p.Detail...), append(f.Hints, p.Hints...)
		}
	}
	return f
}

func (c *checkup) checkNamespaces(ctx context.Context) finding {
	h, err := c.site.host(ctx)
	why := c.site.facts.UserNamespaces
	switch {
	case err == nil && h.engine != nil:
		return skipped("not needed: servers run in %s", h.info.Kind)
	case why != "":
		return failed(errors.New(why))
	}
	return fine("user and network namespaces can be made")
}

func (c *checkup) checkArch(context.Context) finding {
	if err := c.site.checkArch(); err != nil {
		return failed(err)
	}
	return fine("%s, as here", c.site.facts.Arch)
}

func (c *checkup) checkDevices(ctx context.Context) finding {
	h, _ := c.site.host(ctx) // without one, checkRuntime says so
	return devices(c.site.facts, h, models.Hardware(c.site.settings.Hardware))
}

// devices says which GPU there is, and whether a server may open it.
func devices(f machine.Facts, h hosting, set models.Hardware) finding {
	var paths, closed, groups []string
	for _, d := range f.Devices {
		paths = append(paths, d.Path)
		if !d.Usable {
			closed = append(closed, d.Path)
			if group := fmt.Sprint(d.GID); !slices.Contains(groups, group) {
				groups = append(groups, group)
			}
		}
	}
	kind := models.DetectHardware(paths)
	if set != "" {
		kind = set
	}
	switch {
	case len(paths) == 0 && kind == models.CPU && set != "":
		return fine("none, and hardware: cpu is set")
	case len(paths) == 0 && set == "":
		return warned("is its driver loaded? Otherwise set hardware: cpu for this machine", "no GPU: models run on the CPU, slowly")
	case len(paths) == 0:
		return failed(fmt.Errorf("hardware: %s is set, and there is no GPU's device file; hint: is its driver loaded?", set))
	}
	found := fmt.Sprintf("%s: %s", kind, strings.Join(paths, " "))
	rootful := h.engine != nil && !h.info.Rootless // it gives a server the groups, whoever asks
	if len(closed) > 0 && !rootful {
		who := f.User
		f := failed(fmt.Errorf("the login may not open %s", strings.Join(closed, " ")))
		f.Hints = []string{"sudo usermod -aG " + strings.Join(groups, ",") + " " + who + ", and log in again"}
		return f
	}
	return fine("%s", found)
}

func (c *checkup) checkMemory(context.Context) finding {
	f := c.site.facts
	text := fmt.Sprintf("%s free of %s", gigabytes(f.MemAvailable), gigabytes(f.MemTotal))
	for _, m := range c.doctor.modelsAt(c.host) {
		if need := memoryNeed(m.Profile); need > f.MemTotal && f.MemTotal > 0 {
			return warned("choose a smaller model, or quantised weights; memory that the firmware gave to the GPU alone is not counted here",
				"%s needs about %s, and there are %s", m.Name, gigabytes(need), text)
		}
	}
	return fine("%s", text)
}

// memoryNeed is a rule of thumb, in bytes: the weights and a tenth, for the cache
// of what was read and the server itself; zero: unknown.
func memoryNeed(p models.Profile) int64 { return int64(p.Weights().GB) * 1e9 * 11 / 10 }

func (c *checkup) checkDisk(ctx context.Context) finding {
	free, err := c.site.DiskFree(ctx, c.site.weights())
	if err != nil {
		return failed(err)
	}
	need := int64(0)
	for _, m := range c.doctor.modelsAt(c.host) {
		v, err := c.doctor.options.serving(ctx, c.doctor.sites, c.site, m)
		if err != nil {
			break // checkRuntime says so
		}
		if found, err := v.find(ctx); err == nil && !found.Complete {
			need += max(0, int64(m.Weights().GB)*1e9-found.HaveBytes)
		}
	}
	if need > free {
		return warned("make room, or set "+c.site.setting("weights")+" to a larger disk", "%s free in %s, and missing weights have %s", gigabytes(free), c.site.weights(), gigabytes(need))
	}
	return fine("%s free in %s, missing weights have %s", gigabytes(free), c.site.weights(), gigabytes(need))
}

// modelsAt are the configured models whose servers on a machine are ours.
func (d *doctor) modelsAt(host string) []model {
	var list []model
	for _, m := range allModels(d.config) {
		if m.listed && m.ours() && m.at(host) {
			list = append(list, m)
		}
	}
	return list
}
