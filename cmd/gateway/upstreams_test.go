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
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sallyport/sallyport/control"
	"github.com/sallyport/sallyport/sandbox"
	"go.uber.org/goleak"
	"golang.org/x/sync/semaphore"
)

// modelServer is a model server on a unix socket that can fall ill and go away.
type modelServer struct {
	place    sandbox.Place
	sick     atomic.Bool  // /health answers 503
	running  atomic.Int64 // as /metrics says
	answered atomic.Int64 // POST requests
	stop     func()
}

func startModelServer(t *testing.T, host string) *modelServer {
	t.Helper()
	path := filepath.Join(t.TempDir(), "m")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	m := &modelServer{place: sandbox.Place{Host: host, Network: "unix", Address: path}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		if m.sick.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"data":[{"id":"gpt-oss"}]}`) })
	mux.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"version":"0.24.0"}`) })
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, "vllm:num_requests_running{engine=\"0\"} %d\n", m.running.Load())
	})
	mux.HandleFunc("POST /", func(w http.ResponseWriter, _ *http.Request) { m.answered.Add(1); _, _ = io.WriteString(w, host) })
	server := &http.Server{Handler: mux}
	served := make(chan struct{})
	go func() { defer close(served); _ = server.Serve(l) }()
	m.stop = sync.OnceFunc(func() { _ = server.Close(); <-served })
	t.Cleanup(m.stop)
	return m
}

// testUpstream is the way to servers, the first of which is in use, and the moves
// that were made.
func testUpstream(servers ...*modelServer) (*upstream, *[]string) {
	model := sandbox.Upstream{Name: "gpt-oss", Host: servers[0].place.Host, Network: "unix", Address: servers[0].place.Address}
	for _, s := range servers[1:] {
		model.Spare = append(model.Spare, s.place)
	}
	dial := func(ctx context.Context, p sandbox.Place) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, p.Network, p.Address)
	}
	ask := func(p sandbox.Place) asker {
		return newAsker("", func(ctx context.Context) (net.Conn, error) { return dial(ctx, p) })
	}
	moves := &[]string{}
	return &upstream{
		dial: dial, turn: semaphore.NewWeighted(1), model: model,
		alive: func(ctx context.Context, p sandbox.Place) error { return askHealth(ctx, ask(p)) },
		check: func(ctx context.Context, _ sandbox.Upstream, places []sandbox.Place) []control.PlaceCheck {
			checks := make([]control.PlaceCheck, len(places))
			for i, p := range places {
				checks[i] = askPlace(ctx, ask(p))
				checks[i].Place = p
			}
			return checks
		},
		moved: func(from, to sandbox.Place, why error) error {
			*moves = append(*moves, from.Host+" to "+to.Host+": "+why.Error())
			return nil
		},
	}, moves
}

// request asks the model once, on a connection of its own, and returns who
// answered.
func (u *upstream) request(t *testing.T) (string, error) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return u.Dial(ctx) }}}
	res, err := client.Post("http://model/v1/messages", "application/json", strings.NewReader("{}"))
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return string(b), err
}

func (u *upstream) mustReach(t *testing.T, want string) {
	t.Helper()
	if got, err := u.request(t); err != nil || got != want {
		t.Errorf("%q answered, %v; want %s", got, err, want)
	}
}

func TestUpstreamMovesWhenItsPlaceCannotBeDialled(t *testing.T) {
	defer goleak.VerifyNone(t)
	one, two, three := startModelServer(t, "strix1"), startModelServer(t, "strix2"), startModelServer(t, "strix3")
	two.running.Store(3)
	u, moves := testUpstream(one, two, three)
	u.mustReach(t, "strix1")
	u.mustReach(t, "strix1")
	one.stop()
	u.mustReach(t, "strix3") // the least busy
	if len(*moves) != 1 || !strings.HasPrefix((*moves)[0], "strix1 to strix3: dial unix ") {
		t.Errorf("moves %q", *moves)
	}
	three.running.Store(9)
	u.mustReach(t, "strix3") // and it stays
	if where := u.Where(); !strings.HasPrefix(where, "strix3 (unix://") {
		t.Errorf("it says that it is at %s", where)
	}
	three.stop()
	u.mustReach(t, "strix2")
	two.stop()
	_, err := u.request(t)
	if err == nil || !strings.Contains(err.Error(), "no other place is healthy: strix3 (unix://") || !strings.Contains(err.Error(), "; strix1 (unix://") {
		t.Errorf("with none left: %v", err)
	}
	if len(*moves) != 2 {
		t.Errorf("moves %q", *moves)
	}
	for _, m := range []*modelServer{one, two, three} {
		m.stop()
	}
}

