package containers

import (
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// fakeEngine is a Docker engine that answers from a table, on a unix socket.
// Keys are "METHOD /path" without the API version.
type fakeEngine map[string]http.HandlerFunc

var versioned = regexp.MustCompile(`^/v1\.[0-9]+`)

func (f fakeEngine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := versioned.ReplaceAllString(r.URL.Path, "")
	if h := f[r.Method+" "+path]; h != nil {
		h(w, r)
		return
	}
	if path == "/_ping" {
		w.Header().Set("Api-Version", "1.41")
		return
	}
	w.WriteHeader(http.StatusNotFound)
	_ = json.NewEncoder(w).Encode(map[string]string{"message": "No such thing: " + r.Method + " " + path})
}

// open starts the fake engine and connects to it.
func (f fakeEngine) open(t *testing.T) *Engine {
	t.Helper()
	// t.TempDir's paths can be too long for a socket.
	dir, err := os.MkdirTemp("", "sp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: f}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = srv.Serve(l) }()
	t.Cleanup(func() { srv.Close(); <-ended })
	e, err := Open(t.Context(), "unix://"+l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

// reply answers with v as JSON.
func reply(v any) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v)
	}
}
