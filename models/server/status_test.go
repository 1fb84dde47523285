package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport/sallyport/machine"
	"github.com/sallyport/sallyport/models"
)

// answers serves fixed texts by path; 404 for others.
func answers(texts map[string]string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		text, ok := texts[r.URL.Path]
		if !ok || r.Method != http.MethodGet {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		_, _ = w.Write([]byte(text))
	}
}

var started = time.Date(2026, 11, 20, 7, 0, 0, 0, time.UTC)

func TestStatusOfVLLM(t *testing.T) {
	r := newRig(t)
	r.runtime.state = RuntimeState{Phase: PhaseRunning, Started: started, By: "me@laptop\x1b[2J", Launch: "abc"}
	r.serve(answers(map[string]string{
		"/health":    "",
		"/version":   `{"version":"0.23.0"}`,
		"/v1/models": `{"object":"list","data":[{"id":"gpt-oss","object":"model","max_model_len":131072},{"id":"x\u001b[2J"}]}`,
		"/metrics": "# HELP vllm:num_requests_running Number of requests in model execution batches.\n" +
			"vllm:num_requests_running{engine=\"0\",model_name=\"a } b\"} 2.0\nvllm:num_requests_waiting{engine=\"0\"} 1.0\nvllm:num_requests_waiting_by_reason{} 9\n",
	}))
	got, err := r.Status(t.Context())
	want := Status{State: Ready, Since: started, Percent: 100, By: `me@laptop\x1b[2J`, Version: "vLLM 0.23.0", Models: []string{"gpt-oss", `x\x1b[2J`}, MaxContext: 131072, Running: 3, Launch: "abc"}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}

// As llama.cpp 0.7.0 of Debian answers, with and without --metrics.
func TestStatusOfLlamaCPP(t *testing.T) {
	texts := map[string]string{
		"/health":    `{"status":"ok"}`,
		"/props":     `{"default_generation_settings":{},"build_info":"b0700-debian"}`,
		"/v1/models": `{"models":[],"object":"list","data":[{"id":"gpt-oss","aliases":["gpt-oss"],"meta":{"n_ctx":65536,"n_ctx_train":131072}}]}`,
		"/metrics":   "# TYPE llamacpp:requests_processing gauge\nllamacpp:requests_processing 1\nllamacpp:requests_deferred 2\n",
	}
	r := newRig(t)
	r.runtime.state = RuntimeState{Phase: PhaseRunning}
	r.serve(answers(texts))
	got, err := r.Status(t.Context())
	want := Status{State: Ready, Percent: 100, Version: "llama.cpp b0700-debian", Models: []string{"gpt-oss"}, MaxContext: 65536, Running: 3}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	delete(texts, "/metrics")
	if got, err := r.Status(t.Context()); err != nil || got.Running != -1 {
		t.Errorf("without metrics: %+v, %v", got, err)
	}
	texts["/load"] = `{"server_load":4}`
	if got, err := r.Status(t.Context()); err != nil || got.Running != 4 {
		t.Errorf("with /load: %+v, %v", got, err)
	}
}

