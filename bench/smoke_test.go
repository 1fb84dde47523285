//go:build lab

package bench_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/bench"
	"github.com/sallyport/sallyport/bench/cases"
	"github.com/sallyport/sallyport/bench/field"
	"github.com/sallyport/sallyport/bench/load"
	"github.com/sallyport/sallyport/bench/peer"
	"github.com/sallyport/sallyport/internal/lab"
)

// TestSmoke runs every case once, with as little as shows that it works: no side may
// fail. It judges no number.
func TestSmoke(t *testing.T) {
	// The context of a test ends before what it started is removed.
	f, err := field.Start(context.WithoutCancel(t.Context()), field.Options{Scale: field.Scale{Smoke: true}})
	if errors.Is(err, lab.ErrUnavailable) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Run("field", func(t *testing.T) { fieldWorks(t, f) })
	for _, c := range cases.All() {
		t.Run(c.Name, func(t *testing.T) { smoke(t, f, c) })
	}
}

func smoke(t *testing.T, f *field.Field, c bench.Case) {
	r, err := bench.Run(t.Context(), f, c, bench.Options{Smoke: true, Say: t.Logf})
	if err := errors.Join(err, r.Err(), f.Reset(t.Context())); err != nil {
		t.Error(err)
	}
	for _, v := range r.Judge() {
		if strings.HasPrefix(v.Why, "the case has no metric") {
			t.Errorf("a bar that nothing can reach: %s", v.Why)
		}
	}
}

// fieldWorks checks what cases build on: what fails says why, what is used is that of
// the right processes, and nothing is left.
func fieldWorks(t *testing.T, f *field.Field) {
	ctx := t.Context()
	bad := peer.Spec{Name: "bad", Command: []string{"sh", "-c", "echo no such thing >&2"}, Ready: "tcp:" + f.BridgeAddr() + ":1"}
	if _, err := f.Peer(ctx, bad); err == nil || !strings.Contains(err.Error(), "it has ended; it printed: no such thing") {
		t.Errorf("a peer that does not start: %v", err)
	}
	at := f.BridgeAddr() + ":18000"
	hello, err := f.Peer(ctx, peer.Spec{Name: "hello", Command: []string{f.PeerProgram(), "hello", at}, Ready: "tcp:" + at})
	if err != nil {
		t.Fatal(err)
	}
	givenUp(t, f, load.GetArg{URL: "http://" + at, N: 1 << 30, Status: 200})
	if err := f.Product(ctx, field.Config{}); err != nil {
		t.Fatal(err)
	}
	gateway, err := f.Gateway(ctx)
	wall, wallErr := f.Wall(ctx)
	if err := errors.Join(err, wallErr); err != nil || gateway.PID == wall.PID {
		t.Errorf("gateway %+v, wall %+v, %v", gateway, wall, err)
	}
	for pid, words := range map[int]string{gateway.PID: "gateway\x00run\x00", wall.PID: "gateway\x00wall\x00", hello.PID(): "peer\x00hello\x00"} {
		if text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err != nil || !strings.Contains(string(text), words) {
			t.Errorf("process %d is %q, not %q: %v", pid, text, words, err)
		}
	}
	if err := f.Reset(ctx); err != nil {
		t.Fatal(err)
	}
	if left, err := f.Lab.Laptop.Docker(ctx, "ps", "-aq"); err != nil || left != "" {
		t.Errorf("containers are left: %s, %v", left, err)
	}
	if _, err := hello.RSS(); err == nil {
		t.Error("the peer is left")
	}
}

// givenUp gives up a job that would last: the worker does no other, and ends all the same.
func givenUp(t *testing.T, f *field.Field, endless load.GetArg) {
	w, err := f.Bridge(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Do(t.Context(), "nothing", nil, nil); err == nil || !strings.Contains(err.Error(), `there is no job "nothing"`) {
		t.Errorf("a job that is none: %v", err)
	}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := w.Do(short, "get", endless, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("an endless job: %v", err)
	}
	if err := w.Do(t.Context(), "get", endless, nil); err == nil || !strings.Contains(err.Error(), "given up") {
		t.Errorf("the next job: %v", err)
	}
	if err := w.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}
