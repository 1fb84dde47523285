package containers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/client"
)

// ServerState is how a model server's container is.
type ServerState struct {
	ID        string
	State     string // "created", "running", "exited", …
	Image     string // as it was asked for
	Network   string // "none", …, as the engine says
	ExitCode  int    // once it has run
	OOMKilled bool
	Started   time.Time // zero: never
	Finished  time.Time // zero: it has not ended
	Labels    map[string]string
}

// ServerByName finds a model server's container by its name; ErrNoContainer if
// there is none. A container of that name that is no model server is an error.
func (e *Engine) ServerByName(ctx context.Context, name string) (ServerState, error) {
	res, err := e.api.ContainerInspect(ctx, name, client.ContainerInspectOptions{})
	c := res.Container
	switch {
	case cerrdefs.IsNotFound(err):
		return ServerState{}, fmt.Errorf("container %s: %w", name, ErrNoContainer)
	case err != nil:
		return ServerState{}, fmt.Errorf("look at container %s: %w", name, err)
	case strings.TrimPrefix(c.Name, "/") != name: // a name can be the beginning of an id
		return ServerState{}, fmt.Errorf("container %s: %w", name, ErrNoContainer)
	case c.State == nil || c.Config == nil || c.HostConfig == nil:
		return ServerState{}, fmt.Errorf("look at container %s: the engine does not say how it is", name)
	}
	if role := c.Config.Labels[LabelRole]; role != RoleServer && role != RolePull {
		return ServerState{}, fmt.Errorf("container %s is somebody else's: it has no label %s of ours\nhint: remove or rename that container, or give the model another name",
			name, LabelRole)
	}
	return ServerState{
		ID:        c.ID,
		State:     plain(string(c.State.Status)),
		Image:     plain(c.Config.Image),
		Network:   plain(string(c.HostConfig.NetworkMode)),
		ExitCode:  c.State.ExitCode,
		OOMKilled: c.State.OOMKilled,
		Started:   engineTime(c.State.StartedAt),
		Finished:  engineTime(c.State.FinishedAt),
		Labels:    c.Config.Labels,
	}, nil
}

// engineTime reads an engine's time; what is none, as year 1, is the zero time.
func engineTime(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || t.Year() < 1970 || t.Unix() <= 0 {
		return time.Time{}
	}
	return t
}

// StopContainer asks a container to end (SIGTERM) and ends it after grace, which
// is rounded up to seconds; zero ends it at once. It returns once it has ended.
// One that has ended already, or is gone, is no error.
func (e *Engine) StopContainer(ctx context.Context, id string, grace time.Duration) error {
	seconds := int(max(0, grace+time.Second-1) / time.Second)
	_, err := e.api.ContainerStop(ctx, id, client.ContainerStopOptions{Signal: "SIGTERM", Timeout: &seconds})
	if err != nil && !cerrdefs.IsNotFound(err) && !cerrdefs.IsNotModified(err) {
		return fmt.Errorf("stop container %s: %w", short(id), err)
	}
	return nil
}

// FollowLogs returns what a container wrote, stdout and stderr as they came: the
// last lines, or everything if lines is negative, and with follow what it writes
// from then on, until it ends. Nothing in it is ours: it may hold what a terminal
// obeys. The caller closes it; ctx ends it too.
func (e *Engine) FollowLogs(ctx context.Context, id string, follow bool, lines int) (io.ReadCloser, error) {
	tail := "all"
	if lines >= 0 {
		tail = strconv.Itoa(lines)
	}
	ctx, cancel := context.WithCancel(ctx)
	res, err := e.api.ContainerLogs(ctx, id, client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true, Follow: follow, Tail: tail})
	if err != nil {
		cancel()
		if cerrdefs.IsNotFound(err) {
			err = ErrNoContainer
		}
		return nil, fmt.Errorf("read the log of container %s: %w", short(id), err)
	}
	r, w := io.Pipe()
	l := &logStream{PipeReader: r, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(l.done)
		err := demultiplex(w, w, res)
		_ = res.Close() // all has been read, or nobody reads
		if err != nil {
			err = fmt.Errorf("read the log of container %s: %w", short(id), err)
		}
		w.CloseWithError(err)
	}()
	return l, nil
}

// logStream is a log while it is read.
type logStream struct {
	*io.PipeReader
	cancel context.CancelFunc
	done   chan struct{}
}

// Close ends the reading and waits until nothing of it runs.
func (l *logStream) Close() error {
	l.cancel()
	err := l.PipeReader.CloseWithError(errors.New("the log was closed"))
	<-l.done
	return err
}
