package server

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sallyport/sallyport/models"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeRuntime is a runtime that a test directs.
type fakeRuntime struct {
	mu       sync.Mutex
	state    RuntimeState
	err      error    // of State and Logs: the machine does not answer
	log      []string // what the server has written
	writers  []*io.PipeWriter
	follows  int // how often the log was followed
	stopped  time.Duration
	started  models.Launch
	startErr error
}

func (r *fakeRuntime) String() string { return "fake on strix" }

func (r *fakeRuntime) Start(_ context.Context, l models.Launch) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.started = l
	if r.startErr == nil {
		r.state.Phase = PhaseRunning
	}
	return r.startErr
}

func (r *fakeRuntime) Stop(_ context.Context, grace time.Duration) error {
	r.stopped = grace
	return nil
}

func (r *fakeRuntime) State(ctx context.Context) (RuntimeState, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state, errors.Join(r.err, ctx.Err())
}

func (r *fakeRuntime) Logs(ctx context.Context, follow bool, lines int) (io.ReadCloser, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return nil, r.err
	}
	last := r.log
	if lines >= 0 {
		last = last[max(0, len(last)-lines):]
	}
	text := strings.Join(last, "\n") + "\n"
	if !follow || r.state.Phase != PhaseRunning {
		return io.NopCloser(strings.NewReader(text)), nil
	}
	r.follows++
	pr, pw := io.Pipe()
	r.writers = append(r.writers, pw)
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(strings.NewReader(text), pr), pr}, nil
}

// write has the server write a line; it returns once the reader has it.
func (r *fakeRuntime) write(line string) {
	r.mu.Lock()
	r.log = append(r.log, line)
	writers := slices.Clone(r.writers)
	r.mu.Unlock()
	for _, w := range writers {
		_, _ = io.WriteString(w, line+"\n") // a reader that is gone takes nothing
	}
}

// set changes the state; cut ends the log's readers, as an error if err is set.
func (r *fakeRuntime) set(change func(*RuntimeState)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.state)
}

func (r *fakeRuntime) cut(err error) {
	r.mu.Lock()
	r.err = err
	writers := r.writers
	r.writers = nil
	r.mu.Unlock()
	for _, w := range writers {
		w.CloseWithError(err)
	}
}

func (r *fakeRuntime) followed() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.follows
}

// rig is a server under test: its clock stands still, and it asks again when the
// test says so.
type rig struct {
	*Server
	t       *testing.T
	runtime *fakeRuntime
	ticks   chan time.Time
	told    chan Progress
	end     chan error
	cancel  context.CancelCauseFunc

	mu      sync.Mutex
	clock   time.Time
	dialErr error
}

func newRig(t *testing.T) *rig {
	r := &rig{t: t, runtime: &fakeRuntime{}, ticks: make(chan time.Time), told: make(chan Progress, 10000), end: make(chan error, 1),
		clock: time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC)}
	r.Server = &Server{
		Name: "gpt-oss", Runtime: r.runtime, Socket: filepath.Join(t.TempDir(), "model.sock"), History: newHistory(t),
		Now: func() time.Time { r.mu.Lock(); defer r.mu.Unlock(); return r.clock },
		Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			r.mu.Lock()
			err := r.dialErr
			r.mu.Unlock()
			if err != nil {
				return nil, err
			}
			return (&net.Dialer{}).DialContext(ctx, network, addr)
		},
		after: func(time.Duration) <-chan time.Time { return r.ticks },
	}
	return r
}

// advance moves the clock.
func (r *rig) advance(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clock = r.clock.Add(d)
}

// link breaks the connection to the machine, or mends it with nil.
func (r *rig) link(err error) {
	r.mu.Lock()
	r.dialErr = err
	r.mu.Unlock()
	r.runtime.cut(err)
}

// serve answers on the server's socket until the test ends.
func (r *rig) serve(h http.HandlerFunc) {
	r.t.Helper()
	l, err := net.Listen("unix", r.Socket)
	if err != nil {
		r.t.Fatal(err)
	}
	srv := &http.Server{Handler: h}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	r.t.Cleanup(func() { srv.Close(); <-done })
}

// waitReady runs WaitReady beside the test.
func (r *rig) waitReady() {
	ctx, cancel := context.WithCancelCause(r.t.Context())
	r.cancel = cancel
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.end <- r.WaitReady(ctx, func(p Progress) { r.told <- p })
	}()
	r.t.Cleanup(func() { cancel(nil); <-done })
}

// tick has the server asked again, unless the wait is over.
func (r *rig) tick() {
	select {
	case r.ticks <- time.Time{}:
	case err := <-r.end:
		r.end <- err
	}
}

// until takes reports until one is as wanted, and returns it; every one that was
// taken is checked for what holds for all.
func (r *rig) until(what string, want func(Progress) bool) Progress {
	r.t.Helper()
	for {
		select {
		case p := <-r.told:
			if printable(p.Text, maxText) != p.Text || printable(p.Notice, 3*maxText) != p.Notice || p.Percent < -1 || p.Percent > 100 {
				r.t.Errorf("report %+v", p)
			}
			if want(p) {
				return p
			}
		case err := <-r.end:
			r.t.Fatalf("waiting for %s, WaitReady returned %v", what, err)
		}
	}
}

// result waits for WaitReady's end and returns the reports that were not taken.
func (r *rig) result() ([]Progress, error) {
	err := <-r.end
	var rest []Progress
	for {
		select {
		case p := <-r.told:
			rest = append(rest, p)
		default:
			return rest, err
		}
	}
}

// notices are what was told once.
func notices(reports []Progress) []string {
	var told []string
	for _, p := range reports {
		if p.Notice != "" {
			told = append(told, p.Notice)
		}
	}
	return told
}

// phases answers /health as told: it can be changed while it serves.
type phases struct {
	mu     sync.Mutex
	status int
}

func (p *phases) set(status int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status = status
}

func (p *phases) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r.URL.Path != "/health" {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	w.WriteHeader(p.status)
}
