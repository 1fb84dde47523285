package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/control"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/sandbox"
	"github.com/sallyport/sallyport/tunnel"
	"go.uber.org/goleak"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// messages is a logger whose messages can be waited for.
func messages() (*slog.Logger, <-chan string) {
	lines := make(chan string, 64)
	return slog.New(slog.NewTextHandler(writer(func(b []byte) { lines <- string(b) }), nil)), lines
}

type writer func([]byte)

func (w writer) Write(b []byte) (int, error) { w(b); return len(b), nil }

func TestHangupReadsThePolicyAgain(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreAnyFunction("os/signal.loop"), goleak.IgnoreAnyFunction("os/signal.signal_recv"))
	spare := make(chan os.Signal, 1)
	signal.Notify(spare, syscall.SIGHUP) // for good: one that comes early or late must not end the tests
	file := filepath.Join(t.TempDir(), "c.yaml")
	write := func(text string) {
		// Whole or not at all: a late signal may have it read at any time.
		if err := errors.Join(os.WriteFile(file+".new", []byte(text), 0o600), os.Rename(file+".new", file)); err != nil {
			t.Fatal(err)
		}
	}
	write("")
	log, lines := messages()
	g := &gateway{process: process{lookupenv: func(string) (string, bool) { return "", false }}, configFile: file, log: log}
	cfg, rules, err := g.readConfig()
	if err != nil {
		t.Fatal(err)
	}
	g.config = cfg
	g.policy.Store(rules)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- g.reloadOnHangup(ctx) }()
	allowed := func() bool { return g.policy.Load().Decide("www.example.org", 443).Verdict == policy.Allow }
	hangUp := func(want string) {
		t.Helper()
		tick := time.NewTicker(20 * time.Millisecond) // the first signals may be too early
		defer tick.Stop()
		for {
			if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
				t.Fatal(err)
			}
			select {
			case line := <-lines:
				if strings.Contains(line, want) {
					return
				}
			case <-tick.C:
			case <-t.Context().Done():
				t.Fatal("no message")
			}
		}
	}
	if allowed() {
		t.Fatal("allowed without a rule")
	}
	write(`policy: {allow: [{host: "www.example.org", ports: [443]}]}`)
	hangUp("rules=1")
	if !allowed() {
		t.Error("the new rule is not in force")
	}
	write(`policy: {allow: [{host: "www.example.org"}]}`)
	hangUp("the old one stays in force")
	if !allowed() {
		t.Error("a configuration with an error replaced the old one")
	}
	write("network: {pool: 10.99.0.0/24}")
	hangUp("network, audit and web are read at the start only")
	if allowed() {
		t.Error("the rule is gone, and still in force")
	}
	if g.config != cfg {
		t.Error("the configuration of the start was changed")
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestDownRefusesWhileSandboxesRun(t *testing.T) {
	defer goleak.VerifyNone(t)
	dir := t.TempDir()
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: filepath.Join(dir, "w"), Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	downed := make(chan struct{})
	g := &gateway{log: quiet, down: func() { close(downed) }}
	g.hub = &sandbox.Hub{Pool4: netip.MustParsePrefix("10.213.0.0/31"), StateFile: filepath.Join(dir, "r"), WallToken: "t",
		Serve:     func(context.Context, sandbox.Plugged) error { return nil },
		Append:    func(e audit.Event) (audit.Event, error) { return e, nil },
		AppendAll: func(es []audit.Event) ([]audit.Event, error) { return es, nil }, ClaimTimeout: time.Hour, Log: quiet}
	if err := g.hub.Open(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- g.hub.Run(ctx, l) }()
	reg := sandbox.Registration{Token: strings.Repeat("x", 32), Subject: audit.Subject{Sandbox: "0123456789ab"}}
	if _, err := g.hub.Register(reg); err != nil {
		t.Fatal(err)
	}
	if err := g.stop(control.DownRequest{}); err == nil || !strings.HasPrefix(err.Error(), "1 sandbox(es) run; hint: ") {
		t.Errorf("with a sandbox: %v", err)
	}
	select {
	case <-downed:
		t.Fatal("refused and ended all the same")
	default:
	}
	if err := g.stop(control.DownRequest{Force: true}); err != nil {
		t.Error(err)
	}
	<-downed
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// answers is an HTTP server in memory, by path.
func answers(t *testing.T, byPath map[string]func(http.ResponseWriter, *http.Request)) func(context.Context) (net.Conn, error) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "m"))
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	for path, f := range byPath {
		mux.HandleFunc(path, f)
	}
	s := &http.Server{Handler: mux}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	t.Cleanup(func() { s.Close(); <-done })
	return func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", l.Addr().String())
	}
}

