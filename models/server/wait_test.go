package server

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/models"
)

func stage(name string) func(Progress) bool {
	return func(p Progress) bool { return p.Stage == name }
}

func notice(part string) func(Progress) bool {
	return func(p Progress) bool { return strings.Contains(p.Notice, part) }
}

// The whole way: nobody listens, then 503, then 200; the log tells of the stages,
// and what each took is remembered.
func TestWaitReady(t *testing.T) {
	r := newRig(t)
	if err := r.Start(t.Context(), models.Launch{Name: "gpt-oss"}); err != nil {
		t.Fatal(err)
	}
	r.waitReady()
	r.until("the start", stage(StageStart))
	r.advance(10 * time.Second)
	r.runtime.write("INFO Using model weights format ['*.safetensors']")
	p := r.until("the weights", stage(StageWeights))
	if p.Elapsed != 10*time.Second || p.Left >= 0 {
		t.Errorf("elapsed %v, left %v", p.Elapsed, p.Left)
	}
	r.advance(60 * time.Second)
	r.runtime.write("Loading safetensors checkpoint shards:  67% Completed | 2/3 [00:40<00:20, 20.00s/it]")
	if p := r.until("a shard", func(p Progress) bool { return p.Percent == 67 }); p.Text != "loading weights, shard 2 of 3" {
		t.Errorf("text %q", p.Text)
	}
	r.tick() // nobody listens yet
	health := &phases{status: http.StatusServiceUnavailable}
	r.serve(health.ServeHTTP)
	r.tick()
	r.tick()
	r.runtime.write("INFO:     Application startup complete.")
	r.until("the startup", stage(StageStartup))
	r.advance(5 * time.Second)
	health.set(http.StatusOK)
	r.tick()
	rest, err := r.result()
	if err != nil {
		t.Fatal(err)
	}
	if p := rest[len(rest)-1]; p.Text != "ready" || p.Percent != 100 || p.Left != 0 || p.Elapsed != 75*time.Second || p.Notice != "" {
		t.Errorf("the last report is %+v", p)
	}
	run, err := r.History.Load("gpt-oss", "")
	if err != nil || run.Stages[StageStart] != 10*time.Second || run.Stages[StageWeights] != 60*time.Second || run.Stages[StageStartup] != 5*time.Second || !run.When.Equal(r.Now()) {
		t.Errorf("remembered: %+v, %v", run, err)
	}
	if n := r.runtime.followed(); n != 1 {
		t.Errorf("the log was followed %d times", n)
	}
	if _, err := r.runtime.writers[0].Write([]byte("more\n")); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("the log is still followed: %v", err)
	}
}

// /health counts, whatever the log says: its wording drifts.
func TestWaitReadyBeforeTheLogSaysSo(t *testing.T) {
	r := newRig(t)
	r.runtime.state.Phase = PhaseRunning
	r.serve((&phases{status: http.StatusOK}).ServeHTTP)
	r.waitReady()
	rest, err := r.result()
	if err != nil || rest[len(rest)-1].Text != "ready" {
		t.Errorf("%v, %+v", err, rest)
	}
	if run, err := r.History.Load("gpt-oss", ""); err != nil || len(run.Stages) != 0 {
		t.Errorf("a start that was not seen is remembered: %+v, %v", run, err)
	}
}

// A log that says "complete" is not enough: nothing but 200 is.
func TestWaitReadyNotByTheLogOrAnotherStatus(t *testing.T) {
	for _, status := range []int{http.StatusServiceUnavailable, http.StatusInternalServerError, http.StatusNoContent, http.StatusFound, http.StatusNotFound} {
		r := newRig(t)
		r.runtime.state.Phase = PhaseRunning
		r.runtime.log = []string{"INFO:     Application startup complete."}
		health := &phases{status: status}
		r.serve(health.ServeHTTP)
		r.waitReady()
		r.until("the startup", stage(StageStartup))
		r.tick()
		r.tick()
		health.set(http.StatusOK)
		r.tick()
		if _, err := r.result(); err != nil {
			t.Errorf("%d: %v", status, err)
		}
	}
}

