package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/models"
)

// which asks for the model.
func (v *interview) which(ctx context.Context) error {
	list := servable()
	usual := ""
	if v.flags.model == "" {
		if v.ask != nil {
			v.say("2. Which model?")
		}
		for i, p := range list {
			if fit := v.fits(p); usual == "" && fit.ok {
				usual = strconv.Itoa(i + 1)
			}
			if v.ask != nil {
				v.say("   %d) %-15s %-40s %s", i+1, p.Name, p.Title, v.fits(p).text)
			}
		}
	}
	return v.question(ctx, "   Its number or name, with llama.cpp behind it for that engine", v.flags.model, usual, v.testModel)
}

// servable are the known models that a server can be started for.
func servable() []models.Profile {
	var list []models.Profile
	for _, p := range models.All() {
		if !p.StandIn() {
			list = append(list, p)
		}
	}
	return list
}

// fit says whether a model fits into a machine's memory.
type fit struct {
	ok   bool // as far as is known
	text string
}

func (v *interview) fits(p models.Profile) fit {
	gb, need := p.Weights().GB, memoryNeed(p)
	text := fmt.Sprintf("%d GB to download, needs about %s of memory", gb, gigabytes(need))
	switch {
	case gb == 0:
		return fit{true, "its size is not known"}
	case v.site == nil:
		return fit{true, text}
	case v.hardware() == models.CUDA: // its own memory is not the machine's
		return fit{true, text + "; that of the GPU is not known here"}
	case need > v.site.facts.MemTotal:
		return fit{false, fmt.Sprintf("%s: does NOT fit into %s", text, gigabytes(v.site.facts.MemTotal))}
	case need > v.site.facts.MemAvailable:
		return fit{true, fmt.Sprintf("%s: fits, once more than %s are free", text, gigabytes(v.site.facts.MemAvailable))}
	}
	return fit{true, text + ": fits"}
}

// hardware is the preset that the machine's devices suggest.
func (v *interview) hardware() models.Hardware {
	var paths []string
	for _, d := range v.site.facts.Devices {
		paths = append(paths, d.Path)
	}
	return models.DetectHardware(paths)
}

// testModel finds the model, and asks whether one that does not fit is meant.
func (v *interview) testModel(ctx context.Context, answer string) error {
	name, engine, _ := strings.Cut(strings.TrimSpace(answer), " ")
	if engine = strings.TrimSpace(engine); engine == "" {
		engine = v.flags.engine
	}
	p, err := knownModel(name)
	if err != nil {
		return err
	}
	if engine, err = v.pickEngine(ctx, p, engine); err != nil {
		return err
	}
	v.said.engine, v.said.profile = "", p
	if engine != string(p.Engine) {
		v.said.engine = models.Engine(engine)
		v.said.profile = models.Merge(p, models.Override{Engine: v.said.engine})
	}
	v.said.model = strings.ToLower(name)
	if _, number := strconv.Atoi(name); number == nil || strings.ContainsAny(name, "/:") {
		v.said.model = p.Name
	}
	f := v.fits(v.said.profile)
	if !f.ok {
		v.show("memory", warned("a smaller model; memory that the firmware gave to the GPU alone is not counted here", "%s: %s", p.Name, f.text))
		return v.allTheSame(ctx)
	}
	v.show("model", fine("%s (%s): %s", p.Name, v.said.profile.Engine, f.text))
	if v.site != nil && v.hardware() == models.StrixHalo && v.said.profile.Engine == models.VLLM && p.LlamaCPP != nil {
		v.say("  on this hardware llama.cpp is reported to be several times faster: name it behind the model, or --engine llama.cpp")
	}
	return nil
}

// allTheSame asks whether something is meant that a test advises against. Who
// cannot be asked has been warned.
func (v *interview) allTheSame(ctx context.Context) error {
	if v.ask == nil || v.flags.yes {
		return nil
	}
	yes, err := v.ask.confirm(ctx, "  Take it all the same?", false)
	if err == nil && !yes {
		err = errShown
	}
	return err
}

// knownModel finds a model by its name, an alias, or its number in the list.
func knownModel(name string) (models.Profile, error) {
	list := servable()
	if n, err := strconv.Atoi(name); err == nil {
		if n < 1 || n > len(list) {
			return models.Profile{}, usage(fmt.Errorf("there is no model %d; hint: a number from 1 to %d, or a name", n, len(list)))
		}
		return list[n-1], nil
	}
	p, ok := models.Resolve(name)
	switch {
	case !ok:
		return p, usage(fmt.Errorf("no known model is called %q; hint: %s; others can be written into the configuration by hand (config.example.yaml)",
			audit.Printable(name), strings.Join(knownNames(), ", ")))
	case p.StandIn():
		return p, usage(errors.New("demo needs no configuration; hint: launcher claude demo"))
	}
	return p, nil
}

// pickEngine is the engine that was asked for, or the profile's; where servers
// are processes, one whose program is there.
func (v *interview) pickEngine(ctx context.Context, p models.Profile, engine string) (string, error) {
	chosen := engine
	if chosen == "" {
		chosen = string(p.Engine)
	}
	switch models.Engine(chosen) {
	case models.VLLM:
	case models.LlamaCPP:
		if p.LlamaCPP == nil {
			return "", usage(fmt.Errorf("no weights of %s are known for llama.cpp; hint: vllm", p.Name))
		}
	default:
		return "", usage(fmt.Errorf("%q is no engine; hint: vllm or llama.cpp", audit.Printable(chosen)))
	}
	if v.site == nil {
		return chosen, nil
	}
	h, err := v.site.host(ctx)
	if err != nil || h.engine != nil {
		return chosen, err
	}
	if _, err := v.site.command(models.Profile{Engine: models.Engine(chosen)}, h); err != nil {
		_, other := v.site.command(models.Profile{Engine: models.LlamaCPP}, h)
		if engine != "" || other != nil || p.LlamaCPP == nil {
			return "", err
		}
		v.say("  vllm is not there, llama-server is: taking llama.cpp")
		chosen = string(models.LlamaCPP)
	}
	return chosen, nil
}
