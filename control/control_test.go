package control

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/sandbox"
	"github.com/sallyport/sallyport/tunnel"
)

// gateway is a server whose handlers note what they were called with.
type gateway struct {
	socket string
	client *Client
	stop   func()

	mu      sync.Mutex
	calls   []any
	refused []uint32
	err     error // of each call that may fail
	states  []sandbox.State
	pulled  chan struct{} // closed when a pull has ended
}

var secretState = sandbox.State{
	Registration: sandbox.Registration{Token: "holder-secret", Subject: audit.Subject{Sandbox: "0123456789ab"},
		Upstream: sandbox.Upstream{Name: "gpt-oss", Token: "upstream-secret"}},
	Phase: sandbox.Ready,
}

func (g *gateway) note(call ...any) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.calls = append(g.calls, call...)
	return g.err
}

func newGateway(t *testing.T) *gateway {
	t.Helper()
	g := &gateway{socket: filepath.Join(t.TempDir(), "c"), pulled: make(chan struct{})}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: g.socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	server := &Server{Handlers: g.handlers(cancel), Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Refused: func(uid uint32) {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.refused = append(g.refused, uid)
	}}
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx, l) }()
	g.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	t.Cleanup(g.stop)
	g.client = NewClient(g.socket)
	return g
}

func (g *gateway) handlers(down func()) Handlers {
	return Handlers{
		Status: func() Status {
			return Status{Version: "v1", PID: 7, Wall: WallStatus{Up: true}, Sandboxes: []sandbox.State{secretState}}
		},
		Wall: func() WallSecret { return WallSecret{Token: "wall-secret"} },
		Register: func(r sandbox.Registration) (sandbox.Addresses, error) {
			return sandbox.Addresses{Gate4: netip.MustParseAddr("10.213.0.1")}, g.note(r)
		},
		Unregister: func(id string) { g.note(id) },
		SetAgent:   func(id, agent string) error { return g.note(id, agent) },
		Watch: func(ctx context.Context, id string, each func(sandbox.State) error) error {
			g.note(id)
			for _, s := range g.states {
				if err := each(s); err != nil {
					return err
				}
			}
			<-ctx.Done()
			return ctx.Err()
		},
		SetHost: func(h tunnel.Host) error { return g.note(h) },
		CheckModel: func(_ context.Context, u sandbox.Upstream) ModelCheck {
			g.note(u)
			return ModelCheck{OK: true, Models: []string{"m"}}
		},
		Pull:   g.pull,
		Page:   func() (Page, error) { return Page{URL: "http://127.0.0.1:1/?token=once"}, g.note("page") },
		Reload: func() error { return g.note("reload") },
		Down: func(r DownRequest) error {
			err := g.note(r)
			if err == nil {
				down()
			}
			return err
		},
	}
}

func pageError(ctx context.Context, c *Client) error {
	_, err := c.Page(ctx)
	return err
}

// want checks what the handlers were called with, since the last time.
func (g *gateway) want(t *testing.T, calls ...any) {
	t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	if !reflect.DeepEqual(g.calls, calls) {
		t.Errorf("called with %+v, wanted %+v", g.calls, calls)
	}
	g.calls = nil
}

var fullRegistration = sandbox.Registration{
	Token:       strings.Repeat("t", 32),
	Subject:     audit.Subject{Sandbox: "0123456789ab", Agent: "claude", Model: "gpt-oss", Project: "/p <&>\u2028"},
	Endpoints:   []policy.Endpoint{{Method: "POST", Path: "/v1/messages"}},
	Upstream:    sandbox.Upstream{Name: "gpt-oss", Aliases: []string{"g"}, Host: "strix", Network: "unix", Address: "/s", Token: "u", Controlled: true},
	UnsafeMount: "home",
}

