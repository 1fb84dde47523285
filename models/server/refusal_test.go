package server

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/containers"
	"github.com/sallyport/sallyport/machine"
)

// A container of our name and labels that has a network is no server of ours,
// however well it answers: it is neither ready, nor joined, nor started.
func TestServerWithANetworkIsRefused(t *testing.T) {
	for _, network := range []string{"", "default", "bridge", "host", "container:x", "a\x1b[2J"} {
		rt, e, _ := newEngineRuntime("")
		with := func(state string) containers.ServerState {
			return existing(state, func(st *containers.ServerState) { st.Network = network })
		}
		e.there[rt.container()] = with("running")
		if err := rt.Start(t.Context(), launch()); err == nil || errors.Is(err, ErrRunning) || !strings.Contains(err.Error(), "not none") || strings.Contains(err.Error(), "\x1b") || len(e.calls) != 0 {
			t.Errorf("%q: Start: %v, %v", network, err, e.calls)
		}
		r := newRig(t)
		r.Runtime = rt
		r.serve((&phases{status: http.StatusOK}).ServeHTTP)
		if got, err := r.Status(t.Context()); err != nil || got.State != Failed || !strings.Contains(got.Detail, "not none") || got.Hint == "" || strings.Contains(got.Detail, "\x1b") {
			t.Errorf("%q: Status: %+v, %v", network, got, err)
		}
		err := r.WaitReady(t.Context(), nil)
		if failed := new(FailedError); !errors.As(err, &failed) || !strings.Contains(err.Error(), "not none") {
			t.Errorf("%q: WaitReady: %v", network, err)
		}
		e.there[rt.container()] = with("created") // never started: it makes room, as what has ended
		if err := rt.Start(t.Context(), launch()); err != nil || strings.Join(e.calls, ",") != "remove old,create id1,start id1" {
			t.Errorf("%q: over one that was never started: %v, %v", network, err, e.calls)
		}
	}
}

// The server may put something else in the place of its socket: it is not asked.
func TestSocketThatWasReplaced(t *testing.T) {
	here := machine.Local(machine.LocalOptions{Home: t.TempDir(), UID: os.Getuid(), GID: os.Getgid(), Environ: []string{"PATH=" + os.Getenv("PATH")}})
	for _, m := range []*machine.Machine{nil, here} {
		for name, replace := range map[string]func(path, other string) error{
			"a link":              func(path, other string) error { return os.Symlink(other, path) },
			"a link that dangles": func(path, other string) error { return os.Symlink(other+"/x", path) },
			"a file":              func(path, _ string) error { return os.WriteFile(path, nil, 0o600) },
			"a folder":            func(path, _ string) error { return os.Mkdir(path, 0o700) },
		} {
			r := newRig(t)
			r.Machine = m
			r.runtime.state.Phase = PhaseRunning
			socket := r.Socket
			r.Socket += ".other" // somebody else's, who answers
			asked := false
			r.serve(func(http.ResponseWriter, *http.Request) { asked = true })
			r.Socket = socket
			if got, err := r.Status(t.Context()); err != nil || got.State != Starting {
				t.Errorf("before: %+v, %v", got, err)
			}
			if err := replace(socket, socket+".other"); err != nil {
				t.Fatal(err)
			}
			const want = "model.sock is not a socket: the server replaced it"
			if got, err := r.Status(t.Context()); err != nil || got.State != Failed || !strings.HasSuffix(got.Detail, want) || got.Hint == "" {
				t.Errorf("%s: %+v, %v", name, got, err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // where nothing ends it
			err := r.WaitReady(ctx, nil)
			cancel()
			if failed := new(FailedError); !errors.As(err, &failed) || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: WaitReady: %v", name, err)
			}
			if asked {
				t.Errorf("%s: it was asked", name)
			}
		}
	}
}

// Where the path cannot be looked at, nobody knows whether it is a socket.
func TestSocketThatCannotBeSeen(t *testing.T) {
	r := newRig(t)
	r.runtime.state.Phase = PhaseRunning
	r.Machine = new(machine.Machine)
	r.Dial = (&net.Dialer{}).DialContext
	r.serve((&phases{status: http.StatusOK}).ServeHTTP)
	if got, err := r.Status(t.Context()); err == nil || got.State != "" {
		t.Errorf("%+v, %v", got, err)
	}
}
