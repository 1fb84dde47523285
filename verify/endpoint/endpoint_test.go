package endpoint

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sallyport/sallyport/agents"
	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/proxy"
	"github.com/sallyport/sallyport/verify"
	"github.com/sallyport/sallyport/verify/probe"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testRun = "0123abcd"

// aimed is a target of this test's own.
func aimed() probe.Target {
	return probe.Target{Run: testRun, ModelName: "demo", Public4: netip.MustParseAddr("203.0.113.1")}
}

func TestEveryProbeIsWhole(t *testing.T) {
	name := regexp.MustCompile(`^model-[a-z0-9-]+$`)
	seen := map[string]bool{}
	for _, p := range Probes() {
		if !name.MatchString(p.Name) || seen[p.Name] || p.Group != probe.Model || p.Why == "" || p.Source == "" || p.Try == nil || p.Own == nil {
			t.Errorf("not whole: %+v", p)
		}
		seen[p.Name] = true
		if f := p.Try(t.Context(), probe.Target{Run: testRun}); !f.Absent || f.Outcome != verify.Unproven {
			t.Errorf("%s without a target: %+v", p.Name, f)
		}
	}
}

// Each probe sees success where there is nobody to stop it.
func TestProbesReachWhatIsOpen(t *testing.T) {
	for _, p := range Probes() {
		t.Run(p.Name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			target := aimed()
			if err := p.Own(ctx, &target); err != nil {
				t.Fatal(err)
			}
			if f := p.Try(ctx, target); f.Outcome != verify.Reached {
				t.Errorf("%+v", f)
			}
		})
	}
}

// gateway runs the product's own endpoint in front of a Server.
type gateway struct {
	server *Server
	target probe.Target
	store  *audit.Store

	mu     sync.Mutex
	events []audit.Event
	more   chan struct{} // closed when there is another
}

func (g *gateway) record(e audit.Event) error {
	kept, err := g.store.Append(e)
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.events = append(g.events, kept)
	close(g.more)
	g.more = make(chan struct{})
	return nil
}

func newGateway(t *testing.T, change func(*proxy.Model)) *gateway {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "model.sock")
	claude, err := agents.Claude(agents.Options{BaseURL: "http://127.0.0.1:1", Model: "demo", Project: "/src", HomeDir: "/home"})
	if err != nil {
		t.Fatal(err)
	}
	store, err := audit.Open(filepath.Join(t.TempDir(), "audit.db"), audit.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	g := &gateway{server: NewServer(testRun), target: aimed(), store: store, more: make(chan struct{})}
	quiet := slog.New(slog.DiscardHandler)
	model := &proxy.Model{
		Record: g.record, Log: quiet, Endpoints: claude.Endpoints, ModelName: "demo",
		MaxBody: 4 << 20, // the probe that sends too much needs less time
		Dial:    func(ctx context.Context) (net.Conn, error) { return (&net.Dialer{}).DialContext(ctx, "unix", socket) },
	}
	if change != nil {
		change(model)
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	start(t, l, g.server.Serve)
	g.target.Model = start(t, listen(t), model.Serve)
	g.target.OtherModel = start(t, listen(t), (&proxy.Intercept{Record: g.record, Log: quiet}).Serve)
	return g
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// start serves until the test ends.
func start(t *testing.T, l net.Listener, serve func(context.Context, net.Listener) error) netip.AddrPort {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	at, _ := netip.ParseAddrPort(l.Addr().String()) // zero for a unix socket
	return at
}

// recorded says whether there is such an event, and gives a channel that is closed
// when there is one more.
func (g *gateway) recorded(want probe.Event) (bool, chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.ContainsFunc(g.events, func(e audit.Event) bool {
		return e.Denied() != want.Allowed && want.Layer == e.Layer && want.Proto == e.Proto && want.Dst == e.Dst &&
			(want.Host == "" || strings.EqualFold(want.Host, e.Host)) && (want.Method == "" || want.Method == e.Method) &&
			(want.Path == "" || want.Path == e.Path) && (want.Status == 0 || want.Status == e.Status) && strings.Contains(e.Reason, want.Reason)
	}), g.more
}

// Against the product each is blocked, with its events, and nothing arrives at the
// model server. Many run at a time, as they do in a sandbox.
func TestTheModelEndpointStopsThem(t *testing.T) {
	for name, change := range map[string]func(*proxy.Model){
		"connections are kept": nil, "a connection each": func(m *proxy.Model) { m.DialEach = true },
	} {
		t.Run(name, func(t *testing.T) {
			g := newGateway(t, change)
			probes := Probes()
			findings := make([]probe.Finding, len(probes))
			slots := make(chan struct{}, 8)
			var wait sync.WaitGroup
			for i, p := range probes {
				slots <- struct{}{}
				wait.Go(func() {
					findings[i] = p.Try(t.Context(), g.target)
					<-slots
				})
			}
			wait.Wait()
			soon, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			for i, p := range probes {
				if f := findings[i]; f.Outcome != verify.Blocked || len(f.Events) == 0 {
					t.Errorf("%s: %+v", p.Name, f)
				}
				g.mustHave(soon, t, p.Name, findings[i].Events)
			}
			if reached := g.server.Reached(); len(reached) > 0 {
				t.Errorf("arrived at the server: %q", reached)
			}
		})
	}
}

// mustHave waits for the events: that of a request whose client has gone comes later.
func (g *gateway) mustHave(ctx context.Context, t *testing.T, name string, events []probe.Event) {
	t.Helper()
	for _, e := range events {
		for {
			ok, more := g.recorded(e)
			if ok {
				break
			}
			select {
			case <-more:
			case <-ctx.Done():
				t.Errorf("%s: not in the record: %+v", name, e)
				return
			}
		}
	}
}
