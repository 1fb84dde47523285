package forward

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/dial"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/proxy"
	"github.com/sallyport/sallyport/verify"
	"github.com/sallyport/sallyport/verify/forward/open"
	"github.com/sallyport/sallyport/verify/probe"
)

const rebound = "rebind-0badcafe.example"

// gateway is the real proxy and the real intercept, with a real record, as one sandbox
// has them. Nothing is allowed but a name that leads to a private address.
type gateway struct {
	t      *testing.T
	store  *audit.Store
	path   string
	target probe.Target
}

func newGateway(t *testing.T) *gateway {
	t.Helper()
	g := &gateway{t: t, path: filepath.Join(t.TempDir(), "audit.db")}
	store, err := audit.Open(g.path, audit.Options{})
	if err != nil {
		t.Fatal(err)
	}
	g.store = store
	four, six, err := open.Somewhere(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	g.target = probe.Target{Setting: probe.Sandbox, Run: "0badcafe"}
	aimed(&g.target)
	g.target.Public4, g.target.Public6, g.target.Rebinds = four, six, []string{rebound}
	g.serve()
	return g
}

func (g *gateway) serve() {
	rules, err := policy.New([]policy.Rule{{Host: rebound, Ports: []uint16{80, 443}}})
	if err != nil {
		g.t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	record := func(e audit.Event) error { _, err := g.store.Append(e); return err }
	leads := &dial.Dialer{
		Resolve: func(context.Context, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("127.0.0.1")}, nil
		},
		Connect: func(_ context.Context, to netip.AddrPort) (net.Conn, error) {
			g.t.Errorf("connected to %s", to)
			return nil, net.ErrClosed
		},
	}
	forward := &proxy.Forward{Policy: func() *policy.Policy { return rules }, Dial: leads.Dial, Record: record, Log: log}
	intercept := &proxy.Intercept{Record: record, Log: log}
	ctx, cancel := context.WithCancel(context.Background())
	var wait sync.WaitGroup
	serve := func(addr netip.AddrPort, serve func(context.Context, net.Listener) error) netip.AddrPort {
		l, err := net.Listen("tcp", addr.String())
		if err != nil {
			g.t.Fatal(err)
		}
		wait.Go(func() {
			if err := serve(ctx, l); err != nil {
				g.t.Error(err)
			}
		})
		return l.Addr().(*net.TCPAddr).AddrPort()
	}
	g.target.Proxy = serve(netip.MustParseAddrPort("127.0.0.1:0"), forward.Serve)
	for _, port := range []uint16{80, 443, 8443} {
		serve(netip.AddrPortFrom(g.target.Public4, port), intercept.Serve)
	}
	serve(netip.AddrPortFrom(g.target.Public6, 443), intercept.Serve)
	g.t.Cleanup(func() {
		cancel()
		wait.Wait()
		if err := g.store.Close(); err != nil {
			g.t.Error(err)
		}
	})
}

func (g *gateway) events() []audit.Event {
	g.t.Helper()
	r, err := audit.OpenReader(g.path)
	if err != nil {
		g.t.Fatal(err)
	}
	defer r.Close()
	var events []audit.Event
	err = r.Events(g.t.Context(), audit.Filter{}, audit.Page{}, func(e audit.Event) error {
		events = append(events, e)
		return nil
	})
	if err != nil {
		g.t.Fatal(err)
	}
	return events
}

// TestTheProxyRefusesAndRecords makes every attempt against the real servers: each is
// refused, and the record has what the probe says it must.
func TestTheProxyRefusesAndRecords(t *testing.T) {
	if !inNetns(t) {
		return
	}
	g := newGateway(t)
	findings := tryAll(t, Probes(), g.target)
	events := g.events()
	for i, p := range Probes() {
		f := findings[i]
		if f.Outcome != verify.Blocked || len(f.Events) == 0 {
			t.Errorf("%s: %s %s", p.Name, f.Outcome, f.Detail)
		}
		for _, want := range f.Events {
			if !held(want, events) {
				t.Errorf("%s: not in the record: %+v", p.Name, want)
			}
		}
	}
	for _, e := range events {
		if !e.Denied() {
			t.Errorf("let through: %+v", e)
		}
	}
}

// tryAll makes every attempt, eight at a time.
func tryAll(t *testing.T, list []probe.Probe, target probe.Target) []probe.Finding {
	findings := make([]probe.Finding, len(list))
	slots := make(chan struct{}, 8)
	var wait sync.WaitGroup
	for i, p := range list {
		slots <- struct{}{}
		wait.Go(func() {
			findings[i] = p.Try(t.Context(), target)
			<-slots
		})
	}
	wait.Wait()
	return findings
}

// held says whether the record holds a refusal as wanted.
func held(want probe.Event, events []audit.Event) bool {
	for _, e := range events {
		if e.Denied() && e.Layer == want.Layer && e.Proto == want.Proto && e.Dst == want.Dst &&
			(want.Host == "" || strings.EqualFold(strings.TrimSuffix(want.Host, "."), e.Host)) &&
			(want.Method == "" || want.Method == e.Method) && (want.Path == "" || want.Path == e.Path) && strings.Contains(e.Reason, want.Reason) {
			return true
		}
	}
	return false
}
