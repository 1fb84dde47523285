package names

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/dnsblock"
	"github.com/sallyport/sallyport/proxy"
	"github.com/sallyport/sallyport/verify"
	"github.com/sallyport/sallyport/verify/forward/open"
	"github.com/sallyport/sallyport/verify/probe"
)

// gateway is the real sinkhole and the real intercept, with a real record, as one
// sandbox has them.
type gateway struct {
	t      *testing.T
	store  *audit.Store
	path   string
	target probe.Target
	ctx    context.Context
	wait   sync.WaitGroup
}

func newGateway(t *testing.T) *gateway {
	t.Helper()
	g := &gateway{t: t, path: filepath.Join(t.TempDir(), "audit.db")}
	var err error
	if g.store, err = audit.Open(g.path, audit.Options{}); err != nil {
		t.Fatal(err)
	}
	four, six, err := open.Somewhere(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	g.target = probe.Target{
		Setting: probe.Sandbox, Run: "0badcafe", Public4: four, Public6: six,
		Resolver: netip.MustParseAddrPort("198.51.100.1:53"), Rebinds: []string{"rebind.example"},
	}
	for _, addr := range []string{"198.51.100.1", "198.51.100.101", "198.51.100.102", "198.51.100.103"} {
		if err := open.Address(t.Context(), netip.MustParseAddr(addr)); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	g.ctx = ctx
	t.Cleanup(func() {
		cancel()
		g.wait.Wait()
		if err := g.store.Close(); err != nil {
			t.Error(err)
		}
	})
	g.serve()
	return g
}

func (g *gateway) serve() {
	log := slog.New(slog.DiscardHandler)
	record := func(e audit.Event) error { _, err := g.store.Append(e); return err }
	sinkhole := &dnsblock.Server{Record: record, Log: log}
	intercept := &proxy.Intercept{Record: record, Log: log}
	g.listen(":53", sinkhole.Serve)
	for _, addr := range []netip.Addr{g.target.Public4, g.target.Public6} {
		for _, port := range []uint16{443, 853} {
			g.listen(netip.AddrPortFrom(addr, port).String(), intercept.Serve)
		}
	}
	u, err := wallSocket(":53")
	if err != nil {
		g.t.Fatal(err)
	}
	g.run(func() error { return sinkhole.ServeUDP(g.ctx, u) })
}

func (g *gateway) listen(addr string, serve func(context.Context, net.Listener) error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		g.t.Fatal(err)
	}
	g.run(func() error { return serve(g.ctx, l) })
}

func (g *gateway) run(serve func() error) {
	g.wait.Go(func() {
		if err := serve(); err != nil {
			g.t.Error(err)
		}
	})
}

// wallSocket is set up as the wall does it: it tells which server was asked.
func wallSocket(address string) (*net.UDPConn, error) {
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var failed error
		err := raw.Control(func(fd uintptr) {
			for _, o := range [][2]int{{unix.SOL_IP, unix.IP_TRANSPARENT}, {unix.SOL_IP, unix.IP_RECVORIGDSTADDR},
				{unix.SOL_IPV6, unix.IPV6_TRANSPARENT}, {unix.SOL_IPV6, unix.IPV6_RECVORIGDSTADDR}} {
				if failed == nil {
					failed = os.NewSyscallError("setsockopt", unix.SetsockoptInt(int(fd), o[0], o[1], 1))
				}
			}
		})
		if err != nil {
			return err
		}
		return failed
	}}
	c, err := config.ListenPacket(context.Background(), "udp", address)
	if err != nil {
		return nil, err
	}
	return c.(*net.UDPConn), nil
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

// patiently are the probes, with time enough for a thousand names on a busy machine.
func patiently() []probe.Probe {
	list := Probes()
	for i, p := range list {
		if p.Name == bulk.probe().Name {
			list[i] = many{names: bulk.names, beside: bulk.beside, limit: 5 * time.Minute}.probe()
		}
	}
	return list
}

// TestTheSinkholeRefusesAndRecords makes every attempt against the real servers: each
// is refused, and the record has what the probe says it must.
func TestTheSinkholeRefusesAndRecords(t *testing.T) {
	if !inNetns(t) {
		return
	}
	g := newGateway(t)
	list := patiently()
	findings := tryAll(t, list, g.target)
	events := g.events()
	for i, p := range list {
		f := findings[i]
		switch {
		case p.Name == "dns-docker-resolver": // here it reaches the sinkhole's socket, which is at every address
			continue
		case f.Outcome != verify.Blocked || len(f.Events) == 0:
			t.Errorf("%s: %s %s", p.Name, f.Outcome, f.Detail)
		}
		missing := 0
		for _, want := range f.Events {
			if !held(want, events) {
				if missing++; missing < 4 {
					t.Errorf("%s: not in the record: %+v", p.Name, want)
				}
			}
		}
		if p.Name == bulk.probe().Name && len(f.Events) != bulk.names {
			t.Errorf("%s wants %d events of %d names", p.Name, len(f.Events), bulk.names)
		}
	}
	for _, e := range events {
		if !e.Denied() {
			t.Errorf("answered: %+v", e)
		}
	}
}

// held says whether the record holds a refusal as wanted.
func held(want probe.Event, events []audit.Event) bool {
	for _, e := range events {
		if e.Denied() && e.Layer == want.Layer && e.Proto == want.Proto && e.Dst == want.Dst && (want.Host == "" || strings.EqualFold(want.Host, e.Host)) {
			return true
		}
	}
	return false
}
