package pull

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"time"

	"github.com/sallyport/sallyport/containers"
	"github.com/sallyport/sallyport/models/hub"
)

// removeTimeout bounds how long the end of a container is waited for.
const removeTimeout = 15 * time.Second

// downloader is a Run at work.
type downloader struct {
	Options
	engine engine // Options.Engine
}

// engine is what is used of *containers.Engine.
type engine interface {
	CreateServer(ctx context.Context, spec containers.ServerSpec) (string, error)
	ServerByName(ctx context.Context, name string) (containers.ServerState, error)
	Attach(ctx context.Context, id string, opt containers.AttachOptions) (*containers.Session, error)
	Wait(ctx context.Context, id string) (int, bool, error)
	Remove(ctx context.Context, id string) error
}

// containerName is unique for a model and a login, and so a lock.
func (d *downloader) containerName() string {
	return fmt.Sprintf("sallyport-pull-%s-%d", d.Name, d.UID)
}

// spec is the downloader's container: no network, unless it is direct; nothing of
// the machine but the weights' folder and the way out.
func (d *downloader) spec() containers.ServerSpec {
	s := containers.ServerSpec{
		Name: d.containerName(), Image: d.HelperImage, Cmd: d.args(path.Join(socketFolder, path.Base(d.ProxySocket))),
		UID: d.UID, GID: d.GID, Network: "none", StdinOpen: true, MemoryMB: 512, PidsLimit: 64,
		Binds:  []containers.Bind{{Source: d.Weights, Target: weightsTarget}},
		Labels: map[string]string{containers.LabelRole: containers.RolePull, containers.LabelOwner: strconv.Itoa(d.UID), containers.LabelModel: d.Name},
	}
	if d.Direct {
		s.Network = "default"
	} else {
		s.Binds = append(s.Binds, containers.Bind{Source: path.Dir(d.ProxySocket), Target: socketFolder, ReadOnly: true})
	}
	return s
}

func (d *downloader) inContainer(ctx context.Context) (r hub.Result, err error) {
	job, err := d.job(weightsTarget)
	if err != nil {
		return r, err
	}
	id, err := d.create(ctx)
	if err != nil {
		return hub.Result{}, fmt.Errorf("pull %s: %w", d.Name, err)
	}
	defer func() { // what is left behind has the model's name, and maybe a way out
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeTimeout)
		defer cancel()
		err = errors.Join(err, d.engine.Remove(end, id))
	}()
	return d.attend(ctx, id, job)
}

// attend starts the container and stays with it until it has ended.
func (d *downloader) attend(ctx context.Context, id string, job []byte) (hub.Result, error) {
	out := newOutput(d.Report)
	feed, end := feeder(d.Token, job)
	defer end()
	session, err := d.engine.Attach(ctx, id, containers.AttachOptions{In: feed, Out: out, Err: &out.errors})
	if err != nil {
		return hub.Result{}, fmt.Errorf("pull %s: %w", d.Name, err)
	}
	if err := session.Start(ctx); err != nil {
		session.Close()
		return hub.Result{}, fmt.Errorf("pull %s: %w", d.Name, err)
	}
	waitErr := session.Wait()
	end()
	if ctx.Err() != nil {
		return out.result(ctx, nil)
	}
	code, oom, err := d.engine.Wait(ctx, id)
	switch {
	case err != nil:
		waitErr = errors.Join(waitErr, err)
	case oom:
		waitErr = errors.New("it ran out of memory")
	case code != 0:
		waitErr = errors.Join(waitErr, fmt.Errorf("it ended with exit code %d", code))
	}
	return out.result(ctx, waitErr)
}

// create creates the container; one that ended and was left behind gives way.
func (d *downloader) create(ctx context.Context) (string, error) {
	id, err := d.engine.CreateServer(ctx, d.spec())
	if _, taken := errors.AsType[*containers.NameTakenError](err); !taken {
		return id, err
	}
	old, stateErr := d.engine.ServerByName(ctx, d.containerName())
	switch {
	case stateErr != nil && !errors.Is(stateErr, containers.ErrNoContainer):
		return "", errors.Join(err, stateErr)
	case stateErr == nil && old.Labels[containers.LabelRole] != containers.RolePull:
		return "", err
	case stateErr == nil && old.State != "exited" && old.State != "created" && old.State != "dead":
		return "", &hub.Error{Kind: hub.KindRunning, Text: "a pull of " + d.Name + " runs already on " + d.Machine.String(), Hint: "wait for it; launcher status shows it"}
	case stateErr == nil:
		if err := d.engine.Remove(ctx, old.ID); err != nil {
			return "", err
		}
	}
	return d.engine.CreateServer(ctx, d.spec())
}

// feeder gives the token and the job, a line each, and then holds stdin open until
// end: its end ends the downloader. The token goes the same way as the job since it
// is to be kept nowhere: an engine writes a container's environment to its disk
// (config.v2.json of Docker, Podman's database) and shows it to all who may use it,
// and the kernel shows a process's in /proc.
func feeder(token string, job []byte) (feed io.Reader, end func()) {
	r, w := io.Pipe()
	go func() {
		_, _ = w.Write(slices.Concat([]byte(token+"\n"), job)) // fails when the downloader is gone, which is seen elsewhere
	}()
	return r, func() { w.Close() }
}