// What a server answers is not believed beyond its bounds.
func TestStatusOfAServerThatLies(t *testing.T) {
	many := `{"data":[` + strings.Repeat(`{"id":"m"},`, 5000) + `{"id":"m"}]}`
	for name, texts := range map[string]map[string]string{
		"not JSON":       {"/version": "<html>", "/v1/models": "[", "/metrics": "\x00\xff", "/load": "-"},
		"other shapes":   {"/version": `{"version":7}`, "/v1/models": `{"data":{}}`, "/metrics": "vllm:num_requests_running\nvllm:num_requests_running NaN\nvllm:num_requests_waiting{ -1", "/load": `{"server_load":-1}`},
		"more than is":   {"/v1/models": many, "/metrics": "vllm:num_requests_running 1e300"},
		"too long":       {"/version": `{"version":"` + strings.Repeat("x", 2<<20) + `"}`, "/metrics": strings.Repeat("x", 2<<20)},
		"a long version": {"/version": `{"version":"` + strings.Repeat(`\u001b`, 1000) + `"}`},
		"nothing":        {},
	} {
		r := newRig(t)
		r.runtime.state = RuntimeState{Phase: PhaseRunning}
		texts["/health"] = "ok"
		r.serve(answers(texts))
		got, err := r.Status(t.Context())
		if err != nil || got.State != Ready || got.Running != -1 || len(got.Models) > maxModels || len(got.Version) > 2*maxName || printable(got.Version, 2*maxName) != got.Version {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		if name == "too long" && got.Version != "" {
			t.Errorf("an answer of 2 MiB is read: version of %d bytes", len(got.Version))
		}
	}
}

// Only the socket is asked: no proxy of the environment, no place that an answer
// names.
func TestOnlyTheSocketIsAsked(t *testing.T) {
	asked := make(chan string, 10)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked <- r.URL.String() })}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	t.Cleanup(func() { srv.Close(); <-done })
	t.Setenv("HTTP_PROXY", "http://"+l.Addr().String())
	t.Setenv("http_proxy", "http://"+l.Addr().String())

	r := newRig(t)
	r.runtime.state = RuntimeState{Phase: PhaseRunning}
	var dialled []string
	r.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		dialled = append(dialled, network+" "+addr)
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	}
	paths := map[string]int{}
	r.serve(func(w http.ResponseWriter, req *http.Request) {
		paths[req.URL.Path]++
		http.Redirect(w, req, "http://"+l.Addr().String()+"/elsewhere", http.StatusFound)
	})
	if got, err := r.Status(t.Context()); err != nil || got.State != Starting {
		t.Errorf("%+v, %v", got, err)
	}
	for _, d := range dialled {
		if d != "unix "+r.Socket {
			t.Errorf("dialled %s", d)
		}
	}
	if len(asked) != 0 || paths["/health"] != 1 || len(paths) != 1 {
		t.Errorf("asked elsewhere %d times; paths %v", len(asked), paths)
	}
}

func TestStatusOfOthers(t *testing.T) {
	loading := []string{"Loading safetensors checkpoint shards:  67% Completed | 2/3 [00:00<00:00, 9it/s]"}
	for _, c := range []struct {
		name   string
		state  RuntimeState
		log    []string
		health int // zero: nobody listens
		want   Status
	}{
		{"absent", RuntimeState{Phase: PhaseAbsent}, nil, 0, Status{State: Absent, Percent: -1}},
		{"nothing is known", RuntimeState{}, nil, 0, Status{State: Absent, Percent: -1}},
		{"starting", RuntimeState{Phase: PhaseRunning, Started: started}, nil, 0, Status{State: Starting, Since: started, Stage: StageStart, Percent: -1, Detail: "starting"}},
		{"loading", RuntimeState{Phase: PhaseRunning, Started: started, By: "me@laptop"}, loading, 503, Status{State: Starting, Since: started, Stage: StageWeights, Percent: 67, Detail: "loading weights, shard 2 of 3", By: "me@laptop"}},
		{"engine dead", RuntimeState{Phase: PhaseRunning, Started: started}, []string{"INFO:     Application startup complete.", "vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue."}, 503,
			Status{State: Failed, Since: started, Percent: -1, Detail: "vLLM's engine process died", Hint: "`launcher stop gpt-oss`, then `launcher serve gpt-oss`"}},
		{"an old word of a dead engine, and nobody listens yet", RuntimeState{Phase: PhaseRunning, Started: started}, []string{"vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue."}, 0,
			Status{State: Starting, Since: started, Stage: StageStart, Percent: -1, Detail: "starting"}},
		{"idle", RuntimeState{Phase: PhaseExited, Ended: started, Why: WhyIdle, IdleStop: 30 * time.Minute, By: "me@laptop"}, nil, 0, Status{State: Stopped, Since: started, Percent: -1, Detail: "idle for 30m", By: "me@laptop"}},
		{"idle, for how long is not known", RuntimeState{Phase: PhaseExited, Why: WhyIdle, ExitCode: 143}, nil, 0, Status{State: Stopped, Percent: -1, Detail: "idle"}},
		{"stopped", RuntimeState{Phase: PhaseExited, Why: WhyAsked, ExitCode: 143}, nil, 0, Status{State: Stopped, Percent: -1, Detail: "by command"}},
		{"failed", RuntimeState{Phase: PhaseExited, Ended: started, ExitCode: 1, Why: "ended"}, []string{"vllm: error: unrecognized arguments: --omni"}, 0, Status{State: Failed, Since: started, Percent: -1, Detail: "the server does not know an argument", Hint: hintFlag}},
		{"failed, nobody knows why", RuntimeState{Phase: PhaseExited, ExitCode: 3}, nil, 0, Status{State: Failed, Percent: -1, Detail: "ended with exit code 3"}},
		{"ended by itself, without an error", RuntimeState{Phase: PhaseExited, ExitCode: 0}, nil, 0, Status{State: Failed, Percent: -1, Detail: "ended with exit code 0"}},
		{"killed", RuntimeState{Phase: PhaseExited, ExitCode: 137, OOMKilled: true}, nil, 0, Status{State: Failed, Percent: -1, Detail: "out of memory: the kernel killed it", Hint: hintMemory}},
	} {
		r := newRig(t)
		r.runtime.state, r.runtime.log = c.state, c.log
		if c.health != 0 {
			r.serve((&phases{status: c.health}).ServeHTTP)
		}
		c.want.Running = -1
		got, err := r.Status(t.Context())
		if diff := cmp.Diff(c.want, got); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", c.name, err, diff)
		}
	}
}

