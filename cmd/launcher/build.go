package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/sallyport/sallyport/agents"
	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/config"
	"github.com/sallyport/sallyport/containers"
	"github.com/sallyport/sallyport/models"
	"github.com/spf13/cobra"
)

func newBuildCommand(o *options) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "build [MODEL…]",
		Short: "Build the agent images, unless they are there",
		Long: `Build the base image with Claude Code and, on top of it, one image for each named
model with that model's settings; no name: for each model that is known or configured.
What is there already is left alone. "launcher claude" does it by itself. The settings
are those of the configuration: agent.claude_version, agent.extra_ca, agent.build_network.

Where packages come from mirrors, as on a CI machine, these variables of the
environment say so. They change how the image is built, not what is in it:
  SALLYPORT_BUILD_APT_SOURCES  file that replaces the base image's apt sources
  SALLYPORT_BUILD_APT_CONF     file of apt.conf settings
  SALLYPORT_BUILD_NPM_REGISTRY URL of the npm registry`,
		Example:           "  launcher build\n  launcher build gpt-oss\n  SALLYPORT_BUILD_NPM_REGISTRY=http://mirror.example:4873 launcher build",
		ValidArgsFunction: o.completeModels,
		RunE: func(cmd *cobra.Command, names []string) error {
			c, cfg, engine, err := o.open(cmd.Context())
			if err != nil {
				return err
			}
			defer engine.Close()
			wanted, err := imageModels(cfg, names)
			if err != nil {
				return usage(err)
			}
			built, err := o.buildAll(cmd.Context(), engine, cfg, c, wanted)
			if err != nil {
				return err
			}
			return printImages(o.stdout, built, asJSON)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// builtImage is a line of launcher build's summary.
type builtImage struct {
	Model string `json:"model"` // empty: the base
	Image string `json:"image"`
	Bytes int64  `json:"bytes"` // with all that lies below
	Own   int64  `json:"own"`   // of these its own
	Made  bool   `json:"made"`  // now; false: it was there
}

// imageModels are the models that an image is built for.
func imageModels(cfg *config.Config, names []string) ([]models.Profile, error) {
	if len(names) == 0 {
		for _, p := range models.All() {
			if !p.StandIn() {
				names = append(names, p.Name)
			}
		}
		for _, m := range cfg.Models {
			names = append(names, m.Name)
		}
	}
	var list []models.Profile
	seen := map[string]bool{}
	for _, name := range names {
		m, err := profileOf(cfg, name)
		if err != nil {
			return nil, err
		}
		if !seen[m.Name] {
			seen[m.Name] = true
			list = append(list, m)
		}
	}
	return list, nil
}

func (o *options) buildAll(ctx context.Context, engine *containers.Engine, cfg *config.Config, c caller, wanted []models.Profile) ([]builtImage, error) {
	p := newProgress(o.stderr, o.quiet, false)
	spec, err := o.imageSpec(cfg, c, p)
	if err != nil {
		return nil, err
	}
	base, err := containers.AgentTag(spec)
	if err != nil {
		return nil, err
	}
	there, err := engine.ImageExists(ctx, base)
	if err != nil {
		return nil, err
	}
	if base, err = engine.BuildAgent(ctx, spec); err != nil {
		return nil, err
	}
	size, err := engine.ImageSize(ctx, base)
	if err != nil {
		return nil, err
	}
	built := []builtImage{{Image: base, Bytes: size, Own: size, Made: !there}}
	for _, m := range wanted {
		tag, made, err := buildModelImage(ctx, engine, cfg, base, m)
		if err != nil {
			return nil, err
		}
		all, err := engine.ImageSize(ctx, tag)
		if err != nil {
			return nil, err
		}
		built = append(built, builtImage{Model: m.Name, Image: tag, Bytes: all, Own: all - size, Made: made})
	}
	return built, nil
}

func printImages(w io.Writer, built []builtImage, asJSON bool) error {
	if asJSON {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(built)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "FOR\tIMAGE\tSIZE\tITS OWN\t")
	for _, b := range built {
		what, state := b.Model, "was there"
		if b.Model == "" {
			what = "base"
		}
		if b.Made {
			state = "built"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", what, b.Image, imageSize(b.Bytes), imageSize(b.Own), state)
	}
	return t.Flush()
}

// imageSize is a size as docker images shows it: decimal units.
func imageSize(n int64) string {
	switch {
	case n >= 1e9:
		return fmt.Sprintf("%.2f GB", float64(n)/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.0f MB", float64(n)/1e6)
	case n >= 1e3:
		return fmt.Sprintf("%.0f kB", float64(n)/1e3)
	}
	return fmt.Sprintf("%d B", n)
}

// outsideSandbox is the model endpoint in an image's own settings, which a
// sandbox's replace: run by hand, the image reaches nothing (RFC 6761, .invalid).
const outsideSandbox = "http://model.sallyport.invalid"

// buildModelImage builds a model's agent image on top of the base.
func buildModelImage(ctx context.Context, engine *containers.Engine, cfg *config.Config, base string, m models.Profile) (tag string, made bool, err error) {
	profile, err := agents.Claude(agents.Options{BaseURL: outsideSandbox, Model: m.Name, MaxContext: m.MaxContext, Project: homeInside,
		HomeDir: homeInside, PermissionMode: cfg.Agent.PermissionMode})
	if err != nil {
		return "", false, err
	}
	spec := containers.ModelImageSpec{Base: base, Model: imageName(m.Name)}
	for _, f := range profile.Files {
		if strings.HasPrefix(f.Path, "/etc/claude-code/") {
			spec.Files = append(spec.Files, containers.ImageFile{Path: f.Path, Data: f.Data})
		}
	}
	return engine.BuildModelAgent(ctx, spec)
}

// imageName is a model's name as an image can have it.
func imageName(model string) string {
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '.' || r == '_' {
			return r
		}
		return '-'
	}, strings.ToLower(model))
	if name = strings.Trim(name, "-._"); name == "" {
		return "model"
	}
	return name
}

// buildAgent builds the base image for the caller unless it is there.
func (o *options) buildAgent(ctx context.Context, engine *containers.Engine, cfg *config.Config, c caller, p *progress) (string, error) {
	spec, err := o.imageSpec(cfg, c, p)
	if err != nil {
		return "", err
	}
	return engine.BuildAgent(ctx, spec)
}

// imageSpec is what the configuration and the environment say of the base image.
func (o *options) imageSpec(cfg *config.Config, c caller, p *progress) (containers.BuildSpec, error) {
	spec := containers.BuildSpec{UID: c.uid, GID: c.gid, Version: cfg.Agent.ClaudeVersion, Network: cfg.Agent.BuildNetwork,
		NpmRegistry: o.getenv("SALLYPORT_BUILD_NPM_REGISTRY"),
		Progress:    func(line string) { p.note("%s", audit.Printable(line)) }}
	for _, file := range []struct {
		variable string
		text     *string
	}{{"SALLYPORT_BUILD_APT_SOURCES", &spec.AptSources}, {"SALLYPORT_BUILD_APT_CONF", &spec.AptConf}} {
		if path := o.getenv(file.variable); path != "" {
			data, err := os.ReadFile(path)
			if err != nil {
				return spec, usage(fmt.Errorf("%s: %w", file.variable, err))
			}
			*file.text = string(data)
		}
	}
	if cfg.Agent.ExtraCA != "" {
		pem, err := os.ReadFile(cfg.Agent.ExtraCA)
		if err != nil {
			return spec, usage(fmt.Errorf("agent.extra_ca: %w", err))
		}
		spec.ExtraCA = pem
	}
	return spec, nil
}
