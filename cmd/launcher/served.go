package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/sallyport/sallyport/models"
	"github.com/sallyport/sallyport/models/hub"
	"github.com/sallyport/sallyport/models/server"
)

// served is a model's server on one machine, whether it runs or not.
type served struct {
	*server.Server
	options *options
	sites   *sites
	site    *site
	model   model
	hosting hosting
	binary  string // ours, on this machine
}

// serving finds what serves a model on a machine.
func (o *options) serving(ctx context.Context, s *sites, there *site, m model) (*served, error) {
	h, err := there.host(ctx)
	if err != nil {
		return nil, err
	}
	v := &served{options: o, sites: s, site: there, model: m, hosting: h}
	if v.binary, err = o.gatewayBinary(); err != nil {
		return nil, err
	}
	on, err := v.onMachine()
	if err != nil {
		return nil, err
	}
	var rt server.Runtime
	if h.engine != nil {
		rt = server.NewEngineRuntime(h.engine, h.info, there.Machine, m.server(), there.facts.UID)
	} else {
		rt = server.NewProcessRuntime(there.Machine, there.folder(m.server()), on)
	}
	v.Server = &server.Server{Name: m.server(), Machine: there.Machine, Runtime: rt,
		Socket: v.socket(), History: o.history(s.caller), Pulling: v.pulling}
	return v, nil
}

// socket is what clients connect to, on the machine.
func (v *served) socket() string { return v.site.folder(v.model.server()) + "/model.sock" }

// history is where starts are remembered.
func (o *options) history(c caller) *server.History {
	return &server.History{Path: filepath.Join(c.paths.State, "models.json")}
}

// onMachine is where our binary lies on the machine, once it has been put there.
func (v *served) onMachine() (string, error) {
	sum, err := hashFile(v.binary)
	if err != nil {
		return "", fmt.Errorf("read the gateway's binary: %w", err)
	}
	return v.site.base() + "/bin/gateway-" + sum[:16], nil
}

// find looks for the weights on the machine.
func (v *served) find(ctx context.Context) (hub.Found, error) {
	return hub.Find(ctx, v.site.Machine, v.site.weights(), wanted(v.model.Weights()))
}

func wanted(w models.Weights) hub.Want {
	return hub.Want{Repo: w.Repo, Revision: w.Revision, Include: w.Include, Encodings: w.Encodings}
}

// weights is the real folder of the weights that were found; where nothing was,
// the one that is set.
func (v *served) weights(found hub.Found) string { return cmp.Or(found.Weights, v.site.weights()) }

// place is where the model is to run; found says which weights.
func (v *served) place(found hub.Found) (models.Place, error) {
	binary, err := v.onMachine()
	if err != nil {
		return models.Place{}, err
	}
	p := models.Place{
		Folder: v.site.folder(v.model.server()), Weights: v.weights(found), Snapshot: found.Snapshot, Binary: binary,
		Container: v.hosting.engine != nil, UID: v.site.facts.UID, GID: v.site.facts.GID,
		EngineKind: v.hosting.info.Kind, Rootless: v.hosting.info.Rootless,
		Hardware: models.Hardware(v.site.settings.Hardware), Devices: []string{}, By: v.options.by(v.sites.caller),
	}
	seen := map[int]bool{}
	for _, d := range v.site.facts.Devices {
		p.Devices = append(p.Devices, d.Path)
		if d.GID > 0 && !seen[d.GID] {
			seen[d.GID] = true
			p.GroupIDs = append(p.GroupIDs, d.GID)
		}
	}
	if !p.Container {
		if p.Command, err = v.site.command(v.model.Profile, v.hosting); err != nil {
			return p, err
		}
	}
	return p, nil
}

// errNoWeights says which command fetches weights that are not there.
type errNoWeights struct {
	model, machine, folder string
	missing                []string
	gb                     int   // of the whole download; zero: unknown
	have                   int64 // bytes that are there
}

func (e *errNoWeights) Error() string {
	size := "of unknown size"
	if e.gb > 0 {
		size = fmt.Sprintf("about %d GB", e.gb)
		if e.have > 0 {
			size += fmt.Sprintf(", of which %s are there", gigabytes(e.have))
		}
	}
	return fmt.Sprintf("the weights of %s are not on %s, in %s; hint: launcher pull %s fetches them (%s)", e.model, e.machine, e.folder, e.model, size)
}

// ready makes everything ready for a start, but the image: the weights are there,
// our binary is, and the folder.
func (v *served) ready(ctx context.Context) (models.Launch, error) {
	found, err := v.find(ctx)
	if err != nil {
		return models.Launch{}, err
	}
	if !found.Complete {
		return models.Launch{}, v.noWeights(found)
	}
	launch, err := v.launch(found)
	if err != nil {
		return launch, err
	}
	if err := v.site.checkArch(); err != nil {
		return launch, err
	}
	if err := v.putBinary(ctx); err != nil {
		return launch, err
	}
	return launch, nil
}

func (v *served) noWeights(found hub.Found) error {
	return &errNoWeights{model: v.model.Name, machine: v.site.title(), folder: v.site.weights(),
		missing: found.Missing, gb: v.model.Weights().GB, have: found.HaveBytes}
}

func (v *served) launch(found hub.Found) (models.Launch, error) {
	place, err := v.place(found)
	if err != nil {
		return models.Launch{}, err
	}
	p := v.model.Profile
	p.Name = v.model.server()
	return p.Launch(place)
}

// putBinary puts our binary on the machine, unless it is there, and is the one;
// and makes our folders, which are nobody else's.
func (v *served) putBinary(ctx context.Context) error {
	path, err := v.onMachine()
	if err != nil {
		return err
	}
	sum, err := hashFile(v.binary)
	if err != nil {
		return fmt.Errorf("read the gateway's binary: %w", err)
	}
	// A name proves nothing. Without sha256sum nothing is printed.
	const there = `umask 077; mkdir -p -- "$2" && chmod 700 -- "$1" && { [ ! -f "$3" ] || [ ! -x "$3" ] || sha256sum <"$3" 2>/dev/null || :; }`
	out, err := v.site.Sh(ctx, there, nil, v.site.base(), v.site.folder(v.model.server()), path)
	if err != nil {
		return fmt.Errorf("make our folder on %s: %w", v.site.title(), err)
	}
	if got, _, _ := strings.Cut(string(out), " "); got == sum {
		return nil
	}
	f, err := os.Open(v.binary)
	if err != nil {
		return fmt.Errorf("read the gateway's binary: %w", err)
	}
	defer f.Close()
	if err := v.site.Put(ctx, path, f, 0o755); err != nil {
		return fmt.Errorf("put our binary on %s: %w", v.site.title(), err)
	}
	return nil
}
