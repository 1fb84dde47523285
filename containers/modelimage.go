package containers

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/client"
)

// ModelImageSpec says what one model's agent image adds to the base: files such
// as the agent's settings for that model.
type ModelImageSpec struct {
	Base  string      // from BuildAgent; required
	Model string      // the model's name; required, in lower case
	Files []ImageFile // at least one
}

// ImageFile is a file of an image, root's and readable by all.
type ImageFile struct {
	Path string // absolute
	Data []byte
}

func (s ModelImageSpec) check() error {
	if s.Base == "" || strings.ContainsAny(s.Base, " \n") {
		return fmt.Errorf("build model image %q: %q is no base image", s.Model, s.Base)
	}
	if s.Model == "" || strings.Trim(s.Model, "abcdefghijklmnopqrstuvwxyz0123456789._-") != "" || strings.ContainsAny(s.Model[:1], "._-") {
		return fmt.Errorf("build model image: %q does not go into an image's name\nhint: letters a-z, digits and . _ -", s.Model)
	}
	if len(s.Files) == 0 {
		return errors.New("build model image " + s.Model + ": no files")
	}
	for _, f := range s.Files {
		if !path.IsAbs(f.Path) || path.Clean(f.Path) != f.Path || f.Path == "/" {
			return fmt.Errorf("build model image %s: %q is not the absolute path of a file", s.Model, f.Path)
		}
	}
	return nil
}

// ModelTag returns the name of the image that BuildModelAgent makes of spec,
// without asking an engine.
func ModelTag(spec ModelImageSpec) (string, error) {
	if err := spec.check(); err != nil {
		return "", err
	}
	h := sha256.New()
	fmt.Fprintf(h, "%d\n%s", len(spec.Base), spec.Base)
	for _, f := range spec.Files {
		fmt.Fprintf(h, "%d\n%s%d\n", len(f.Path), f.Path, len(f.Data))
		h.Write(f.Data)
	}
	return "sallyport/claude-" + spec.Model + ":" + hex.EncodeToString(h.Sum(nil))[:16], nil
}

// BuildModelAgent makes a model's agent image on top of the base, which must be
// there, and returns its name, at once when the engine has it already. made says
// that it had to be built.
func (e *Engine) BuildModelAgent(ctx context.Context, spec ModelImageSpec) (tag string, made bool, err error) {
	if tag, err = ModelTag(spec); err != nil {
		return "", false, err
	}
	have, err := e.ImageExists(ctx, tag)
	if err != nil || have {
		return tag, false, err
	}
	files, err := modelContext(spec)
	if err != nil {
		return "", false, err
	}
	res, err := e.api.ImageBuild(ctx, files, client.ImageBuildOptions{
		Tags: []string{tag}, Dockerfile: "Dockerfile", Version: build.BuilderV1, NetworkMode: "none",
		Remove: true, ForceRemove: true, Labels: map[string]string{"dev.sallyport.model": spec.Model},
	})
	if err != nil {
		return "", false, fmt.Errorf("build model image %s: %w", tag, err)
	}
	defer res.Body.Close()
	report := &buildReport{progress: func(string) {}}
	if err := report.read(res.Body); err != nil {
		return "", false, fmt.Errorf("build model image %s: %w", tag, err)
	}
	return tag, true, nil
}

// modelContext returns the tar that the build starts from.
func modelContext(spec ModelImageSpec) (*bytes.Buffer, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	entries := []tarFile{{name: "Dockerfile", data: []byte("FROM " + spec.Base + "\nCOPY files/ /\n")}, {name: "files/", mode: 0o755}}
	folders := map[string]bool{}
	for _, f := range spec.Files {
		parts := strings.Split(strings.TrimPrefix(path.Dir(f.Path), "/"), "/")
		for i := range parts {
			if dir := strings.Join(parts[:i+1], "/"); dir != "" && !folders[dir] {
				folders[dir] = true
				entries = append(entries, tarFile{name: "files/" + dir + "/", mode: 0o755})
			}
		}
		entries = append(entries, tarFile{name: "files" + f.Path, data: f.Data, mode: 0o444})
	}
	for _, f := range entries {
		if err := f.write(w); err != nil {
			return nil, fmt.Errorf("pack the build context of model image %s: %w", spec.Model, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("pack the build context of model image %s: %w", spec.Model, err)
	}
	return &buf, nil
}
