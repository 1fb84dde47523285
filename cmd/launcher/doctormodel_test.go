package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/config"
	"github.com/sallyport/sallyport/containers"
	"github.com/sallyport/sallyport/machine"
	"github.com/sallyport/sallyport/models"
	"github.com/sallyport/sallyport/models/server"
)

// engineWith is an engine that has one container, in some network.
func engineWith(t *testing.T, name, network string) *containers.Engine {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", "1.41")
		switch {
		case strings.HasSuffix(r.URL.Path, "/_ping"):
		case strings.HasSuffix(r.URL.Path, "/containers/"+name+"/json"):
			fmt.Fprintf(w, `{"Id": "c0ffee", "Name": %q, "State": {"Status": "running", "Running": true}, "Config": {"Labels": {%q: "server"}}, "HostConfig": {"NetworkMode": %q}}`,
				"/"+name, containers.LabelRole, network)
		default:
			http.Error(w, `{"message": "no such container"}`, http.StatusNotFound)
		}
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	t.Cleanup(func() { s.Close(); <-done })
	e, err := containers.OpenDial(t.Context(), "test", func(ctx context.Context) (net.Conn, error) { return (&net.Dialer{}).DialContext(ctx, "unix", path) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

// Only a server without a network passes.
func TestCheckNetwork(t *testing.T) {
	m := model{Profile: models.Profile{Name: "own"}}
	name := models.ContainerName("own", 1000)
	for _, tt := range []struct {
		container, network string
		state              server.State
		want               verdict
		says               string
	}{
		{name, "none", server.Ready, verdictOK, "none: container " + name},
		{name, "bridge", server.Ready, verdictFail, `has network "bridge"`},
		{name, "host", server.Ready, verdictFail, `has network "host"`},
		{name, "", server.Ready, verdictFail, `has network ""`},
		{"other", "none", server.Ready, verdictFail, "no such container"},
		{name, "bridge", server.Stopped, verdictSkip, "does not run"},
	} {
		h := hosting{engine: engineWith(t, tt.container, tt.network)}
		p := &patient{checkup: &checkup{site: &site{facts: machine.Facts{UID: 1000}}}, model: m, served: &served{hosting: h}, status: server.Status{State: tt.state}}
		if f := p.checkNetwork(t.Context()); f.Verdict != tt.want || !strings.Contains(f.Text, tt.says) {
			t.Errorf("%q: %+v", tt.network, f)
		}
	}
}

// What a server says of itself is compared with what the agent is told.
func TestCheckWhatItSays(t *testing.T) {
	for _, tt := range []struct {
		name   string
		run    func(*patient, context.Context) finding
		status server.Status
		want   verdict
		says   string
	}{
		{"served", (*patient).checkName, server.Status{Models: []string{"x", "own"}}, verdictOK, "answers to own"},
		{"served otherwise", (*patient).checkName, server.Status{Models: []string{"a", "b"}}, verdictFail, "answers to a, b, and not to own"},
		{"silent", (*patient).checkName, server.Status{}, verdictSkip, "does not say"},
		{"context", (*patient).checkContext, server.Status{MaxContext: 4096}, verdictOK, "4096 tokens"},
		{"smaller", (*patient).checkContext, server.Status{MaxContext: 2048}, verdictWarn, "fewer than the 4096"},
		{"silent", (*patient).checkContext, server.Status{}, verdictSkip, "does not say"},
		{"new", (*patient).checkVersion, server.Status{Version: "vLLM 0.30.0"}, verdictOK, "vLLM 0.30.0, no known trouble"},
		{"old", (*patient).checkVersion, server.Status{Version: "vLLM 0.20.1"}, verdictWarn, `refuses the role "system"`},
		{"not vLLM", (*patient).checkVersion, server.Status{Version: "llama.cpp b0.20.1"}, verdictOK, "llama.cpp"},
		{"silent", (*patient).checkVersion, server.Status{}, verdictSkip, "does not say"},
	} {
		p := &patient{checkup: &checkup{doctor: &doctor{config: &config.Config{}}}, status: tt.status,
			model: model{Profile: models.Profile{Name: "own", Served: "own", MaxContext: 4096, Engine: models.VLLM}}}
		if f := tt.run(p, t.Context()); f.Verdict != tt.want || !strings.Contains(f.Text, tt.says) {
			t.Errorf("%s: %+v", tt.name, f)
		}
	}
}