func TestModelCheck(t *testing.T) {
	say := func(code int, body string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code); io.WriteString(w, body) }
	}
	needsToken := func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer right" {
			w.WriteHeader(401)
		}
	}
	type paths = map[string]func(http.ResponseWriter, *http.Request)
	for _, test := range []struct {
		name  string
		paths paths
		token string
		want  string // of the error; empty: fine
		names string
	}{
		{"healthy", paths{"/health": say(200, ""), "/v1/models": say(200, `{"data":[{"id":"a"},{"id":"b\u001b[2J"}]}`)}, "", "", `a b\x1b[2J`},
		{"silent about its models", paths{"/health": say(200, "")}, "", "", ""},
		{"nonsense for models", paths{"/health": say(200, ""), "/v1/models": say(200, "{")}, "", "", ""},
		{"no /health", paths{"/v1/models": say(200, `{"data":[{"id":"a"}]}`)}, "", "", "a"},
		{"no model server", paths{}, "", "it answered 404 Not Found to /v1/models", ""},
		{"loading", paths{"/health": say(503, ""), "/v1/models": say(200, "")}, "", "it answered 503 Service Unavailable to /health", ""},
		{"elsewhere", paths{"/health": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/other", http.StatusFound) }, "/other": say(200, "")}, "", "it answered 302 Found to /health", ""},
		{"wrong token", paths{"/health": say(200, ""), "/v1/models": needsToken}, "wrong", "it answered 401 Unauthorized to /v1/models; is models.token right?", ""},
		{"right token", paths{"/health": say(200, ""), "/v1/models": needsToken}, "right", "", ""},
	} {
		check := askPlace(t.Context(), newAsker(test.token, answers(t, test.paths)))
		if check.Error != test.want || check.OK != (test.want == "") || strings.Join(check.Models, " ") != test.names {
			t.Errorf("%s: %+v", test.name, check)
		}
	}
	down := askPlace(t.Context(), newAsker("", func(context.Context) (net.Conn, error) { return nil, errors.New("the way is closed") }))
	if down.OK || down.Error != "the way is closed" {
		t.Errorf("down: %+v", down)
	}
}

func TestHostsAreKeptWithoutSecrets(t *testing.T) {
	defer goleak.VerifyNone(t)
	path := filepath.Join(t.TempDir(), "hosts.json")
	h := newHosts(path, quiet)
	host := tunnel.Host{Name: "strix", Addr: "127.0.0.1", Port: 1, User: "me", AgentSocket: "/none"}
	if err := h.set(host); err != nil {
		t.Fatal(err)
	}
	first := h.byName["strix"].client
	if err := h.set(host); err != nil || h.byName["strix"].client != first {
		t.Errorf("the same host again made another connection: %v", err)
	}
	if err := h.set(tunnel.Host{}); err == nil {
		t.Error("a host without a name was taken")
	}
	if _, err := h.dial(t.Context(), "other", "tcp", "x:1"); err == nil || !strings.Contains(err.Error(), "hint: ") {
		t.Errorf("a host that nobody handed over: %v", err)
	}
	host.Keys = []tunnel.Key{{Path: "/home/me/.ssh/id", PEM: []byte("TOP SECRET")}}
	if err := h.set(host); err == nil {
		t.Error("a key that is none was taken")
	}
	h.byName["strix"].host.Keys = host.Keys
	if err := h.save(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if info, _ := os.Stat(path); err != nil || strings.Contains(string(data), "SECRET") || strings.Contains(string(data), "pem") || info.Mode().Perm() != 0o600 {
		t.Errorf("kept %s, %v", data, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.run(ended); err != nil {
		t.Fatal(err)
	}
	if len(h.byName["strix"].host.Keys[0].PEM) == 0 {
		t.Error("what was handed over was undone by what is on disk")
	}
	if err := h.set(tunnel.Host{Name: "late", Addr: "127.0.0.1", Port: 1, User: "me"}); err == nil {
		t.Error("a connection began after the end")
	}
	if list := newHosts(path, quiet).load(); len(list) != 1 || list[0].Name != "strix" {
		t.Errorf("read back %v", list)
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if list := newHosts(path, quiet).load(); list != nil {
		t.Errorf("a damaged file gave %v", list)
	}
}

func TestOwnAddressesAreNeverDialled(t *testing.T) {
	g := &gateway{}
	file := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, _, err := (&gateway{process: process{lookupenv: func(string) (string, bool) { return "", false }}, configFile: file}).readConfig()
	if err != nil {
		t.Fatal(err)
	}
	g.config = cfg
	own, err := g.ownPrefixes()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []string{"127.0.0.1", "10.213.7.7"} {
		if !containsAddr(own, netip.MustParseAddr(a)) {
			t.Errorf("%s is not among our own", a)
		}
	}
	if _, err := g.dialAllowed(t.Context(), "127.0.0.1", 1); err == nil || strings.Contains(err.Error(), "connection refused") {
		t.Errorf("loopback: %v", err)
	}
}

func containsAddr(list []netip.Prefix, a netip.Addr) bool {
	for _, p := range list {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

func TestLock(t *testing.T) {
	dir := t.TempDir()
	unlock, err := lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	var exit *exitError
	if _, err := lock(dir); !errors.As(err, &exit) || exit.code != exitRunning {
		t.Errorf("a second one: %v", err)
	}
	unlock()
	if unlock, err = lock(dir); err != nil {
		t.Errorf("after the first: %v", err)
	}
	unlock()
	if err := errors.Join(os.Remove(dir+"/gateway.lock"), os.Symlink("/dev/null", dir+"/gateway.lock")); err != nil {
		t.Fatal(err)
	}
	if _, err := lock(dir); err == nil {
		t.Error("a symbolic link was followed")
	}
}

func TestSecretFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	first, err := secretFile(path)
	if err != nil || len(first) < 32 {
		t.Fatalf("%q, %v", first, err)
	}
	if again, err := secretFile(path); err != nil || again != first {
		t.Errorf("%q, %v", again, err)
	}
	if err := os.WriteFile(path, []byte("cut"), 0o600); err != nil {
		t.Fatal(err)
	}
	if fresh, err := secretFile(path); err != nil || fresh == first || len(fresh) < 32 {
		t.Errorf("after a crash: %q, %v", fresh, err)
	}
}
