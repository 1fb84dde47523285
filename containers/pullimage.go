package containers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/client"
)

// ImageProgress is how far a pull of an image has come.
type ImageProgress struct {
	Layers, Done int    // layers known so far, and those that are there
	Bytes, Total int64  // loaded so far, of the layers whose size is known so far
	Status       string // the engine's last word: "Downloading", "Extracting", …
}

// PullError says why an image was not pulled.
type PullError struct {
	Image string
	Err   error
	Hint  string
}

func (e *PullError) Error() string {
	return fmt.Sprintf("pull image %s: %s\nhint: %s", plain(e.Image), plain(e.Err.Error()), e.Hint)
}

// Unwrap returns what the engine said.
func (e *PullError) Unwrap() error { return e.Err }

// PullImage has the engine pull an image from its registry, on the engine's own
// network and without credentials of ours, and reports how far it is. An error
// is a *PullError.
func (e *Engine) PullImage(ctx context.Context, ref string, report func(ImageProgress)) error {
	failed := func(err error) error { return &PullError{Image: ref, Err: err, Hint: pullHint(ref, e.command(), err)} }
	res, err := e.api.ImagePull(ctx, ref, client.ImagePullOptions{})
	if err != nil {
		return failed(err)
	}
	defer res.Close()
	if err := followPull(res, report); err != nil {
		return failed(err)
	}
	// The stream's end alone proves nothing.
	have, err := e.ImageExists(ctx, ref)
	if err == nil && !have {
		err = errors.New("the engine ended without an error and without the image")
	}
	if err != nil {
		return failed(err)
	}
	return nil
}

// Bounds of a pull's progress stream, which is not ours.
const (
	maxPullMessage = 1 << 20 // bytes
	maxLayers      = 1000
)

// followPull reads the stream of a pull to its end and returns the error that it
// may carry.
func followPull(body io.Reader, report func(ImageProgress)) error {
	bounded := &io.LimitedReader{R: body}
	dec := json.NewDecoder(bounded)
	layers := make(pullLayers)
	for {
		bounded.N = maxPullMessage
		var msg jsonstream.Message
		if err := dec.Decode(&msg); errors.Is(err, io.EOF) && bounded.N > 0 {
			return nil
		} else if err != nil {
			return fmt.Errorf("read the engine's progress: %w", err)
		}
		if msg.Error != nil {
			return msg.Error
		}
		if layers.take(msg) && report != nil {
			report(layers.progress(msg.Status))
		}
	}
}

// pullLayer is one layer of an image on its way.
type pullLayer struct {
	bytes, total int64
	done         bool
}

type pullLayers map[string]*pullLayer

// take takes in a message; false: it tells nothing of a layer. The engines' words:
// moby daemon/internal/distribution and podman pkg/api/handlers/utils/images.go.
func (p pullLayers) take(m jsonstream.Message) bool {
	layer := p[m.ID]
	if layer == nil {
		switch m.Status {
		case "Pulling fs layer", "Waiting", "Downloading", "Already exists":
		case "Pull complete": // Podman's last line, which names the image
			for _, layer := range p {
				layer.bytes, layer.done = layer.total, true
			}
			return true
		default:
			return false // the tag's own line and the like
		}
		if m.ID == "" || len(p) >= maxLayers {
			return false
		}
		layer = &pullLayer{}
		p[m.ID] = layer
	}
	switch m.Status {
	case "Downloading":
		if m.Progress != nil {
			layer.total = max(layer.total, m.Progress.Total, 0)
			layer.bytes = max(layer.bytes, min(m.Progress.Current, layer.total))
		}
	case "Download complete":
		layer.bytes = layer.total
	case "Pull complete", "Already exists":
		layer.bytes, layer.done = layer.total, true
	}
	return true
}

func (p pullLayers) progress(status string) ImageProgress {
	sum := ImageProgress{Layers: len(p), Status: plain(status)}
	for _, layer := range p {
		sum.Bytes += layer.bytes
		sum.Total += layer.total
		if layer.done {
			sum.Done++
		}
	}
	return sum
}

// command is what people type to speak to the engine.
func (e *Engine) command() string {
	if info := e.server.Load(); info != nil {
		return info.Kind
	}
	return KindDocker
}

// pullHint says what to do about a pull that failed; command is the engine's.
func pullHint(ref, command string, err error) string {
	text := strings.ToLower(err.Error())
	has := func(words ...string) bool {
		for _, w := range words {
			if strings.Contains(text, w) {
				return true
			}
		}
		return false
	}
	pull := "`" + command + " pull " + plain(ref) + "`"
	switch {
	case cerrdefs.IsInvalidArgument(err) || has("invalid reference format"):
		return "the name of an image is wanted: registry.example/name:tag"
	case has("toomanyrequests", "rate limit"):
		return "the registry limits pulls: wait, or log in to it on that machine (`" + command + " login`) and pull it there: " + pull
	case has("no space left"):
		return "the disk of that machine's engine is full: see `" + command + " system df`, make room, and start again"
	case cerrdefs.IsUnauthorized(err) || cerrdefs.IsPermissionDenied(err) || has("unauthorized", "denied", "authentication required"):
		return "the registry wants a login, or there is no such image: pull it on that machine, logged in: " + pull
	case cerrdefs.IsNotFound(err) || has("manifest unknown", "not found"):
		return "there is no such image: see the model's `image` in the configuration"
	case has("dial tcp", "lookup ", "timeout", "connection refused", "no route", "unreachable", "tls:", "x509"):
		return "that machine's engine has no way to the registry; bring the image: `docker save " + plain(ref) + " | ssh HOST " + command + " load`"
	}
	return "try it on that machine: " + pull
}

// ImageSize returns the bytes that an image takes on the engine's disk.
func (e *Engine) ImageSize(ctx context.Context, ref string) (int64, error) {
	res, err := e.api.ImageInspect(ctx, ref)
	if err != nil {
		return 0, fmt.Errorf("look at image %s: %w", plain(ref), err)
	}
	return res.Size, nil
}