func TestWaitReadyOfOneThatDies(t *testing.T) {
	r := newRig(t)
	r.Others = func(context.Context) ([]Other, int64, error) {
		return []Other{{Name: "qwen3-next", Memory: 47e9}}, 30e9, nil
	}
	if err := r.Start(t.Context(), models.Launch{Weights: models.Weights{GB: 65}}); err != nil {
		t.Fatal(err)
	}
	r.waitReady()
	r.until("the start", stage(StageStart))
	r.runtime.write("torch.OutOfMemoryError: HIP out of memory. Tried to allocate 2.00 GiB")
	for range 30 {
		r.runtime.write("  \x1b[31mat a frame of the traceback\x1b[0m")
	}
	r.runtime.set(func(st *RuntimeState) {
		st.Phase, st.ExitCode, st.Started, st.Ended = PhaseExited, 1, r.clock, r.clock.Add(3*time.Second)
	})
	r.runtime.cut(nil) // the log's end is looked into at once, without a tick
	_, err := r.result()
	var failed *FailedError
	if !errors.As(err, &failed) {
		t.Fatalf("got %v", err)
	}
	if failed.Cause != CauseMemory || len(failed.Last) != maxShown || !strings.Contains(failed.Line, "HIP out of memory") || strings.Contains(err.Error(), "\x1b") {
		t.Errorf("got %+v", failed)
	}
	for _, part := range []string{
		"model server gpt-oss on this machine ended with exit code 1 after 3s: out of GPU memory\n",
		"hint: it needs about 65 GB, 30 GB is free: `launcher stop qwen3-next` frees about 47 GB",
	} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in\n%v", part, err)
		}
	}
}

func TestWaitReadyOfOneThatIsGoneOrStopped(t *testing.T) {
	for _, c := range []struct {
		state RuntimeState
		want  string
	}{
		{RuntimeState{Phase: PhaseAbsent}, "model server gpt-oss on this machine is gone"},
		{RuntimeState{}, "is gone"},
		{RuntimeState{Phase: PhaseExited, Why: WhyAsked}, "was stopped (asked) before it was ready"},
		{RuntimeState{Phase: PhaseExited, ExitCode: 0}, "ended with exit code 0"},
		{RuntimeState{Phase: PhaseExited, ExitCode: 143}, "was ended by signal 15"},
		{RuntimeState{Phase: PhaseExited, ExitCode: -1}, "on this machine ended\n"},
	} {
		r := newRig(t)
		r.runtime.state = c.state
		err := r.WaitReady(t.Context(), nil)
		var failed *FailedError
		if !errors.As(err, &failed) || !strings.Contains(err.Error(), c.want) || errors.Is(err, ErrRunning) {
			t.Errorf("%+v: got %v, want %q", c.state, err, c.want)
		}
	}
}

// The folder's lock was another's: that is another server, not a broken one.
func TestWaitReadyWhereTheFolderIsTaken(t *testing.T) {
	r := newRig(t)
	r.runtime.state = RuntimeState{Phase: PhaseExited, ExitCode: exitLocked}
	r.runtime.log = []string{"the folder is used by me@other since 08:00"}
	if err := r.WaitReady(t.Context(), nil); !errors.Is(err, ErrRunning) || !strings.Contains(err.Error(), "me@other") {
		t.Errorf("got %v", err)
	}
}

