package containers

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
)

// Container is one of our containers as List finds it.
type Container struct {
	ID      string
	Name    string
	Labels  map[string]string
	State   string // "created", "running", "exited", …
	Created time.Time
}

// Start starts a created container.
func (e *Engine) Start(ctx context.Context, id string) error {
	if _, err := e.api.ContainerStart(ctx, id, client.ContainerStartOptions{}); err != nil {
		return fmt.Errorf("start container %s: %w", short(id), err)
	}
	return nil
}

// Wait waits until a started container has ended. A container that was never
// started counts as ended. An error means that the end was not seen, as when
// the engine goes away.
func (e *Engine) Wait(ctx context.Context, id string) (exit int, oomKilled bool, err error) {
	res := e.api.ContainerWait(ctx, id, client.ContainerWaitOptions{Condition: container.WaitConditionNotRunning})
	select {
	case err := <-res.Error:
		return 0, false, fmt.Errorf("wait for container %s: %w", short(id), err)
	case end := <-res.Result:
		if end.Error != nil {
			return 0, false, fmt.Errorf("wait for container %s: %s", short(id), plain(end.Error.Message))
		}
		exit = int(end.StatusCode)
	}
	now, err := e.api.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
	if err != nil || now.Container.State == nil {
		return exit, false, nil // removed meanwhile: the exit code is known all the same
	}
	return exit, now.Container.State.OOMKilled, nil
}

// Kill sends a signal ("SIGTERM"; empty: "SIGKILL") to a container's first
// process. A container that has ended or is gone is no error.
func (e *Engine) Kill(ctx context.Context, id, signal string) error {
	_, err := e.api.ContainerKill(ctx, id, client.ContainerKillOptions{Signal: signal})
	if err != nil && !cerrdefs.IsNotFound(err) && !cerrdefs.IsConflict(err) {
		return fmt.Errorf("send %s to container %s: %w", signal, short(id), err)
	}
	return nil
}

// Size is a terminal's size in characters.
type Size struct{ Columns, Rows uint }

// Resize sets the size of a running container's terminal.
func (e *Engine) Resize(ctx context.Context, id string, size Size) error {
	_, err := e.api.ContainerResize(ctx, id, client.ContainerResizeOptions{Width: size.Columns, Height: size.Rows})
	if err != nil {
		return fmt.Errorf("resize the terminal of container %s: %w", short(id), err)
	}
	return nil
}

// removeTime bounds how long Remove waits for somebody else who removes a container.
const removeTime = 10 * time.Second

// Remove ends a container if it runs and removes it with its anonymous volumes.
// One that is gone already is no error. An engine refuses to remove one that ends
// by itself at that moment (it cannot be killed any more), and one that somebody
// else removes: the first is removed once it has ended, the second is waited for.
func (e *Engine) Remove(ctx context.Context, id string) error {
	options := client.ContainerRemoveOptions{Force: true, RemoveVolumes: true}
	_, err := e.api.ContainerRemove(ctx, id, options)
	if err == nil || cerrdefs.IsNotFound(err) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, removeTime)
	defer cancel()
	if e.await(ctx, id, container.WaitConditionNotRunning) == nil {
		_, err = e.api.ContainerRemove(ctx, id, options)
	}
	if cerrdefs.IsConflict(err) && e.await(ctx, id, container.WaitConditionRemoved) == nil {
		return nil
	}
	if err != nil && !cerrdefs.IsNotFound(err) {
		return fmt.Errorf("remove container %s: %w", short(id), err)
	}
	return nil
}

// await waits until a container is as condition says, or gone.
func (e *Engine) await(ctx context.Context, id string, condition container.WaitCondition) error {
	res := e.api.ContainerWait(ctx, id, client.ContainerWaitOptions{Condition: condition})
	select {
	case err := <-res.Error:
		if cerrdefs.IsNotFound(err) {
			return nil
		}
		return err
	case <-res.Result:
		return nil
	}
}

