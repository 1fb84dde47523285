package lab

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/sallyport/sallyport/containers"
)

// LlamaImage is an image of llama.cpp's server, with the program where llama.cpp's
// own image has it and as its entry point.
const LlamaImage = "sallyport-lab/llama:1"

// LoadLlamaImage has the GPU host's engine know LlamaImage.
func (g *GPUHost) LoadLlamaImage(ctx context.Context) error {
	root, err := script(ctx, "lab-root", Engine28.suite(), cacheDir())
	if err != nil {
		return err
	}
	file := filepath.Join(cacheDir(), "llama-"+filepath.Base(root)+".tar")
	lock, err := lockFile(file+".lock", 0)
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }()
	if _, err := script(ctx, "lab-llama", file, cacheDir()); err != nil {
		return err
	}
	return g.loadOnce(ctx, LlamaImage, file, `ENTRYPOINT ["/app/llama-server"]`)
}

// LoadBaseImage has the GPU host's engine know containers.BaseImage.
func (g *GPUHost) LoadBaseImage(ctx context.Context) error {
	return g.loadOnce(ctx, containers.BaseImage, filepath.Join(cacheDir(), "base.tar"))
}

// loadOnce imports the tar of a file system unless the engine's store has it from
// an earlier lab.
func (g *GPUHost) loadOnce(ctx context.Context, name, file string, changes ...string) error {
	info, err := os.Stat(file)
	if err != nil {
		return fmt.Errorf("lab: image %s: %w", name, err)
	}
	plain, _, _ := strings.Cut(name, ":")
	mark := fmt.Sprintf("%s%s:%d-%d", gpuMark, filepath.Base(plain), info.Size(), info.ModTime().Unix())
	if _, err := g.engineCommand(ctx, "image", "inspect", g.ref(mark)).Output(); err != nil {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		if err := g.ImportImage(ctx, mark, f, changes...); err != nil {
			return err
		}
	}
	_, err = g.engineCommand(ctx, "tag", g.ref(mark), g.ref(name)).Output()
	return err
}

// gpuMark begins the names by which images are known again in a later lab.
const gpuMark = "sp-lab/gpu-"

// ImportImage has the GPU host's engine make an image of the tar of a file system.
// changes are lines of a Dockerfile: ENTRYPOINT and the like.
func (g *GPUHost) ImportImage(ctx context.Context, ref string, tar io.Reader, changes ...string) error {
	args := []string{"import"}
	for _, change := range changes {
		args = append(args, "--change", change)
	}
	c := g.engineCommand(ctx, append(args, "-", g.ref(ref))...)
	c.Stdin = tar
	if _, err := c.Output(); err != nil {
		return fmt.Errorf("lab: import image %s: %w", ref, err)
	}
	return nil
}

// ref is an image's full name: Podman's own commands would look for a short one
// in more than one place, its API only on docker.io.
func (g *GPUHost) ref(name string) string {
	first, _, path := strings.Cut(name, "/")
	switch {
	case g.engine.kind != GPUPodman || path && strings.ContainsAny(first, ".:"):
		return name
	case !path:
		return "docker.io/library/" + name
	}
	return "docker.io/" + name
}

// engineCommand is the engine's own command, as whoever owns the engine.
func (g *GPUHost) engineCommand(ctx context.Context, args ...string) *Cmd {
	if g.engine.kind == GPUPodman {
		return g.Command(ctx, "podman", args...)
	}
	return g.CommandRoot(ctx, "docker", args...)
}

// RemoveContainers removes every container of the GPU host's engine, running or
// not; without an engine it does nothing.
func (g *GPUHost) RemoveContainers(ctx context.Context) error {
	if g.engine == nil {
		return nil
	}
	script := `docker ps -aq | xargs -r docker rm -f -v && docker network prune -f && docker volume prune -f`
	if g.engine.kind == GPUPodman {
		script = `podman rm --all --force --time 0 --volumes && podman volume prune --force`
	}
	_, err := g.Command(ctx, "sh", "-ec", script).Output()
	return err
}

// tidy removes the containers that an earlier lab left in the engine's store, and
// the images that its tests made.
func (g *GPUHost) tidy(ctx context.Context) error {
	if err := g.RemoveContainers(ctx); err != nil {
		return err
	}
	list, err := g.engineCommand(ctx, "image", "ls", "--format", "{{.Repository}}:{{.Tag}}").Output()
	if err != nil {
		return err
	}
	args := []string{"image", "rm", "--force"}
	for _, name := range strings.Fields(string(list)) {
		if !strings.HasPrefix(name, g.ref(gpuMark)) && !strings.Contains(name, "<none>") {
			args = append(args, name)
		}
	}
	if len(args) == 3 {
		return nil
	}
	_, err = g.engineCommand(ctx, args...).Output()
	return err
}
