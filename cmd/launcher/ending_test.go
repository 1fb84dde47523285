package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sallyport/sallyport/agents"
	"github.com/sallyport/sallyport/config"
	"github.com/sallyport/sallyport/containers"
)

// answer is what an engine says of an agent's container, once.
type answer string

const (
	away    answer = "" // it drops the connection
	running answer = `{"Id":"a","State":{"Running":true,"Status":"running"}}`
	gone    answer = "404"
)

func exited(code int, oom bool) answer {
	return answer(fmt.Sprintf(`{"Id":"a","State":{"Running":false,"Status":"exited","ExitCode":%d,"OOMKilled":%t}}`, code, oom))
}

// runOn is an agent's run on an engine that gives answers, the last one for ever.
func runOn(t *testing.T, answers ...answer) *agentRun {
	t.Helper()
	var asked atomic.Int64
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "e"))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", "1.41")
		switch path := r.URL.Path; {
		case strings.HasSuffix(path, "/json"):
			a := answers[min(int(asked.Add(1)), len(answers))-1]
			switch a {
			case away:
				panic(http.ErrAbortHandler)
			case gone:
				w.WriteHeader(http.StatusNotFound)
				fmt.Fprint(w, `{"message":"none"}`)
			default:
				w.Header().Set("Content-Type", "application/json")
				fmt.Fprint(w, string(a))
			}
		case strings.HasSuffix(path, "/wait"): // it goes on
			<-r.Context().Done()
		}
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	t.Cleanup(func() { server.Close(); <-done })
	engine, err := containers.Open(t.Context(), "unix://"+l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { engine.Close() })
	o := &options{process: process{stderr: io.Discard}}
	s := &session{options: o, engine: engine, config: &config.Config{Agent: config.Agent{Memory: 8 << 30}}, request: request{agent: "claude", model: "demo"}}
	return &agentRun{session: s, container: "a", input: newInput(nil), profile: agents.Profile{Continue: []string{"--continue"}}}
}

func TestWhatBecameOfTheAgent(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		answers []answer
		code    int
		why     string // empty: it ended by itself
	}{
		{"it succeeded", []answer{exited(0, false)}, 0, ""},
		{"it failed", []answer{exited(3, false)}, 3, ""},
		{"memory", []answer{exited(137, true)}, 137, "its memory limit (agent.memory, 8192 MB) was reached"},
		{"killed", []answer{exited(137, false)}, 137, "the agent was killed"},
		{"ended", []answer{exited(143, false)}, 143, ""},
		{"removed", []answer{gone}, 1, "removed by somebody else"},
		{"the engine was stopped", []answer{away, away, exited(137, false)}, 137, "the Docker engine was stopped, and the agent with it"},
		{"politely", []answer{away, away, exited(0, false)}, 1, "the Docker engine was stopped, and the agent with it"},
		{"and cleaned", []answer{away, away, gone}, 1, "removed by somebody else"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := runOn(t, test.answers...)
			e, err := r.ending(t.Context())
			code, err := r.explain(t.Context(), e, "", err)
			var exit *exitError
			if errors.As(err, &exit) {
				code = exit.code
			}
			explained := err == nil && test.why == "" ||
				err != nil && test.why != "" && strings.Contains(err.Error(), test.why) && strings.HasSuffix(err.Error(), "\nhint: continue with: launcher claude demo -- --continue")
			if code != test.code || !explained {
				t.Errorf("code %d, %v", code, err)
			}
		})
	}
}

func TestTheAgentOutlivesTheEngine(t *testing.T) {
	if _, err := runOn(t, away, away, running).ending(t.Context()); !errors.Is(err, errStillRunning) {
		t.Error(err)
	}
}

// What is typed while the engine is away is the agent's later, but for Ctrl-C.
func TestCtrlCEndsTheWaitForTheEngine(t *testing.T) {
	r := runOn(t, away)
	go func() {
		r.input.chunks <- []byte("abc")
		r.input.chunks <- []byte{3}
	}()
	e, err := r.ending(t.Context())
	if !errors.Is(err, errEngineGone) || !e.away || string(r.input.takeKept()) != "abc" {
		t.Errorf("%+v, %v", e, err)
	}
	if _, err := r.explain(t.Context(), e, "", err); err == nil || !strings.HasPrefix(err.Error(), "the Docker engine was stopped") {
		t.Error(err)
	}
}

func TestAnInterruptEndsTheWaitForTheEngine(t *testing.T) {
	r := runOn(t, away)
	close(r.input.chunks) // stdin has ended: that alone ends nothing
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.ending(ctx); !errors.Is(err, errEngineGone) {
		t.Error(err)
	}
}

func TestAnInterruptedAgent(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for code, want := range map[int]int{0: 130, 5: 130, 143: 143} {
		got, err := runOn(t, running).explain(ctx, ending{code: code}, "", nil)
		if got != want || err != nil {
			t.Errorf("%d: %d, %v", code, got, err)
		}
	}
}

func TestALostSandboxIsExplained(t *testing.T) {
	t.Parallel()
	_, err := runOn(t, running).explain(t.Context(), ending{code: 143}, "the sandbox's holder ended", nil)
	var exit *exitError
	if !errors.As(err, &exit) || exit.code != 143 || !strings.HasPrefix(err.Error(), "the sandbox's holder ended\nhint: ") {
		t.Error(err)
	}
}