func TestStatusWhilePulling(t *testing.T) {
	r := newRig(t)
	r.Pulling = func(context.Context) (string, bool) { return "12 of 65 GB\x1b[2J", true }
	want := Status{State: Pulling, Percent: -1, Running: -1, Detail: `12 of 65 GB\x1b[2J`}
	if got, err := r.Status(t.Context()); err != nil || cmp.Diff(want, got) != "" {
		t.Errorf("%+v, %v", got, err)
	}
	r.runtime.state = RuntimeState{Phase: PhaseRunning} // what runs, runs
	if got, err := r.Status(t.Context()); err != nil || got.State != Starting {
		t.Errorf("%+v, %v", got, err)
	}
}

// Where the machine does not answer, nobody knows: that is an error, no state.
func TestStatusOfAMachineThatDoesNotAnswer(t *testing.T) {
	r := newRig(t)
	r.runtime.err = errors.New("the SSH connection is down")
	if got, err := r.Status(t.Context()); !errors.Is(err, r.runtime.err) || got.State != "" {
		t.Errorf("%+v, %v", got, err)
	}
}

// A server that accepts and never answers holds up nothing but until ctx ends.
func TestStatusEndsWithItsContext(t *testing.T) {
	r := newRig(t)
	r.runtime.state = RuntimeState{Phase: PhaseRunning}
	ctx, cancel := context.WithCancel(t.Context())
	r.serve(func(_ http.ResponseWriter, req *http.Request) { cancel(); <-req.Context().Done() })
	if got, err := r.Status(ctx); err != nil || got.State != Starting {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestStart(t *testing.T) {
	r := newRig(t)
	l := models.Launch{Name: "gpt-oss"}
	if err := r.Start(t.Context(), l); err != nil || r.runtime.started.Name != "gpt-oss" {
		t.Error(err)
	}
	r.runtime.startErr = &RunningError{Server: "gpt-oss", Machine: "strix", By: "you@other"}
	if err := r.Start(t.Context(), l); !errors.Is(err, ErrRunning) || err.Error() != "model server gpt-oss runs already on strix, started by you@other" {
		t.Errorf("got %v", err)
	}
	if err := r.Stop(t.Context()); err != nil || r.runtime.stopped != 30*time.Second {
		t.Errorf("%v, grace %v", err, r.runtime.stopped)
	}
	r.StopGrace = time.Second
	if err := r.Stop(t.Context()); err != nil || r.runtime.stopped != time.Second {
		t.Errorf("%v, grace %v", err, r.runtime.stopped)
	}
}

// A path that does not fit into the kernel's 108 bytes is said to be too long;
// the longest that fits is served.
func TestSocketPathsThatAreTooLong(t *testing.T) {
	folder := "/" + strings.Repeat("x", maxSocket-len("//server.sock"))
	for _, c := range []struct {
		socket string
		ok     bool
	}{
		{folder + "/model.sock", true},
		{folder + "y/model.sock", false}, // server.sock beside it has 108
		{folder + "/model-longer.sock", false},
	} {
		r := newRig(t)
		r.Socket = c.socket
		err := r.Start(t.Context(), models.Launch{Name: "gpt-oss"})
		if (err == nil) != c.ok || err != nil && (!strings.Contains(err.Error(), "hint: set hosts[].folder, or local.folder for this machine") || r.runtime.started.Name != "") {
			t.Errorf("%d bytes: %v", len(c.socket), err)
		}
	}
	// The kernel agrees.
	dir := t.TempDir()
	for n, ok := range map[int]bool{maxSocket: true, maxSocket + 1: false} {
		path := filepath.Join(dir, strings.Repeat("s", n-len(dir)-1))
		l, err := net.Listen("unix", path)
		if (err == nil) != ok {
			t.Errorf("%d bytes: %v", n, err)
		}
		if err == nil {
			l.Close()
			os.Remove(path)
		}
	}
}

func TestServersThatAreNone(t *testing.T) {
	for _, change := range []func(*Server){
		func(s *Server) { s.Name = "" },
		func(s *Server) { s.Name = "../x" },
		func(s *Server) { s.Name = "a/b" },
		func(s *Server) { s.Name = "A" },
		func(s *Server) { s.Name = "-x" },
		func(s *Server) { s.Name = ".." },
		func(s *Server) { s.Name = "a b" },
		func(s *Server) { s.Name = strings.Repeat("x", 64) },
		func(s *Server) { s.Runtime = nil },
		func(s *Server) { s.Dial = nil }, // and no machine
		func(s *Server) { s.Socket = "model.sock" },
		func(s *Server) { s.Socket = "" },
	} {
		r := newRig(t)
		change(r.Server)
		_, statusErr := r.Status(t.Context())
		for i, err := range []error{r.Start(t.Context(), models.Launch{}), r.Stop(t.Context()), r.WaitReady(t.Context(), nil), statusErr} {
			if err == nil {
				t.Errorf("%+v: call %d is accepted", r.Server, i)
			}
		}
		if r.runtime.started.Name != "" || r.runtime.state.Phase != "" {
			t.Errorf("%+v was started", r.Server)
		}
	}
}

func TestRunningErrorIsPrintable(t *testing.T) {
	err := fmt.Errorf("x: %w", &RunningError{Server: "a\x1b", Machine: "b\x1b", By: strings.Repeat("\x1b", 1000), Since: started, Other: true})
	if !errors.Is(err, ErrRunning) || strings.Contains(err.Error(), "\x1b") || len(err.Error()) > 1000 {
		t.Errorf("got %v", err)
	}
}

// Without a Dial of its own a server is asked through its machine.
func TestStatusOnThisMachine(t *testing.T) {
	r := newRig(t)
	r.Dial, r.Machine = nil, machine.Local(machine.LocalOptions{Home: t.TempDir(), UID: os.Getuid(), GID: os.Getgid()})
	r.runtime.state = RuntimeState{Phase: PhaseRunning}
	r.serve(answers(map[string]string{"/health": ""}))
	if got, err := r.Status(t.Context()); err != nil || got.State != Ready {
		t.Errorf("%+v, %v", got, err)
	}
}