// Every call arrives as it was made, and so does its answer.
func TestCalls(t *testing.T) {
	g := newGateway(t)
	c, ctx := g.client, t.Context()
	if s, err := c.Status(ctx); err != nil || s.Version != "v1" || s.PID != 7 || !s.Wall.Up || len(s.Sandboxes) != 1 {
		t.Errorf("status: %+v, %v", s, err)
	}
	if s, err := c.Wall(ctx); err != nil || s.Token != "wall-secret" {
		t.Errorf("wall: %+v, %v", s, err)
	}
	if a, err := c.Register(ctx, fullRegistration); err != nil || a.Gate4.String() != "10.213.0.1" || a.Gate6.IsValid() {
		t.Errorf("register: %+v, %v", a, err)
	}
	g.want(t, fullRegistration)
	if err := c.Unregister(ctx, "a/../b"); err != nil {
		t.Error(err)
	}
	g.want(t, "a/../b")
	if err := c.SetAgent(ctx, "0123456789ab", "a b"); err != nil {
		t.Error(err)
	}
	g.want(t, "0123456789ab", "a b")
	host := tunnel.Host{Name: "strix", Addr: "h", Port: 22, Keys: []tunnel.Key{{Path: "/k", PEM: []byte("pem")}}, Jump: []tunnel.Host{{Name: "j"}}, KeepAlive: time.Second}
	if err := c.SetHost(ctx, host); err != nil {
		t.Error(err)
	}
	g.want(t, host)
	if m, err := c.CheckModel(ctx, fullRegistration.Upstream); err != nil || !m.OK || len(m.Models) != 1 {
		t.Errorf("model check: %+v, %v", m, err)
	}
	g.want(t, fullRegistration.Upstream)
	if page, err := c.Page(ctx); err != nil || !strings.HasSuffix(page.URL, "?token=once") {
		t.Errorf("page: %q, %v", page.URL, err)
	}
	g.want(t, "page")
	if err := c.Reload(ctx); err != nil {
		t.Error(err)
	}
	g.want(t, "reload")
	// The gateway answers before it ends.
	if err := c.Down(ctx, true); err != nil {
		t.Error(err)
	}
	g.want(t, DownRequest{Force: true})
	g.stop()
	if _, err := c.Status(ctx); !errors.Is(err, ErrNotRunning) {
		t.Errorf("after down: %v", err)
	}
}