// The connection drops while the model loads: the server goes on, and so does the
// wait; it is told once each way.
func TestWaitReadyThroughALostConnection(t *testing.T) {
	r := newRig(t)
	if err := r.Start(t.Context(), models.Launch{}); err != nil {
		t.Fatal(err)
	}
	health := &phases{status: http.StatusServiceUnavailable}
	r.serve(health.ServeHTTP)
	r.waitReady()
	r.runtime.write("Loading safetensors checkpoint shards:  10% Completed | 1/10")
	r.until("a shard", stage(StageWeights))
	r.link(errors.New("the SSH connection is down \x1b[2J"))
	lost := r.until("the loss", notice("no answer from this machine"))
	if !strings.Contains(lost.Notice, "gpt-oss goes on loading there") || lost.Stage != StageWeights {
		t.Errorf("told: %+v", lost)
	}
	for range 5 {
		r.tick()
	}
	r.runtime.mu.Lock()
	r.runtime.log = append(r.runtime.log, "Loading safetensors checkpoint shards:  90% Completed | 9/10") // meanwhile
	r.runtime.mu.Unlock()
	r.link(nil)
	r.tick()
	var seen []Progress
	r.until("the 90 %", func(p Progress) bool { seen = append(seen, p); return p.Percent == 90 })
	if told := notices(seen); len(told) != 1 || told[0] != "connected to this machine again" {
		t.Errorf("told: %q", told)
	}
	health.set(http.StatusOK)
	r.tick()
	rest, err := r.result()
	if err != nil || len(notices(rest)) != 0 {
		t.Errorf("%v, told %q", err, notices(rest))
	}
	if n := r.runtime.followed(); n != 2 {
		t.Errorf("the log was followed %d times", n)
	}
	if run, err := r.History.Load("gpt-oss", ""); err != nil || len(run.Stages) != 0 {
		t.Errorf("a start with a gap is remembered: %+v, %v", run, err)
	}
}

// The log breaks off though all else is well: it is followed again.
func TestWaitReadyFollowsTheLogAgain(t *testing.T) {
	r := newRig(t)
	r.runtime.state.Phase = PhaseRunning
	health := &phases{status: http.StatusServiceUnavailable}
	r.serve(health.ServeHTTP)
	r.waitReady()
	r.runtime.write("load_tensors: loading model tensors")
	r.until("the weights", stage(StageWeights))
	for range 3 { // again and again; each time only after a pause
		n := r.runtime.followed()
		r.runtime.cut(nil)
		for r.runtime.followed() == n {
			r.tick()
		}
	}
	r.runtime.write("common_init_from_params: warming up the model with an empty run - please wait ...")
	r.until("the warm-up", func(p Progress) bool { return p.Text == "warming up" })
	health.set(http.StatusOK)
	r.tick()
	if rest, err := r.result(); err != nil || len(notices(rest)) != 0 {
		t.Errorf("%v, told %q", err, notices(rest))
	}
}

// Ctrl-C ends the wait, not the server.
func TestWaitReadyInterrupted(t *testing.T) {
	r := newRig(t)
	r.runtime.state.Phase = PhaseRunning
	r.waitReady()
	r.until("the start", stage(StageStart))
	r.cancel(errors.New("interrupt"))
	_, err := r.result()
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "it goes on starting") || !strings.Contains(err.Error(), "`launcher stop gpt-oss`") {
		t.Errorf("got %v", err)
	}
	var failed *FailedError
	if errors.As(err, &failed) || r.runtime.state.Phase != PhaseRunning || r.runtime.stopped != 0 {
		t.Errorf("got %v, %+v", err, r.runtime.state)
	}
}

// Who joins a start sees how long it has been under way.
func TestWaitReadyOfSomebodyElsesStart(t *testing.T) {
	r := newRig(t)
	r.runtime.state = RuntimeState{Phase: PhaseRunning, Started: r.clock.Add(-5 * time.Minute)}
	if err := r.History.Save("gpt-oss", "", Run{Stages: map[string]time.Duration{StageWeights: time.Minute}}); err != nil {
		t.Fatal(err)
	}
	r.waitReady()
	r.until("the time", func(p Progress) bool { return p.Elapsed == 5*time.Minute && p.Left == time.Minute })
	r.cancel(nil)
	r.result()
}
