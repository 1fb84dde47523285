package field

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/sallyport/sallyport/containers"
	"github.com/sallyport/sallyport/internal/lab"
)

// image is what all workers run in: nothing of it is used.
const image = containers.BaseImage

// project makes a folder of the user's with the load program in it.
func (f *Field) project() (string, error) {
	f.mu.Lock()
	f.number++
	dir := filepath.Join(f.Lab.Laptop.Home, "work", fmt.Sprint(f.number))
	f.mu.Unlock()
	for _, path := range []string{filepath.Dir(dir), dir} {
		if err := f.folder(path); err != nil {
			return "", err
		}
	}
	return dir, f.copyProgram("load", dir)
}

// Sandbox starts a worker in a sandbox of the product's, by launcher run: see Product.
func (f *Field) Sandbox(ctx context.Context) (*Worker, error) {
	dir, err := f.project()
	if err != nil {
		return nil, err
	}
	// The worker ends by Stop; the context of whoever starts it may end before.
	cmd := f.Lab.Laptop.Command(context.WithoutCancel(ctx), "launcher", "run", image, Model, "--", "./load")
	cmd.Dir = dir
	w, err := startWorker(ctx, "the sandbox", cmd)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	f.keep(w, func(context.Context) error { return os.RemoveAll(dir) })
	w.id, err = f.Lab.Laptop.Docker(ctx, "ps", "--filter", "label="+containers.LabelRole+"="+containers.RoleAgent,
		"--filter", "label="+containers.LabelProject+"="+dir, "--format", `{{.Label "`+containers.LabelSandbox+`"}}`)
	if err == nil && w.id == "" {
		err = errors.New("the sandbox has no container")
	}
	if err != nil {
		return nil, errors.Join(err, w.Stop(context.WithoutCancel(ctx)))
	}
	return w, nil
}

// Bridge starts a worker in a container on the laptop's ordinary Docker bridge: the
// same image, program and user, and no limit on its processor time either.
func (f *Field) Bridge(ctx context.Context) (*Worker, error) {
	dir, err := f.project()
	if err != nil {
		return nil, err
	}
	name := "bench-" + filepath.Base(dir)
	user := fmt.Sprintf("%d:%[1]d", lab.UserID)
	cmd := f.Lab.Laptop.Command(context.WithoutCancel(ctx), "docker", "run", "--rm", "-i", "--name", name, "--user", user,
		"--volume", dir+":"+dir, "--workdir", dir, image, "./load")
	w, err := startWorker(ctx, "the worker on the bridge", cmd)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	f.keep(w, func(ctx context.Context) error {
		_, err := f.Lab.Laptop.Docker(ctx, "rm", "--force", name)
		return errors.Join(err, os.RemoveAll(dir))
	})
	return w, nil
}

// keep has the worker ended at the latest by Reset.
func (f *Field) keep(w *Worker, remove func(context.Context) error) {
	w.remove = remove
	f.atReset(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), closing)
		defer cancel()
		return w.Stop(ctx)
	})
}
