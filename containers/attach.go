package containers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/moby/moby/client"
)

// AttachOptions says where an attached container's streams go.
type AttachOptions struct {
	In     io.Reader   // copied to stdin, which is closed at its end; nil: stdin is not attached
	Out    io.Writer   // stdout, and with TTY all output; nil: discarded
	Err    io.Writer   // stderr; nil: discarded
	TTY    bool        // as the container was created
	Resize <-chan Size // sizes of the terminal, applied once Start has succeeded; nil: none
}

// Session is an attached container.
type Session struct {
	engine  *Engine
	id      string
	conn    client.HijackedResponse
	started chan struct{} // closed by Start
	begin   sync.Once
	stop    context.CancelFunc
	done    chan struct{} // closed when output and resizing have ended
	err     error         // why output ended; read after done
}

// Attach connects to a container's streams. Attach first and start then, with
// Session.Start, so that no output is lost; a session that is not started is
// closed by the caller. ctx bounds the whole session: when it ends, so does the
// session, not the container.
func (e *Engine) Attach(ctx context.Context, id string, opt AttachOptions) (*Session, error) {
	res, err := e.api.ContainerAttach(ctx, id, client.ContainerAttachOptions{
		Stream: true, Stdin: opt.In != nil, Stdout: true, Stderr: true,
		// The engine's default keys would swallow ctrl-p, and ctrl-p ctrl-q leave
		// an agent behind that nobody watches. There is no way to say "none": a
		// sequence too long to be typed by chance stands for it.
		DetachKeys: "ctrl-^,ctrl-],ctrl-^,ctrl-],ctrl-^,ctrl-],ctrl-^,ctrl-]",
	})
	if err != nil {
		return nil, fmt.Errorf("attach to container %s: %w", short(id), err)
	}
	ctx, stop := context.WithCancel(ctx)
	s := &Session{engine: e, id: id, conn: res.HijackedResponse, started: make(chan struct{}), stop: stop, done: make(chan struct{})}
	go s.run(ctx, opt)
	return s, nil
}

// Start starts the container. Sizes of the terminal are applied from then on:
// the engine refuses them before.
func (s *Session) Start(ctx context.Context) error {
	if err := s.engine.Start(ctx, s.id); err != nil {
		return err
	}
	s.begin.Do(func() { close(s.started) })
	return nil
}

// Wait waits until the container's output has ended, as it does when the
// container ends or the engine goes away, and returns what went wrong with it.
// Copying of In stops then, but a Read of In that is under way is waited for
// only where In has SetReadDeadline.
func (s *Session) Wait() error {
	<-s.done
	return s.err
}

// Close detaches and waits as Wait does. The container goes on.
func (s *Session) Close() {
	s.stop()
	<-s.done
}

func (s *Session) run(ctx context.Context, opt AttachOptions) {
	defer close(s.done)
	unhook := context.AfterFunc(ctx, s.conn.Close)
	defer unhook()
	var wg sync.WaitGroup
	if opt.Resize != nil {
		wg.Go(func() { s.resize(ctx, opt.Resize) })
	}
	releaseInput := s.copyInput(opt.In)
	err := copyOutput(s.conn.Reader, opt)
	if err != nil && ctx.Err() == nil {
		s.err = fmt.Errorf("read the output of container %s: %w", short(s.id), err)
	}
	s.conn.Close()
	s.stop()
	releaseInput()
	wg.Wait()
}

func copyOutput(from io.Reader, opt AttachOptions) error {
	out, errOut := opt.Out, opt.Err
	if out == nil {
		out = io.Discard
	}
	if errOut == nil {
		errOut = io.Discard
	}
	if opt.TTY {
		_, err := io.Copy(out, from)
		return err
	}
	return demultiplex(out, errOut, from)
}

// copyInput copies in to the container and half-closes the connection at its
// end, which is the container's end of file. The function it returns ends the
// copying: it wakes a Read that is under way and waits, where in can be woken.
func (s *Session) copyInput(in io.Reader) (release func()) {
	if in == nil {
		return func() {}
	}
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		_, err := io.Copy(s.conn.Conn, in)
		if err == nil {
			// A failure shows as the end of the output.
			_ = s.conn.CloseWrite()
		}
	}()
	wakeable, ok := in.(interface{ SetReadDeadline(time.Time) error })
	return func() {
		if !ok || wakeable.SetReadDeadline(time.Unix(1, 0)) != nil {
			return
		}
		<-copied
		_ = wakeable.SetReadDeadline(time.Time{}) // in is the caller's to use again
	}
}

// resize applies sizes until the session ends. Only the last one matters, and
// one that comes too late is no error of the session.
func (s *Session) resize(ctx context.Context, sizes <-chan Size) {
	started := s.started
	var want *Size
	for {
		select {
		case <-ctx.Done():
			return
		case size, ok := <-sizes:
			if !ok {
				sizes = nil
				continue
			}
			want = &size
		case <-started:
			started = nil
		}
		if started == nil && want != nil {
			if err := s.engine.Resize(ctx, s.id, *want); err != nil && errors.Is(err, context.Canceled) {
				return
			}
			want = nil
		}
	}
}
