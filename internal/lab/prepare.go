package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/sallyport/sallyport/containers"
)

// prepared is what the cache holds for a lab.
type prepared struct {
	roots map[string]string // suite → folder
	base  image
	agent image // zero without Options.Agent
}

// image is an image that an engine is to have.
type image struct {
	name string // as containers name it; empty: none
	mark string // a name that changes with the content
	file string // outside path of its tar
}

func (p *prepared) root(e Engine) string { return p.roots[e.suite()] }

// prepare makes what the cache lacks.
func prepare(ctx context.Context, o Options) (*prepared, error) {
	p := &prepared{roots: make(map[string]string)}
	engines := []Engine{Engine28, o.Engine}
	if o.Agent { // its image is built there
		engines = append(engines, Engine20)
	}
	for _, e := range engines {
		if p.roots[e.suite()] != "" {
			continue
		}
		root, err := script(ctx, "lab-root", e.suite(), cacheDir())
		if err != nil {
			return nil, err
		}
		p.roots[e.suite()] = root
	}
	base := filepath.Join(cacheDir(), "base.tar")
	if _, err := script(ctx, "base-image", base); err != nil {
		return nil, err
	}
	info, err := os.Stat(base)
	if err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	p.base = image{
		name: containers.BaseImage,
		mark: fmt.Sprintf("sp-lab/base:%d-%d", info.Size(), info.ModTime().Unix()),
		file: base,
	}
	if o.Agent {
		p.agent, err = agentImage(ctx, p)
	}
	return p, err
}

// Binaries builds the static gateway and launcher into a new folder, for
// Options.Bin. The caller removes the folder.
func Binaries(ctx context.Context) (dir string, err error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	if dir, err = os.MkdirTemp("", prefix+"bin-"); err != nil {
		return "", err
	}
	// The user of the laptop has to get at them.
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", err
	}
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", dir+"/", "./cmd/gateway", "./cmd/launcher")
	build.Dir = root
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", errors.Join(fmt.Errorf("lab: build gateway and launcher: %w: %s", err, out), os.RemoveAll(dir))
	}
	return dir, nil
}