func TestUpstreamMovesWhenItsPlaceIsNotHealthy(t *testing.T) {
	defer goleak.VerifyNone(t)
	one, two := startModelServer(t, "strix1"), startModelServer(t, "strix2")
	u, moves := testUpstream(one, two)
	u.mustReach(t, "strix1")
	u.Trouble("it answered 500") // one request's fault: the server is well
	u.mustReach(t, "strix1")
	one.sick.Store(true)
	u.mustReach(t, "strix1") // nobody asked for its health
	two.sick.Store(true)
	u.Trouble("the answer broke off")
	u.mustReach(t, "strix1") // no other is better
	two.sick.Store(false)
	u.mustReach(t, "strix2") // the doubt has stayed
	if want := "strix1 to strix2: it answered 503 Service Unavailable to /health (after: the answer broke off)"; len(*moves) != 1 || (*moves)[0] != want {
		t.Errorf("moves %q, want %q", *moves, want)
	}
	one.sick.Store(false)
	u.mustReach(t, "strix2")
	if one.answered.Load() != 4 || two.answered.Load() != 2 {
		t.Errorf("%d and %d requests", one.answered.Load(), two.answered.Load())
	}
	one.stop()
	two.stop()
}

// A move that cannot be recorded is not made.
func TestUpstreamStaysWhereAMoveCannotBeRecorded(t *testing.T) {
	one, two := startModelServer(t, "strix1"), startModelServer(t, "strix2")
	u, _ := testUpstream(one, two)
	u.moved = func(sandbox.Place, sandbox.Place, error) error { return errors.New("disk full") }
	one.stop()
	if got, err := u.request(t); err == nil || !strings.Contains(err.Error(), "disk full") || two.answered.Load() != 0 {
		t.Errorf("%q, %v", got, err)
	}
}

// Requests that come together while the place is gone make one move.
func TestUpstreamMovesOnceForAll(t *testing.T) {
	one, two, three := startModelServer(t, "strix1"), startModelServer(t, "strix2"), startModelServer(t, "strix3")
	u, moves := testUpstream(one, two, three)
	one.stop()
	var requests sync.WaitGroup
	for range 20 {
		requests.Go(func() {
			if got, err := u.request(t); err != nil || got != "strix2" {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
	requests.Wait()
	if len(*moves) != 1 {
		t.Errorf("moves %q", *moves)
	}
}

// A request that was sent is never sent again, wherever that would be.
func TestUpstreamSendsNothingTwice(t *testing.T) {
	two := startModelServer(t, "strix2")
	path := filepath.Join(t.TempDir(), "m")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var got atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if n, _ := c.Read(make([]byte, 4096)); n > 0 {
				got.Add(1)
			}
			_ = c.Close() // after the request, before an answer
		}
	}()
	u, moves := testUpstream(&modelServer{place: sandbox.Place{Host: "strix1", Network: "unix", Address: path}}, two)
	if _, err := u.request(t); err == nil {
		t.Error("a broken answer was whole")
	}
	_ = l.Close()
	<-done
	if got.Load() != 1 || two.answered.Load() != 0 || len(*moves) != 0 {
		t.Errorf("sent %d times to the first, %d times to the second, moves %q", got.Load(), two.answered.Load(), *moves)
	}
}

func TestUpstreamWithoutSparePlaces(t *testing.T) {
	one := startModelServer(t, "strix1")
	u, moves := testUpstream(one)
	u.Trouble("it answered 500")
	one.sick.Store(true)
	u.mustReach(t, "strix1")
	one.stop()
	if _, err := u.request(t); err == nil || len(*moves) != 0 {
		t.Errorf("%v, moves %q", err, *moves)
	}
}