// List returns our containers, ended ones too, that carry every one of labels;
// an empty value stands for any. Containers without LabelRole are never in it.
func (e *Engine) List(ctx context.Context, labels map[string]string) ([]Container, error) {
	res, err := e.api.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: labelFilter(labels)})
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	list := make([]Container, 0, len(res.Items))
	for _, c := range res.Items {
		name := ""
		if len(c.Names) > 0 {
			name = strings.TrimPrefix(c.Names[0], "/")
		}
		list = append(list, Container{ID: c.ID, Name: name, Labels: c.Labels, State: string(c.State), Created: time.Unix(c.Created, 0)})
	}
	return list, nil
}

func labelFilter(labels map[string]string) client.Filters {
	f := client.Filters{}.Add("label", LabelRole)
	for key, value := range labels {
		if value != "" {
			key += "=" + value
		}
		f.Add("label", key)
	}
	return f
}

// maxLogs bounds what Logs returns, in bytes: the last ones are kept.
const maxLogs = 64 << 10

// Logs returns the last lines that a helper wrote, stdout and stderr as they
// came. Agents' output is kept nowhere, so they have none.
func (e *Engine) Logs(ctx context.Context, id string, lines int) ([]byte, error) {
	res, err := e.api.ContainerLogs(ctx, id, client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true, Tail: strconv.Itoa(lines)})
	if err != nil {
		return nil, fmt.Errorf("read the log of container %s: %w", short(id), err)
	}
	defer res.Close()
	var out bytes.Buffer
	if err := demultiplex(&out, &out, res); err != nil {
		return nil, fmt.Errorf("read the log of container %s: %w", short(id), err)
	}
	text := out.Bytes()
	return slices.Clone(text[max(0, len(text)-maxLogs):]), nil
}

// Event is something that happened to one of our containers.
type Event struct {
	ID     string
	Action string // "start", "die", "oom", "destroy", …
	Labels map[string]string
}

// Events tells what happens to our containers from now on. The first channel is
// closed when ctx ends or the engine goes away; then the second gives one
// value, nil in the former case.
func (e *Engine) Events(ctx context.Context) (<-chan Event, <-chan error) {
	events, end := make(chan Event), make(chan error, 1)
	src := e.api.Events(ctx, client.EventsListOptions{Filters: labelFilter(nil).Add("type", "container")})
	go func() {
		err := forward(ctx, src, events)
		close(events)
		end <- err
	}()
	return events, end
}

func forward(ctx context.Context, src client.EventsResult, events chan<- Event) error {
	for {
		select {
		case m := <-src.Messages:
			event := Event{ID: m.Actor.ID, Action: string(m.Action), Labels: m.Actor.Attributes}
			select {
			case events <- event:
			case <-ctx.Done():
				<-src.Err
				return nil
			}
		case err := <-src.Err:
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("follow the engine's events: %w", err)
		}
	}
}

// ImageExists reports whether the engine has an image of that name.
func (e *Engine) ImageExists(ctx context.Context, image string) (bool, error) {
	_, err := e.api.ImageInspect(ctx, image)
	switch {
	case err == nil:
		return true, nil
	case cerrdefs.IsNotFound(err):
		return false, nil
	}
	return false, fmt.Errorf("look for image %s: %w", image, err)
}

// ImageSave returns an image as an archive for ImageLoad. The caller closes it.
func (e *Engine) ImageSave(ctx context.Context, image string) (io.ReadCloser, error) {
	res, err := e.api.ImageSave(ctx, []string{image})
	if err != nil {
		return nil, fmt.Errorf("save image %s: %w", image, err)
	}
	return res, nil
}

// ImageLoad reads an archive of ImageSave or `docker save` into the engine.
func (e *Engine) ImageLoad(ctx context.Context, archive io.Reader) error {
	res, err := e.api.ImageLoad(ctx, archive, client.ImageLoadWithQuiet(true))
	if err != nil {
		return fmt.Errorf("load image: %w", err)
	}
	defer res.Close()
	if err := drain(res); err != nil {
		return fmt.Errorf("load image: %w", err)
	}
	return nil
}

// short is how an id is written for people.
func short(id string) string { return id[:min(12, len(id))] }
