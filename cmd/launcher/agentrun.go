package main

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/sallyport/sallyport/agents"
	"github.com/sallyport/sallyport/containers"
)

const (
	stopGrace = 5 * time.Second  // between asking an agent to end and ending it
	proofTime = 30 * time.Second // for the proof, which takes a second or two
)

// agentRun is an agent's container from its start to its exit code.
type agentRun struct {
	*session
	container  string // its id
	screen     *screen
	input      *input
	output     *output
	profile    agents.Profile
	up         func(context.Context) error // waits for what the proof needs
	before     snapshot                    // of the project, as it was before the agent ran
	began      time.Time                   // zero: the agent never ran
	killer     *time.Timer                 // ends an agent that was asked to end; nil: it was not
	engineAway bool                        // the engine was stopped while the agent ran
	notes      []string                    // to say when the terminal is the user's again
}

// runAgent starts the agent's container, has it show that it is closed once it is up,
// lets the agent run, and returns its exit code.
func (s *session) runAgent(ctx context.Context, container string, profile agents.Profile, up func(context.Context) error) (int, error) {
	sc, err := s.openScreen()
	if err != nil {
		return 0, err
	}
	defer sc.close(s.options.stdout)
	run := &agentRun{session: s, container: container, up: up, screen: sc, input: newInput(s.options.stdin), output: newOutput(sc.out), profile: profile}
	code, err := run.run(ctx)
	sc.close(s.options.stdout)
	run.input.end()
	for _, note := range run.notes {
		s.progress.warn("%s", note)
	}
	if run.began.IsZero() {
		return code, err
	}
	ctx = context.WithoutCancel(ctx)
	s.tellChanges(run.before, s.takeSnapshot(ctx))
	s.rememberSpeed(ctx)
	// The sandbox's end completes its record, which the summary reads.
	if unregisterErr := s.unregister(ctx); unregisterErr != nil {
		s.progress.warn("%v", unregisterErr)
	}
	if summaryErr := run.summarize(ctx); err == nil {
		err = summaryErr
	}
	return code, err
}

func (s *session) createAgent(ctx context.Context, spec containers.AgentSpec) (string, error) {
	whole, cancel := uncut(ctx)
	defer cancel()
	id, err := s.engine.CreateAgent(whole, spec)
	if err == nil {
		err = ctx.Err()
	}
	return id, err
}

// run attaches, proves, lets go, and waits for the end.
func (r *agentRun) run(ctx context.Context) (int, error) {
	proof, ended := newProofReader(r.output)
	attached, stop, err := r.attach(ctx, proof)
	if err != nil {
		return 0, err
	}
	if err := attached.Start(ctx); err != nil {
		stop()
		proof.end()
		return 0, err
	}
	go func() { _ = attached.Wait(); proof.end() }() // its error is read in follow
	r.before = r.takeSnapshot(ctx)                   // nothing of the agent's runs yet
	err = r.up(ctx)
	if err == nil {
		err = r.letGo(ctx, proof)
	}
	if err != nil {
		stop()
		return 0, err
	}
	r.began = time.Now()
	r.input.begin()
	supervised, cancel := context.WithCancel(ctx)
	lost := make(chan string, 1)
	done := make(chan []string, 1)
	go func() { done <- r.supervise(supervised, lost) }()
	code, err := r.follow(ctx, attached, stop, ended, lost)
	cancel()
	if notes := <-done; !r.engineAway { // without an engine, nothing of it comes back
		r.notes = append(r.notes, notes...)
	}
	return code, err
}