func TestErrorsArriveAsTheyAre(t *testing.T) {
	g := newGateway(t)
	g.err = errors.New("there is no sandbox \"x\"; hint: none")
	c, ctx := g.client, t.Context()
	_, registered := c.Register(ctx, sandbox.Registration{})
	for name, err := range map[string]error{
		"register": registered, "agent": c.SetAgent(ctx, "x", "y"), "host": c.SetHost(ctx, tunnel.Host{}), "reload": c.Reload(ctx), "page": pageError(ctx, c), "down": c.Down(ctx, false),
	} {
		if err == nil || err.Error() != g.err.Error() {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := c.Status(ctx); err != nil {
		t.Errorf("it went down: %v", err)
	}
}

func TestNotRunning(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c")
	if _, err := NewClient(path).Status(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("no socket: %v", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	if _, err := NewClient(path).Status(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("a socket left behind: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := newGateway(t).client.Status(ctx); err == nil || errors.Is(err, ErrNotRunning) {
		t.Errorf("given up: %v", err)
	}
}

func TestWatch(t *testing.T) {
	g := newGateway(t)
	ended := secretState
	ended.Phase, ended.Why = sandbox.Ended, "its holder ended"
	g.states = []sandbox.State{secretState, ended}
	var got []sandbox.State
	each := func(s sandbox.State) error { got = append(got, s); return nil }
	if err := g.client.Watch(t.Context(), "0123456789ab", each); err != nil || len(got) != 2 || got[1].Why != ended.Why {
		t.Errorf("%v, %+v", err, got)
	}
	g.want(t, "0123456789ab")

	// A gateway that goes away is an error, not an end.
	g.states = g.states[:1]
	first := make(chan struct{})
	watched := make(chan error)
	go func() {
		watched <- g.client.Watch(t.Context(), "x", func(sandbox.State) error { close(first); return nil })
	}()
	<-first
	g.stop()
	if err := <-watched; err == nil {
		t.Error("no error")
	}
}

func TestWatchIsLeft(t *testing.T) {
	g := newGateway(t)
	g.states = []sandbox.State{secretState}
	enough := errors.New("enough")
	if err := g.client.Watch(t.Context(), "x", func(sandbox.State) error { return enough }); err != enough {
		t.Errorf("%v", err)
	}
}

// raw sends a request as it is.
func (g *gateway) raw(t *testing.T, method, path, body string) (status int, answer string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://gateway"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	res, err := g.client.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(data)
}

func TestSecretsAreNotShown(t *testing.T) {
	g := newGateway(t)
	ended := secretState
	ended.Phase = sandbox.Ended
	g.states = []sandbox.State{secretState, ended}
	status, text := g.raw(t, "GET", "/v1/status", "")
	if status != 200 || !strings.Contains(text, "0123456789ab") || strings.Contains(text, "secret") {
		t.Errorf("status shows %s", text)
	}
	res, err := g.client.do(t.Context(), "GET", "/v1/sandboxes/x/watch", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	d := json.NewDecoder(res.Body)
	for range g.states {
		var text json.RawMessage
		if err := d.Decode(&text); err != nil || strings.Contains(string(text), "secret") {
			t.Errorf("watch shows %s, %v", text, err)
		}
	}
}

func TestRequestsAreStrict(t *testing.T) {
	g := newGateway(t)
	for _, c := range []struct{ method, path, body, want string }{
		{"POST", "/v1/sandboxes", `{"tokken":"x"}`, `unknown field`},
		{"POST", "/v1/sandboxes", `{"upstream":{"adress":"x"}}`, `unknown field`},
		{"POST", "/v1/sandboxes", `{"endpoints":"all"}`, `cannot unmarshal`},
		{"POST", "/v1/sandboxes", ``, `EOF`},
		{"POST", "/v1/sandboxes", `{} {}`, `after its end`},
		{"POST", "/v1/down", `{"forced":true}`, `unknown field`},
		{"PUT", "/v1/hosts", `{"key":"x"}`, `unknown field`},
		{"PUT", "/v1/sandboxes/x/agent", `{"name":"x"}`, `unknown field`},
		{"POST", "/v1/model-check", `{"url":"x"}`, `unknown field`},
		{"POST", "/v1/sandboxes", `{"token":"` + strings.Repeat("x", maxBody) + `"}`, `too large`},
	} {
		if status, text := g.raw(t, c.method, c.path, c.body); status != http.StatusBadRequest || !strings.Contains(text, c.want) {
			t.Errorf("%s %s %.40s: %d %s, wanted %s", c.method, c.path, c.body, status, text, c.want)
		}
	}
	for _, c := range []struct{ method, path string }{{"GET", "/"}, {"GET", "/v1/down"}, {"POST", "/v1/status"}, {"DELETE", "/v1/sandboxes/"}} {
		if status, _ := g.raw(t, c.method, c.path, ""); status/100 != 4 {
			t.Errorf("%s %s: %d", c.method, c.path, status)
		}
	}
	g.want(t)
}

func TestServerNeedsItsFields(t *testing.T) {
	good := (&gateway{}).handlers(nil)
	log := slog.New(slog.DiscardHandler)
	if err := (&Server{Handlers: good, Log: log}).Serve(t.Context(), nil); err == nil {
		t.Error("without Refused")
	}
	v := reflect.ValueOf(&good).Elem()
	for i := range v.NumField() {
		without := good
		reflect.ValueOf(&without).Elem().Field(i).SetZero()
		if err := (&Server{Handlers: without, Log: log, Refused: func(uint32) {}}).Serve(t.Context(), nil); err == nil {
			t.Errorf("without %s", v.Type().Field(i).Name)
		}
	}
}
