package field

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sallyport/sallyport/bench/load"
	"github.com/sallyport/sallyport/internal/lab"
)

// Worker is a load program that runs somewhere and does jobs, one at a time.
type Worker struct {
	name    string
	gate    string
	id      string
	cmd     *lab.Cmd
	in      io.WriteCloser
	answers chan load.Answer // closed when there will be no more
	said    *ending          // by whatever started it
	remove  func(context.Context) error

	busy    sync.Mutex // held by Do
	number  int
	givenUp atomic.Bool // a job was; later ones would read its answer

	once sync.Once
	err  error
}

// startWorker starts a command whose standard input and output are a load program's,
// and waits until that is ready.
func startWorker(ctx context.Context, name string, cmd *lab.Cmd) (*Worker, error) {
	w := &Worker{name: name, cmd: cmd, answers: make(chan load.Answer), said: &ending{}, remove: nothing}
	cmd.Stderr = w.said
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	w.in = in
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go w.follow(out)
	answer, err := w.await(ctx, load.Ready)
	if err == nil {
		var hello load.Hello
		err = json.Unmarshal(answer, &hello)
		w.gate = hello.Nameserver
	}
	if err != nil {
		_ = w.Stop(context.WithoutCancel(ctx)) // how it ends is part of err already
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return w, nil
}

func nothing(context.Context) error { return nil }

// follow reads answers until there are no more.
func (w *Worker) follow(out io.Reader) {
	defer close(w.answers)
	in := json.NewDecoder(out)
	for {
		var a load.Answer
		if err := in.Decode(&a); err != nil {
			_, _ = io.Copy(w.said, in.Buffered()) // what is no answer says what is wrong
			_, _ = io.Copy(w.said, out)
			return
		}
		w.answers <- a
	}
}

// await waits for one answer.
func (w *Worker) await(ctx context.Context, id int) (json.RawMessage, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case a, ok := <-w.answers:
		switch {
		case !ok:
			return nil, fmt.Errorf("it has ended: %s", w.said)
		case a.ID != id:
			return nil, fmt.Errorf("answer %d instead of %d", a.ID, id)
		case a.Error != "":
			return nil, errors.New(a.Error)
		}
		return a.Value, nil
	}
}

// Do has the job done (a name of bench/load's table) with its argument, and
// decodes what it answers; answer may be nil. Once ctx has ended in the midst of a
// job the worker does no others.
func (w *Worker) Do(ctx context.Context, job string, arg, answer any) error {
	w.busy.Lock()
	defer w.busy.Unlock()
	if w.givenUp.Load() {
		return fmt.Errorf("%s: %s: an earlier job was given up", w.name, job)
	}
	text, err := json.Marshal(arg)
	if err != nil {
		return fmt.Errorf("%s: %s: %w", w.name, job, err)
	}
	w.number++
	if err := json.NewEncoder(w.in).Encode(load.Request{ID: w.number, Job: job, Arg: text}); err != nil {
		return fmt.Errorf("%s: %s: %w: %s", w.name, job, err, w.said)
	}
	value, err := w.await(ctx, w.number)
	if ctx.Err() != nil {
		w.givenUp.Store(true)
	}
	if err == nil && answer != nil {
		err = json.Unmarshal(value, answer)
	}
	if err != nil {
		return fmt.Errorf("%s: %s: %w", w.name, job, err)
	}
	return nil
}

// Gate is the address of the sandbox's gate: the model at port 8000, the forward
// proxy at 3128, DNS at 53. On a bridge it means nothing.
func (w *Worker) Gate() string { return w.gate }

// ID is the sandbox's, as in the record; empty on a bridge.
func (w *Worker) ID() string { return w.id }

// Said is the end of what the launcher, or docker, wrote to standard error.
func (w *Worker) Said() string { return w.said.String() }

const (
	workerEnd  = 20 * time.Second // for a worker, and the launcher of its sandbox, to end
	workerKill = 10 * time.Second // for the launcher to clean up after SIGTERM
)

// Stop ends the worker and what it runs in. More than once is no error.
func (w *Worker) Stop(ctx context.Context) error {
	w.once.Do(func() { w.err = w.stop(ctx) })
	return w.err
}

func (w *Worker) stop(ctx context.Context) error {
	_ = w.in.Close() // it may have ended
	ended := make(chan error, 1)
	go func() {
		for range w.answers { // of a job that was given up
		}
		ended <- w.cmd.Wait()
	}()
	var err error
	grace := workerEnd
	if w.givenUp.Load() {
		grace = 0 // it works on something that nobody waits for
	}
	select {
	case err = <-ended:
	case <-time.After(grace):
		err = w.force(ended)
	case <-ctx.Done():
		err = errors.Join(ctx.Err(), w.force(ended))
	}
	if err != nil {
		err = fmt.Errorf("the end of %s: %w: %s", w.name, err, w.said)
	}
	return errors.Join(err, w.remove(context.WithoutCancel(ctx)))
}

// force ends a worker that does not end by itself.
func (w *Worker) force(ended <-chan error) error {
	_ = w.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-ended:
		if w.givenUp.Load() {
			return nil
		}
		return errors.New("it did not end by itself")
	case <-time.After(workerKill):
	}
	_ = w.cmd.Process.Kill() // it may have ended
	<-ended
	return errors.New("it had to be killed")
}

// ending keeps the last bytes that were written to it.
type ending struct {
	mu   sync.Mutex
	text []byte
}

const endingSize = 4 << 10

// Write implements io.Writer.
func (e *ending) Write(b []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.text = append(e.text, b...)
	e.text = e.text[max(0, len(e.text)-endingSize):]
	return len(b), nil
}

func (e *ending) String() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return string(bytes.TrimSpace(e.text))
}