// letGo waits for the proof and accepts it; what follows is the agent's.
func (r *agentRun) letGo(ctx context.Context, proof *proofReader) error {
	timer := time.NewTimer(proofTime)
	defer timer.Stop()
	var result proofResult
	select {
	case result = <-proof.results:
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return errors.New("the sandbox did not say within " + proofTime.String() + " whether it is closed, so the agent was not started; hint: gateway status names the log")
	}
	if err := r.checkProof(ctx, result); err != nil {
		return err
	}
	if err := r.client.SetAgent(ctx, r.id, r.request.agent); err != nil {
		return err
	}
	r.progress.done("proof", "the sandbox is closed: %d checks passed, each attempt recorded", len(result.results))
	return r.screen.raw()
}

// attach connects to the container's streams.
func (r *agentRun) attach(ctx context.Context, out io.Writer) (*containers.Session, func(), error) {
	stopInput := make(chan struct{})
	opt := containers.AttachOptions{In: r.input.reader(stopInput), Out: out, Err: r.screen.err, TTY: r.screen.terminal != nil}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx)) // an interrupt asks the agent to end first
	if t := r.screen.terminal; t != nil {
		sizes := make(chan containers.Size)
		go func() {
			defer close(sizes)
			for size := range t.Sizes(ctx) {
				select {
				case sizes <- containers.Size{Columns: size.Width, Rows: size.Height}:
				case <-ctx.Done():
				}
			}
		}()
		opt.Resize = sizes
	}
	attached, err := r.engine.Attach(ctx, r.container, opt)
	if err != nil {
		cancel()
		close(stopInput)
		return nil, nil, err
	}
	return attached, sync.OnceFunc(func() { cancel(); attached.Close(); close(stopInput) }), nil
}

// follow waits for the agent's end. An interrupt asks it to end. Where the
// engine goes away and the agent does not, it is attached to again.
func (r *agentRun) follow(ctx context.Context, attached *containers.Session, stop func(), ended <-chan error, lost <-chan string) (int, error) {
	defer r.stopKiller()
	var why string
	interrupted, broken := ctx.Done(), r.output.broken
	for {
		streams := make(chan error, 1)
		go func() { streams <- attached.Wait() }()
		for open := true; open; {
			select {
			case <-streams:
				open = false
			case why = <-lost:
				r.end(ctx)
			case <-broken:
				broken, why = nil, "its output could not be written any more, so the agent was ended"
				r.end(ctx)
			case <-interrupted:
				interrupted = nil
				r.end(ctx)
			}
		}
		if ended != nil {
			<-ended // all of the output is on the screen
			ended = nil
		}
		stop()
		e, err := r.ending(ctx)
		if !errors.Is(err, errStillRunning) {
			return r.explain(ctx, e, why, err)
		}
		if attached, stop, err = r.attach(ctx, r.output); err != nil {
			return 0, err
		}
		// The engine attaches to what has just ended as well, and then never says so.
		if state, err := r.engine.State(ctx, r.container); err != nil || !state.Running {
			stop()
		}
	}
}

// end asks the agent to end, and ends it if it does not.
func (r *agentRun) end(ctx context.Context) {
	ctx = context.WithoutCancel(ctx)
	if err := r.engine.Kill(ctx, r.container, "SIGTERM"); err != nil && r.engine.Ping(ctx) == nil {
		r.notes = append(r.notes, err.Error())
	}
	if r.killer == nil {
		r.killer = time.AfterFunc(stopGrace, func() { _ = r.engine.Kill(ctx, r.container, "SIGKILL") }) // an agent that has ended is no error
	}
}

func (r *agentRun) stopKiller() {
	if r.killer != nil {
		r.killer.Stop()
	}
}

// output is the agent's way to the screen. It tells when that is broken: a pipe
// whose reader has gone, say.
type output struct {
	w      io.Writer
	once   sync.Once
	broken chan struct{} // closed at the first failure
}

func newOutput(w io.Writer) *output { return &output{w: w, broken: make(chan struct{})} }

// Write implements io.Writer.
func (o *output) Write(b []byte) (int, error) {
	n, err := o.w.Write(b)
	if err != nil {
		o.once.Do(func() { close(o.broken) })
	}
	return n, err
}
