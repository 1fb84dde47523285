package web

import (
	"fmt"
	"log/slog"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/control"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/sandbox"
)

// BenchmarkFirstPaint makes the overview of a record of a million events of a
// month: of all of it, and of its last day.
func BenchmarkFirstPaint(b *testing.B) {
	const events, batch = 1_000_000, 2000
	path := filepath.Join(b.TempDir(), "audit.db")
	store, err := audit.Open(path, audit.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	for i := 0; i < events; i += batch {
		all := make([]audit.Event, batch)
		for j := range all {
			n := i + j
			e := refusedName(fmt.Sprintf("host%d.example", n%997))
			e.Time = noon.Add(time.Duration(n-events) * 2592 * time.Millisecond)
			e.Sandbox, e.Process.PID = fmt.Sprintf("%012x", n/20_000), n // no two are identical
			if n%4 != 0 {
				e.Layer, e.Verdict, e.Process = audit.LayerModel, policy.Allow.String(), nil
				e.Method, e.Path, e.Host, e.TokensIn, e.TokensOut = "POST", "/v1/messages", "", 1000, 100
			}
			all[j] = e
		}
		if _, err := store.AppendAll(all); err != nil {
			b.Fatal(err)
		}
	}
	s := &Server{Store: store, Open: func() (*audit.Reader, error) { return audit.OpenReader(path) }, Sandboxes: func() []sandbox.State { return nil },
		Status: func() control.Status { return control.Status{} }, Now: func() time.Time { return noon }, Loc: time.UTC, Log: slog.New(slog.DiscardHandler)}
	pages := s.pages()
	for _, since := range []string{"all", "24h"} {
		b.Run("since="+since, func(b *testing.B) {
			for b.Loop() {
				w := httptest.NewRecorder()
				pages.ServeHTTP(w, httptest.NewRequest("GET", "/?since="+since, nil))
				if w.Code != 200 {
					b.Fatal(w.Code, w.Body)
				}
			}
		})
	}
}
