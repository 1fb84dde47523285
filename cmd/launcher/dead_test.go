package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/models"
	"github.com/sallyport/sallyport/models/server"
)

// aRuntime is a server's process that a test directs.
type aRuntime struct {
	phase   server.Phase
	log     string
	started bool
	stopped int
}

func (r *aRuntime) String() string { return "a runtime" }
func (r *aRuntime) Start(context.Context, models.Launch) error {
	r.started = true
	return server.ErrRunning
}
func (r *aRuntime) Stop(context.Context, time.Duration) error {
	r.stopped++
	r.phase = server.PhaseExited
	return nil
}
func (r *aRuntime) State(context.Context) (server.RuntimeState, error) {
	return server.RuntimeState{Phase: r.phase, ExitCode: 1}, nil
}
func (r *aRuntime) Logs(context.Context, bool, int) (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader(r.log)), nil
}

// aDeadServer's API runs and its engine is dead, as vLLM's sometimes is.
func aDeadServer(t *testing.T) (*served, *aRuntime) {
	dir := t.TempDir()
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }))
	t.Cleanup(api.Close)
	rt := &aRuntime{phase: server.PhaseRunning, log: "vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue.\n"}
	out, err := os.Create(filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { out.Close() })
	s := aSite(dir)
	v := &served{options: &options{process: process{stdout: out, stderr: io.Discard}}, site: s, model: model{Profile: models.Profile{Name: "own"}}}
	v.Server = &server.Server{Name: "own", Machine: s.Machine, Runtime: rt, Socket: "/m.sock",
		Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", api.Listener.Addr().String())
		}}
	return v, rt
}

// A server whose process runs is not waited for without end, and can be stopped,
// whatever it answers.
func TestDeadServerThatRuns(t *testing.T) {
	v, rt := aDeadServer(t)
	status, err := v.Status(t.Context())
	if err != nil || status.State != server.Failed {
		t.Fatalf("%+v, %v", status, err)
	}
	if runs, err := v.alive(t.Context(), status); err != nil || !runs {
		t.Error(runs, err)
	}
	err = v.serve(t.Context(), newProgress(io.Discard, true, false))
	if err == nil || !strings.Contains(err.Error(), "hint: launcher stop own") || rt.started || exitCode(t.Context(), err) != exitFailed || errors.Is(err, server.ErrRunning) {
		t.Errorf("%v, started: %t", err, rt.started)
	}
	for _, want := range []string{"stopped own on gpu\n", "own does not run on gpu (failed)\n"} {
		if err := v.stop(t.Context(), stopRequest{force: true}); err != nil {
			t.Fatal(err)
		}
		if said, err := os.ReadFile(v.options.stdout.Name()); err != nil || !strings.HasSuffix(string(said), want) {
			t.Errorf("%q, %v", said, err)
		}
	}
	if rt.stopped != 1 {
		t.Errorf("it was stopped %d times", rt.stopped)
	}
	if err := v.dead(t.Context(), server.Status{State: server.Failed}); err != nil {
		t.Errorf("it has ended: %v", err)
	}
	line := modelReport{Name: "own", State: string(server.Failed), Alive: true, Running: -1}.line()
	if !strings.Contains(line, "still running: launcher stop own") {
		t.Errorf("%q", line)
	}
}
