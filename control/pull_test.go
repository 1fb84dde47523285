package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/policy"
)

// pull is the handler: it tells what is ready and of one connection, and stays.
func (g *gateway) pull(ctx context.Context, r PullRequest, tell func(PullEvent) error) error {
	if err := g.note(r); err != nil {
		return err
	}
	if err := tell(PullEvent{Ready: &PullReady{ID: "pull-1", Socket: "/run/p.sock"}}); err != nil {
		return err
	}
	if err := tell(PullEvent{Connection: &PullConnection{Host: "a.example", Port: 443, Verdict: "denied"}}); err != nil {
		return err
	}
	<-ctx.Done()
	close(g.pulled)
	return ctx.Err()
}

var aPull = PullRequest{Name: "tiny", Hosts: []policy.Rule{{Host: "hub.example", Ports: []uint16{443}, Why: "the hub"}}}

// The way out lives exactly as long as the call.
func TestPull(t *testing.T) {
	g := newGateway(t)
	told := make(chan PullConnection, 1)
	err := g.client.Pull(t.Context(), aPull, func(ctx context.Context, p PullReady) error {
		if p.ID != "pull-1" || p.Socket != "/run/p.sock" {
			t.Errorf("%+v", p)
		}
		if c := <-told; c.Host != "a.example" || c.Verdict != "denied" {
			t.Errorf("%+v", c)
		}
		select {
		case <-g.pulled:
			t.Error("it ended before the call did")
		default:
		}
		return errors.New("mine")
	}, func(c PullConnection) { told <- c })
	if err == nil || err.Error() != "mine" {
		t.Error(err)
	}
	<-g.pulled
	g.want(t, aPull)
}

// When the gateway goes, the pull is told.
func TestPullWithoutGateway(t *testing.T) {
	g := newGateway(t)
	err := g.client.Pull(t.Context(), aPull, func(ctx context.Context, _ PullReady) error {
		go g.stop()
		<-ctx.Done()
		return ctx.Err()
	}, nil)
	if !errors.Is(err, ErrPullEnded) {
		t.Error(err)
	}
	g.stop()
	if err := g.client.Pull(t.Context(), aPull, nil, nil); !errors.Is(err, ErrNotRunning) {
		t.Error(err)
	}
}

// A way out that leads nowhere is none.
func TestPullWithoutSocket(t *testing.T) {
	for _, ready := range []string{`{}`, `{"id":"pull-1"}`, `{"socket":"/run/p.sock"}`} {
		l, err := net.Listen("unix", filepath.Join(t.TempDir(), "c"))
		if err != nil {
			t.Fatal(err)
		}
		s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, `{"ready":%s}`+"\n", ready) })}
		ended := make(chan error, 1)
		go func() { ended <- s.Serve(l) }()
		err = NewClient(l.Addr().String()).Pull(t.Context(), aPull, func(context.Context, PullReady) error {
			t.Errorf("%s was taken", ready)
			return nil
		}, nil)
		if !errors.Is(err, ErrPullEnded) {
			t.Errorf("%s: %v", ready, err)
		}
		s.Close()
		<-ended
	}
}

func TestPullRefused(t *testing.T) {
	g := newGateway(t)
	g.err = errors.New("no hosts")
	err := g.client.Pull(t.Context(), aPull, nil, nil)
	if err == nil || !strings.Contains(err.Error(), "no hosts") {
		t.Error(err)
	}
}
